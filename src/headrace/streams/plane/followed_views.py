"""The views that a worker folds, as they come and go."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class FollowedViews:
    """Specs, of which ``follow`` tells those of the moment; None: they stay as they are."""

    def __init__(
        self, specs: Sequence[Mapping[str, Any]], follow: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    ) -> None:
        self._follow = follow or (lambda: specs)
        self.specs: list[Mapping[str, Any]] = []
        self.by_topic: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self._take(specs)

    def update(self) -> bool:
        """Ask for those of the moment; whether they are others than before. Raises what ``follow`` raises."""
        found = list(self._follow())
        if found == self.specs:
            return False
        self._take(found)
        return True

    def _take(self, specs: Sequence[Mapping[str, Any]]) -> None:
        self.specs = list(specs)
        self.by_topic.clear()
        for spec in specs:
            self.by_topic[spec["source"]["topic"]].append(spec)
