"""Times in a zone, from the rules of :mod:`headrace.base.zones`: Polars has its own, which are of another year."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from headrace.base.zones import changes, time_zone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

    from numpy.typing import NDArray

_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC, as zoneinfo takes it
_EARLIEST, _LATEST = -62_135_596_800, 4_102_444_800
"""The years 1 and 2100."""
_CYCLE = 146_097 * 86_400
"""The calendar, and every rule of a zone, repeats after 400 years."""
_DAY = 86_400 * _SECOND
_NEVER = np.iinfo(np.int64).max
_STEP = 14 * 86_400
"""No rule changes the offset twice in two weeks."""


def in_zone(micros: NDArray[np.int64], zone: str) -> NDArray[np.int64]:
    """Return what clocks in a zone show at times in UTC: microseconds since 1970-01-01 00:00 on these clocks."""
    later = micros >= _LATEST * _SECOND
    if not later.any():
        return micros + _offsets(micros, *_table(zone))
    turned = np.where(later, (micros - _LATEST * _SECOND) % (_CYCLE * _SECOND) + _LATEST * _SECOND, micros)
    far = _offsets(turned, *_far_table(zone))
    return micros + np.where(later, far, _offsets(micros, *_table(zone)))


def from_zone(local: NDArray[np.int64], zone: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the times in UTC at which clocks in a zone show local times, and whether there is such a time.

    A time that is shown twice is the earlier one. Offsets are below a day, so those of a day before and after count.
    """
    found = np.full(local.shape, _NEVER)
    for around in (-_DAY, 0, _DAY):
        offset = in_zone(local + around, zone) - (local + around)
        shown = in_zone(local - offset, zone) == local
        found = np.where(shown, np.minimum(found, local - offset), found)
    return found, found != _NEVER


def _offsets(micros: NDArray[np.int64], starts: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = offsets[np.maximum(np.searchsorted(starts, micros, side="right") - 1, 0)]
    return found


@lru_cache(maxsize=1024)
def _table(name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The starts of the spans with one offset, up to the year 2100, and the offsets."""
    written = [_EARLIEST, *(each for each in changes(name) if _EARLIEST < each < _LATEST)]
    return _spans(time_zone(name), [*written, *_changes_between(time_zone(name), written[-1], _LATEST)])


@lru_cache(maxsize=64)
def _far_table(name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    end = _LATEST + _CYCLE
    written = [_LATEST, *(each for each in changes(name) if _LATEST < each < end)]
    return _spans(time_zone(name), [*written, *_changes_between(time_zone(name), written[-1], end)])


def _spans(zone: ZoneInfo, starts: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    offsets = [_offset(zone, start) for start in starts]
    return np.array(starts, np.int64) * _SECOND, np.array(offsets, np.int64) * _SECOND


def _changes_between(zone: ZoneInfo, start: int, stop: int) -> Iterator[int]:
    """The seconds at which a rule changes the offset."""
    for low, high in pairwise(range(max(start, 0), stop, _STEP)):
        before, after = _offset(zone, low), _offset(zone, high)
        if before != after:
            yield _first(zone, low, high)


def _first(zone: ZoneInfo, low: int, high: int) -> int:
    """The first second in a span with the offset of its end."""
    after = _offset(zone, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(zone, middle) == after else (middle, high)
    return high


def _offset(zone: ZoneInfo, second: int) -> int:
    """The seconds by which clocks in a zone are ahead of UTC."""
    utc = _EPOCH + timedelta(seconds=max(second, _EARLIEST + 86_400))
    return int((zone.fromutc(utc.replace(tzinfo=zone)).replace(tzinfo=None) - utc).total_seconds())
