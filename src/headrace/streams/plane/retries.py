"""The waits before a new try: each key has its own waits, which double up to a bound, with jitter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")


class Retries(Generic[K]):
    """Keys that wait for their next try.

    The n-th wait of a key since it was last :meth:`settled` is between half and all of ``first_s`` · 2ⁿ⁻¹, at most
    ``most_s``. ``chance`` returns random numbers in [0, 1), so that two workers do not try at the same moments.
    """

    def __init__(
        self, first_s: float, most_s: float, *, monotonic: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        self._first_s, self._most_s = first_s, most_s
        self._monotonic, self._chance = monotonic, chance
        self._due: dict[K, float] = {}
        self._waits: dict[K, float] = {}

    def later(self, key: K) -> None:
        """Let the key wait. If the key waits already, its time does not change."""
        if key in self._due:
            return
        wait = min(self._waits.get(key, self._first_s), self._most_s)
        self._waits[key] = wait * 2
        self._due[key] = self._monotonic() + wait * (1 + self._chance()) / 2

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def has_due(self) -> bool:
        """Return whether the wait of at least one key is over."""
        now = self._monotonic()
        return any(due <= now for due in self._due.values())

    def due(self) -> list[K]:
        """Return the keys whose wait is over. They do not wait any more."""
        now = self._monotonic()
        found = [key for key, due in self._due.items() if due <= now]
        for key in found:
            del self._due[key]
        return found

    def settled(self, key: K) -> None:
        """Note that the last try was a lasting success: the next wait is a first one. A waiting key is not changed."""
        if key not in self._due:
            self._waits.pop(key, None)

    def forget(self, key: K) -> None:
        """Forget the key and its waits."""
        self._due.pop(key, None)
        self._waits.pop(key, None)
