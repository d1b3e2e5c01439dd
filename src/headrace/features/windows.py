"""Windows and their tiles: the calendar-friendly tile size of a window."""

from __future__ import annotations

from headrace.bus.duration import micros, text
from headrace.errors import DefinitionError

MOST_TILES = 60
_FRIENDLY = [micros(size) for size in (
    "1s", "2s", "5s", "10s", "15s", "20s", "30s", "1m", "2m", "5m", "10m", "15m", "20m", "30m",
    "1h", "2h", "3h", "4h", "6h", "8h", "12h", "1d", "2d", "5d", "7d", "10d", "30d",
)]  # fmt: skip


def tile_size(window_us: int) -> int:
    """The tile size of a window in microseconds: the smallest friendly size that divides it into at most 60 tiles."""
    for size in _FRIENDLY:
        if window_us > 0 and window_us % size == 0 and window_us // size <= MOST_TILES:
            return size
    message = (
        f"a window of {text(window_us)} does not divide into at most {MOST_TILES} tiles of a round size "
        f"({', '.join(text(size) for size in _FRIENDLY)}): choose a rounder window"
    )
    raise DefinitionError(message)
