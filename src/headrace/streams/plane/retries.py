"""When to try again what was refused: waits that double to a bound, with jitter, for each key its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")


class Retries(Generic[K]):
    """Keys that wait for their next try.

    The n-th wait of a key since it was last :meth:`settled` is between half and all of ``first_s`` · 2ⁿ⁻¹, at most
    ``most_s``: two workers that fight over a partition do not keep step. ``chance`` gives numbers in [0, 1).
    """

    def __init__(
        self, first_s: float, most_s: float, *, monotonic: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        self._first_s, self._most_s = first_s, most_s
        self._monotonic, self._chance = monotonic, chance
        self._due: dict[K, float] = {}
        self._waits: dict[K, float] = {}

    def later(self, key: K) -> None:
        """Let the key wait; one that waits already keeps its time."""
        if key in self._due:
            return
        wait = min(self._waits.get(key, self._first_s), self._most_s)
        self._waits[key] = wait * 2
        self._due[key] = self._monotonic() + wait * (1 + self._chance()) / 2

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def due(self) -> list[K]:
        """The keys whose time has come; they wait no more."""
        now = self._monotonic()
        found = [key for key, due in self._due.items() if due <= now]
        for key in found:
            del self._due[key]
        return found

    def settled(self, key: K) -> None:
        """It went well and lasts: the next wait is a first one again."""
        if key not in self._due:
            self._waits.pop(key, None)

    def forget(self, key: K) -> None:
        """The key is nobody's business here any more."""
        self._due.pop(key, None)
        self._waits.pop(key, None)
