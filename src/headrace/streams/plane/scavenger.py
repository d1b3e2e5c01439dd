"""Takes out of the online store what no look-up can see any more, by the views' clocks and never by the machine's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.features.definitions.spec import spec_hash, view_name
from headrace.streams.views.view_partition import reach_us

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.online.store import OnlineStore


class Scavenger:
    """Goes round and round the store, a step at a time. Any number of workers may do so at once, owners or not.

    docs/adr/0008-fields-go-by-the-clock.md says why what goes is out of every look-up's range.
    """

    def __init__(self, store: OnlineStore, specs: Sequence[Mapping[str, Any]]) -> None:
        self._store = store
        self._position = 0
        self.follow(specs)

    def follow(self, specs: Sequence[Mapping[str, Any]]) -> None:
        """These are the views from now on."""
        self._reach_us = {view_name(spec, spec_hash(spec)): reach_us(spec) for spec in specs}

    def step(self) -> None:
        """Look at about a thousand keys. Raises OnlineStoreUnavailableError."""
        self._position, _ = self._store.scavenge(self._reach_us, self._position)
