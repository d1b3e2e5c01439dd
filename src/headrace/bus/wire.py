"""How the times of an event are written in its records, where they are not RFC 3339 text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from headrace.base.redaction import shortened
from headrace.base.times import epoch_us, utc_datetime
from headrace.base.zones import time_zone
from headrace.errors import CodecError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

EpochUnit = Literal["s", "ms", "us", "ns"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MICROS = 1_000_000
_YEAR_S = 31_556_952
_LONGEST = 60
"""Characters of a number or a text in an error."""
_PER_SECOND: dict[str, int] = {"s": 1, "ms": 1_000, "us": _MICROS, "ns": 1_000 * _MICROS}


@dataclass(frozen=True)
class Epoch:
    """A time that is written as a number: the ``unit`` says whether it is seconds since 1970, or ms, us, ns.

    A number may have a fraction. What is smaller than a microsecond is cut.

    >>> from datetime import datetime
    >>> from typing import Annotated
    >>> from headrace import Epoch, Event
    >>> class Payment(Event):
    ...     amount: float
    ...     paid_at: Annotated[datetime, Epoch("ms")]
    >>> Epoch("ms").read(1_700_000_000_000)
    datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc)
    """

    unit: EpochUnit

    def __post_init__(self) -> None:
        if self.unit not in _PER_SECOND:
            raise DefinitionError(f"Epoch({self.unit!r}): give 's', 'ms', 'us' or 'ns'")

    @property
    def written(self) -> Any:
        """The type of it in JSON."""
        return int | float

    @property
    def spec(self) -> str:
        """The text of it in a stream's spec."""
        return f"epoch:{self.unit}"

    @cached_property
    def _bounds(self) -> tuple[int, int]:
        return self.write(_FIRST), self.write(_LAST)

    def fits(self, values: Sequence[float]) -> bool:
        """Return whether each number is a time that the calendar has."""
        if not values:
            return True
        first, last = self._bounds
        # The sum of numbers within the bounds is finite, unless one of them is NaN, which min and max may pass over.
        return min(values) >= first and max(values) <= last and not math.isnan(sum(values))

    def problem(self, value: float) -> str:
        """Return what is wrong with a number that does not fit."""
        if type(value) is float and not math.isfinite(value):
            return f"{value} is no time"
        year = _PER_SECOND[self.unit] * _YEAR_S
        years = (abs(int(value)) + year // 2) // year  # a whole number may be too large for a double
        said, far = shortened(str(value), _LONGEST), shortened(f"{years:,}", _LONGEST)
        return f"{said} {self.unit} is {far} years from 1970: is it in another unit than {self!r}?"

    def is_after_1970(self, values: Sequence[float]) -> bool:
        """Return whether no time lies in 1970 or before. A number in a larger unit does, for a thousand years."""
        return not values or min(values) >= 365 * 86_400 * _PER_SECOND[self.unit]

    def micros(self, values: Sequence[float]) -> np.ndarray:
        """Return the int64 microseconds since 1970 of numbers that fit."""
        if any(type(value) is float for value in values):
            return np.array([epoch_us(self.read(value)) for value in values], np.int64)
        per_second = _PER_SECOND[self.unit]
        if per_second <= _MICROS:
            return np.array(values, np.int64) * (_MICROS // per_second)
        per_micro = per_second // _MICROS
        return np.array([value // per_micro for value in values], np.int64)  # nanoseconds pass 64 bits in 2262

    def read(self, value: float) -> datetime:
        """Return the time. Raises CodecError for a number that does not fit."""
        if not self.fits([value]):
            raise CodecError(self.problem(value))
        per_second = _PER_SECOND[self.unit]
        if isinstance(value, int):
            return utc_datetime(value * _MICROS // per_second)
        return _EPOCH + timedelta(seconds=value / per_second)

    def write(self, moment: datetime) -> int:
        """Return the number. What is smaller than the unit is cut."""
        return epoch_us(moment) * _PER_SECOND[self.unit] // _MICROS


@dataclass(frozen=True)
class TimeText:
    """A time that is written as text in a ``form`` of ``strptime``. Without an offset in it, it is a time of ``zone``.

    >>> from headrace import TimeText
    >>> TimeText("%d.%m.%Y %H:%M", zone="Europe/Berlin").read("14.11.2023 23:13").isoformat()
    '2023-11-14T22:13:00+00:00'
    """

    form: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        _ = self._zone  # its own check
        try:
            again = self.read(self.write(_EPOCH))
        except (CodecError, ValueError) as error:
            raise DefinitionError(f"TimeText({self.form!r}) cannot read what it writes: {error}") from error
        if again.date() != _EPOCH.date():
            raise DefinitionError(f"TimeText({self.form!r}) has no day, month and year")

    @cached_property
    def _zone(self) -> ZoneInfo:
        try:
            return time_zone(self.zone)
        except DefinitionError as error:
            raise DefinitionError(f"TimeText: {self.zone!r} is no time zone, such as 'Europe/Berlin'") from error

    @property
    def written(self) -> Any:
        """The type of it in JSON."""
        return str

    @property
    def spec(self) -> str:
        """The text of it in a stream's spec."""
        return f"text:{self.zone}:{self.form}"

    def fits(self, values: Sequence[str]) -> bool:
        """Return whether each text is a time in this form."""
        try:
            list(map(self.read, values))
        except CodecError:
            return False
        return True

    def problem(self, value: str) -> str:
        """Return what is wrong with a text that does not fit."""
        return f"{value!r} is no time in the form {self.form!r}"

    def micros(self, values: Sequence[str]) -> np.ndarray:
        """Return the int64 microseconds since 1970 of texts that fit."""
        return np.array([epoch_us(self.read(value)) for value in values], np.int64)

    def read(self, value: str) -> datetime:
        """Return the time. Raises CodecError for a text that does not fit."""
        try:
            found = datetime.strptime(value, self.form)  # noqa: DTZ007 - the zone follows
            return (found if found.tzinfo else found.replace(tzinfo=self._zone)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise CodecError(self.problem(value)) from error

    def write(self, moment: datetime) -> str:
        """Return the text."""
        return moment.astimezone(self._zone).strftime(self.form)


TimeForm = Epoch | TimeText


def time_form(hint: Any) -> TimeForm | None:
    """Return the form of a time in a type such as ``Annotated[datetime, Epoch("ms")] | None``."""
    found: TimeForm | None = annotation(hint, (Epoch, TimeText))
    return found


def annotation(hint: Any, kind: type | tuple[type, ...]) -> Any:
    """Return what a type such as ``Annotated[…] | None`` is annotated with, of this kind; None without one."""
    found = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, kind)]
    if found:
        return found[0]
    arms = (annotation(arm, kind) for arm in get_args(hint) if not isinstance(arm, kind))
    return next((each for each in arms if each is not None), None)


def plain(hint: Any) -> Any:
    """Return the type itself of ``Annotated[…]``."""
    return get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
