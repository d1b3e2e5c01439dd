"""Draws what windows cover: a column for each hour of three days, by the kernel that computes values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from headrace.base.times import duration_us, epoch_us
from headrace.features.definitions.windows import window_spec
from headrace.features.kernel.window_tiles import WindowTiles

if TYPE_CHECKING:
    from headrace.features.definitions.windows import Window

FIRST = datetime(2026, 3, 3, tzinfo=UTC)
"""A Tuesday."""
HOURS, NOW = 72, 63.5
ROWS = [3, 4, 9, 24, 25, 27, 30, 45, 46, 58, 59, 61]
"""The hours in which an entity has a row, each 20 minutes after the hour."""
_LABEL = 40
_HOUR_US = duration_us("1h")
DAYS = " " * _LABEL + "".join(f"│{FIRST + timedelta(days=day):%A %-d %B}".ljust(24) for day in range(3))


def rows_line() -> str:
    """The line with the rows, and now."""
    return _line("rows of an entity", ["●" if hour in ROWS else "·" for hour in range(HOURS)])


def drawn(label: str, window: Window) -> str:
    """The line of a window: ▮ in the hours that it covers, or from whose rows to whose rows it has them."""
    spec = window_spec(window)
    tiles, at_us = WindowTiles.from_spec(spec, 0), np.array([epoch_us(FIRST) + int(NOW * _HOUR_US)])
    if spec.is_of_rows:
        hours = _hours_of_rows(tiles, at_us)
    else:
        first, last = (int(k[0]) for k in tiles.span(at_us))
        begin, end = first * tiles.size_us - epoch_us(FIRST), (last + 1) * tiles.size_us - epoch_us(FIRST)
        hours = [hour for hour in range(HOURS) if begin < (hour + 1) * _HOUR_US and hour * _HOUR_US < end]
    return _line(label, ["▮" if hour in hours else "·" for hour in range(HOURS)])


def _hours_of_rows(tiles: WindowTiles, at_us: np.ndarray) -> list[int]:
    times_us = epoch_us(FIRST) + np.array(ROWS) * _HOUR_US + _HOUR_US // 3
    nothing = np.zeros(len(ROWS), np.int64)
    inside = tiles.inside(times_us // tiles.size_us, nothing, nothing, at_us, [times_us, times_us])
    chosen = sorted(ROWS[place] for place in inside.tolist())
    return chosen if tiles.rows or not chosen else list(range(chosen[0], chosen[-1] + 1))


def _line(label: str, hours: list[str]) -> str:
    now = int(NOW)
    return label.ljust(_LABEL) + "".join(hours[: now + 1]) + "│"
