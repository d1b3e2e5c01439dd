"""The tiles of a window: which ones it has at a time t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from msgspec import UNSET

from headrace.features.kernel.calendar_periods import CalendarPeriods
from headrace.features.kernel.chosen_tiles import newest_rows, session_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.definitions.windows import SessionSpec, WindowSpec

_LAST_ROW = 2**61 - 1
"""The latest time of a row."""


@dataclass(frozen=True)
class WindowTiles:
    """A window of a view: its name, its tiles' resolution (index into the sizes), their size and their number.

    ``lag`` is the number of newer tiles that it leaves out. A window of a calendar has ``periods``, which say what it
    has at each t; it never has more than ``tiles``, and ``lag`` is 0. A window of ``rows`` has that many of the newest
    tiles, which are rows, and one of a ``session`` has the tiles of this session.
    """

    name: str
    resolution: int
    size_us: int
    tiles: int
    lag: int
    periods: CalendarPeriods | None = None
    rows: int = 0
    session: SessionSpec | None = None

    @staticmethod
    def from_spec(spec: WindowSpec, resolution: int) -> WindowTiles:
        """The tiles of a window. Raises DefinitionError for a time zone that is not known here."""
        calendar = None if spec.calendar is UNSET else CalendarPeriods(spec.calendar)
        tiles, lag = spec.length_us // spec.tile_us, spec.skipped_us // spec.tile_us
        rows = 0 if spec.newest_rows is UNSET else spec.newest_rows
        session = None if spec.session is UNSET else spec.session
        return WindowTiles(spec.name, resolution, spec.tile_us, tiles, lag, calendar, rows, session)

    @property
    def reach(self) -> int:
        """The largest number of tiles from its oldest one to the newest one of all."""
        return self.tiles + self.lag

    def span(self, at_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and the last k of the window's tiles at each t, before its rows choose among them."""
        newest = np.floor_divide(at_us, self.size_us)
        if self.rows:
            return newest - (self.tiles - 1), np.full(len(newest), _LAST_ROW)
        if self.periods is None:
            return newest - (self.reach - 1), newest - self.lag
        begin_us, end_us = self.periods.bounds(at_us)
        return begin_us // self.size_us, np.minimum(newest, (end_us - 1) // self.size_us)

    def inside(
        self, k: np.ndarray, query: np.ndarray, rank: np.ndarray, at_us: np.ndarray, times_us: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Return the places of the tiles that the window of each query has, by query.

        A tile has its k, its query (ascending), and the rank of its source partition; for a session also the times of
        its first and its last row. ``at_us`` has the t of each query.
        """
        first, last = self.span(at_us)
        inside: np.ndarray = np.flatnonzero((k >= first[query]) & (k <= last[query]))
        if self.rows:
            inside = inside[newest_rows(k[inside], query[inside], rank[inside], self.rows)]
        if self.session is not None:
            first_us, last_us = (times[inside] for times in times_us)
            inside = inside[session_tiles(k[inside], (first_us, last_us), query[inside], at_us, self.session)]
        return inside
