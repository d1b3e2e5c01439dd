"""Clocks: time is always an argument."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], int]
"""Returns the time in microseconds since the epoch."""


def wall_clock() -> int:
    """The machine's clock, the only place that reads it."""
    return time.time_ns() // 1_000


@dataclass
class SettableClock:
    """A clock that stands where it was set: for lockstep replay and tests."""

    now_us: int = 0

    def __call__(self) -> int:
        """Where it stands."""
        return self.now_us
