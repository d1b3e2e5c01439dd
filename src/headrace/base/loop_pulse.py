"""Whether the main loop of a process moves. If it stands, the process is restarted; if it waits for a store, it is not.

A loop that waits for Kafka, Redis or the event log in :class:`~headrace.base.waiting.UntilAvailable` moves: it tries
again each second, and a restart would not help.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STANDS_AFTER_S = 300.0
"""A turn of a loop that takes longer is taken for one that never ends. One attempt of an object store that does not
answer takes three minutes."""


class LoopPulse:
    r"""The time of the last turn of a loop. Safe from any thread.

    >>> seconds = iter([0.0, 10.0, 300.0, 310.5])
    >>> pulse = LoopPulse(lambda: next(seconds))
    >>> pulse.moved()
    >>> pulse.problem(), pulse.problem()
    ('', 'the loop has not moved for 300 s\n')
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._moved_s = monotonic()

    def moved(self) -> None:
        """Called at each turn of the loop, and at each attempt of a turn that waits for a store."""
        self._moved_s = self._monotonic()

    def problem(self) -> str:
        """Return a line that says how long the loop stands; empty if it moves."""
        for_s = self._monotonic() - self._moved_s
        return f"the loop has not moved for {int(for_s)} s\n" if for_s > STANDS_AFTER_S else ""
