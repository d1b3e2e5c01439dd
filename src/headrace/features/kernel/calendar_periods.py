"""Days, weeks and months of a time zone as spans of microseconds, at many times at once."""

from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from headrace.base.times import duration_us, epoch_us
from headrace.base.zones import time_zone

if TYPE_CHECKING:
    from headrace.features.definitions.windows import CalendarSpec

_DAY_US = duration_us("1d")
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = date(3, 1, 1).toordinal() - _EPOCH_DAY, date(9997, 1, 1).toordinal() - _EPOCH_DAY
"""Times outside are as these days: a datetime cannot hold what is around them."""


class CalendarPeriods:
    """The periods of a calendar window: at t, the one that contains t, or the one that many periods before it.

    A period begins with the first instant of its first local date. Raises DefinitionError for an unknown zone.
    """

    def __init__(self, spec: CalendarSpec) -> None:
        self._period, self._zone, self._ago = spec.period, spec.zone, spec.ago
        time_zone(spec.zone)  # its own check

    def bounds(self, at_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the begin and the end of the period at each t, in microseconds."""
        days, place = np.unique(self._local_days(at_us), return_inverse=True)
        spans = [_bounds(self._period, self._zone, self._ago, day) for day in days.tolist()]
        begins, ends = np.array(spans, np.int64).reshape(-1, 2).T
        return begins[place], ends[place]

    def _local_days(self, at_us: np.ndarray) -> np.ndarray:
        """Return the local date of each t, in days since 1970-01-01: the UTC date, or the one before or after it."""
        days, place = np.unique(np.clip(np.floor_divide(at_us, _DAY_US), _FIRST_DAY, _LAST_DAY), return_inverse=True)
        own = np.array([_begin(self._zone, day) for day in days.tolist()], np.int64)[place]
        after = np.array([_begin(self._zone, day + 1) for day in days.tolist()], np.int64)[place]
        found: np.ndarray = days[place] - 1 + (at_us >= own) + (at_us >= after)
        return found


@lru_cache(maxsize=100_000)
def _begin(zone: str, day: int) -> int:
    """Return the first instant of a local date.

    Where clocks skip midnight it is the moment of the skip: Python takes the offset before it.
    """
    local = date.fromordinal(day + _EPOCH_DAY)
    return epoch_us(datetime(local.year, local.month, local.day, tzinfo=time_zone(zone)))


@lru_cache(maxsize=100_000)
def _bounds(period: str, zone: str, ago: int, day: int) -> tuple[int, int]:
    """Return the span of the period that is ``ago`` periods before the one of a local date."""
    if period == "day":
        first, after = day - ago, day - ago + 1
    elif period == "week":  # from Monday on; 1970-01-01 was a Thursday
        first = day - (day + 3) % 7 - 7 * ago
        after = first + 7
    else:
        local = date.fromordinal(day + _EPOCH_DAY)
        month = local.year * 12 + local.month - 1 - ago
        first, after = _month(month), _month(month + 1)
    return _begin(zone, first), _begin(zone, after)


def _month(number: int) -> int:
    """Return the first date of a month, counted from the year 0."""
    return date(number // 12, number % 12 + 1, 1).toordinal() - _EPOCH_DAY
