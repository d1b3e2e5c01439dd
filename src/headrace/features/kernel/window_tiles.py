"""The tiles of a window: which ones it has at a time t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from msgspec import UNSET

from headrace.features.kernel.calendar_periods import CalendarPeriods

if TYPE_CHECKING:
    from headrace.features.definitions.windows import WindowSpec


@dataclass(frozen=True)
class WindowTiles:
    """A window of a view: its name, its tiles' resolution (index into the sizes), their size and their number.

    ``lag`` is the number of newer tiles that it leaves out. A window of a calendar has ``periods``, which say what it
    has at each t; it never has more than ``tiles``, and ``lag`` is 0.
    """

    name: str
    resolution: int
    size_us: int
    tiles: int
    lag: int
    periods: CalendarPeriods | None = None

    @staticmethod
    def from_spec(spec: WindowSpec, resolution: int) -> WindowTiles:
        """The tiles of a window. Raises DefinitionError for a time zone that is not known here."""
        calendar = None if spec.calendar is UNSET else CalendarPeriods(spec.calendar)
        tiles, lag = spec.length_us // spec.tile_us, spec.skipped_us // spec.tile_us
        return WindowTiles(spec.name, resolution, spec.tile_us, tiles, lag, calendar)

    @property
    def reach(self) -> int:
        """The largest number of tiles from its oldest one to the newest one of all."""
        return self.tiles + self.lag

    def span(self, at_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and the last k of the window's tiles at each t."""
        newest = np.floor_divide(at_us, self.size_us)
        if self.periods is None:
            return newest - (self.reach - 1), newest - self.lag
        begin_us, end_us = self.periods.bounds(at_us)
        return begin_us // self.size_us, np.minimum(newest, (end_us - 1) // self.size_us)
