"""Clocks, durations and instants. Inside headrace a time is an int64 of microseconds, and is always an argument."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from headrace.errors import DefinitionError

Duration = str | timedelta
SECOND = 1_000_000
Instant = Annotated[int, msgspec.Meta(ge=-62_135_596_800_000_000, le=253_402_300_799_999_999)]
"""Microseconds since the epoch in a message: from the year 1 to the year 9999, so that a datetime can hold it."""
_UNITS = {"ms": 1_000, "s": SECOND, "m": 60 * SECOND, "h": 3_600 * SECOND, "d": 86_400 * SECOND}
_FORM = re.compile(r"([0-9]{1,18})(ms|s|m|h|d)")
_LONGEST_DAYS = 3_650_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def duration_us(duration: Duration) -> int:
    """Return the microseconds of ``"90s"``, ``"5m"``, ``"1h"``, ``"7d"``, ``"250ms"`` or a timedelta.

    Raises DefinitionError for any other text.
    """
    if isinstance(duration, timedelta):
        return duration // timedelta(microseconds=1)
    match = _FORM.fullmatch(str(duration))  # a bare number has no unit: it is refused like any other text
    if match is None:
        message = (
            f"{duration!r} is not a duration: write a whole number and a unit (ms, s, m, h, d), such as '90s' or '7d'"
        )
        raise DefinitionError(message)
    return int(match[1]) * _UNITS[match[2]]


def bounded_us(duration: Duration) -> int:
    """Return the microseconds of a duration that a stream or a view can have.

    Raises DefinitionError for one below 0 or of more than 10,000 years: times and the sums of them are 64 bits.
    """
    found = duration_us(duration)
    if not 0 <= found <= _LONGEST_DAYS * _UNITS["d"]:
        message = f"{duration!r} is too short or too long: write a duration from 0s to {_LONGEST_DAYS}d (10,000 years)"
        raise DefinitionError(message)
    return found


def format_duration(us: int) -> str:
    """Return the shortest text of a duration: 5_400_000_000 is ``"90m"``."""
    for unit in ("d", "h", "m", "s", "ms"):
        if us and us % _UNITS[unit] == 0:
            return f"{us // _UNITS[unit]}{unit}"
    return f"{us // 1_000}ms"


def epoch_us(at: datetime) -> int:
    """Return the microseconds from the epoch to a time with zone, exactly: no float is used."""
    return (at - _EPOCH) // timedelta(microseconds=1)


_FIRST_US, _LAST_US = epoch_us(datetime.min.replace(tzinfo=UTC)), epoch_us(datetime.max.replace(tzinfo=UTC))


def utc_datetime(us: int) -> datetime:
    """Return the UTC datetime of an instant in microseconds.

    A wrong record timestamp may lie beyond the years that a datetime can hold: then it is the first or the last one.
    """
    return _EPOCH + timedelta(microseconds=min(max(us, _FIRST_US), _LAST_US))


def said_minute(us: int) -> str:
    """Return an instant in microseconds as people write it, to the minute.

    >>> said_minute(1_700_000_000_000_000)
    '2023-11-14 22:13 UTC'
    """
    return f"{utc_datetime(us):%Y-%m-%d %H:%M} UTC"


Clock = Callable[[], int]
"""Returns the time in microseconds since the epoch."""


def wall_clock() -> int:
    """Return the time of the machine's clock. No other code reads it."""
    return time.time_ns() // 1_000


@dataclass
class SettableClock:
    """A clock that shows the time to which it was set: for lockstep replay and tests.

    >>> from datetime import UTC, datetime, timedelta
    >>> from headrace.testing import SettableClock
    >>> clock = SettableClock(datetime(2013, 1, 1, tzinfo=UTC))
    >>> clock.now += timedelta(hours=1)
    >>> clock()  # microseconds since the epoch, as every clock
    1357002000000000
    """

    now: datetime = _EPOCH

    def __call__(self) -> int:
        """Return the time to which it was set, in microseconds since the epoch."""
        return epoch_us(self.now)
