"""The columns of Parquet files: which of them Polars reads whatever is in them, and the values of all others.

Arrow has types and values that Polars or Python do not have: a time in the year 50,000, a decimal of 256 bits, a text
that is no UTF-8. A value that cannot be had becomes a text that says what it is. Then its record is rejected, at the
place of this value, and no import ends.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from headrace.streams.imports.wire_rows import FIRST_YEAR_MS, LAST_YEAR_MS

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS: Any = pa.types
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY_US = 86_400_000_000
_LONGEST_US = 999_999_999 * _DAY_US
_SECONDS = (pa.timestamp("s"), pa.timestamp("s", "UTC"))
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - times without a zone begin here too
_FLAT = (
    _KINDS.is_null, _KINDS.is_boolean, _KINDS.is_integer, _KINDS.is_floating, _KINDS.is_string, _KINDS.is_large_string,
    _KINDS.is_binary, _KINDS.is_large_binary, _KINDS.is_decimal128, _KINDS.is_timestamp, _KINDS.is_date32,
)  # fmt: skip
"""The types that Polars reads, if the values pass the checks of :func:`flat`. Times are checked where they are read."""


def flat(column: pa.Array) -> pa.Array | None:
    """Return a column in a type that Polars reads whatever its values are; None if there is none."""
    column = _simple(column)
    if not any(is_kind(column.type) for is_kind in _FLAT):
        return None
    if _KINDS.is_string(column.type) or _KINDS.is_large_string(column.type):
        return column if _is_valid(column) else None
    if _KINDS.is_date32(column.type):
        return column if _are_near(column.view(pa.int32()), 86_400_000) else None
    if column.type in _SECONDS:  # Polars has them in milliseconds, of which there may be too many
        return column if _are_near(column.view(pa.int64()), 1_000) else None
    return column


def _are_near(numbers: Any, ms: int) -> bool:
    """Return whether times, which are numbers of so many milliseconds, are all times that a datetime holds."""
    bounds = pc.call_function("min_max", [numbers]).as_py()
    return all(value is None or _is_near(value * ms) for value in bounds.values())


def _simple(column: Any) -> Any:
    """Return a column in another type with the same values, if its own is one that Polars does not take."""
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return _simple(column.storage)
    if _KINDS.is_dictionary(kind):
        return _simple(column.dictionary_decode())
    if _KINDS.is_timestamp(kind) and kind.tz is not None:
        return column.view(pa.timestamp(kind.unit, "UTC"))  # the zone says only how to show it
    other = _other_type(kind)
    return column if other is None else column.cast(other, safe=False)


def _other_type(kind: pa.DataType) -> pa.DataType | None:
    if _KINDS.is_decimal32(kind) or _KINDS.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if _KINDS.is_fixed_size_binary(kind) or kind == pa.binary_view():
        return pa.binary()
    return {pa.float16(): pa.float32(), pa.string_view(): pa.string()}.get(kind)


def _is_valid(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def value_of(scalar: Any) -> Any:
    """Return a value of any type: plain objects, lists and dicts of them. A value that Python lacks is a text."""
    if not scalar.is_valid:
        return None
    kind = scalar.type
    if _KINDS.is_dictionary(kind) or isinstance(scalar, (pa.ExtensionScalar, pa.DictionaryScalar)):
        return value_of(scalar.value)
    if _KINDS.is_struct(kind):
        return {each.name: value_of(scalar[place]) for place, each in enumerate(kind)}
    if _KINDS.is_map(kind) or _KINDS.is_nested(kind):
        return [value_of(each) for each in scalar.values]
    for is_kind, read in _READ:
        if is_kind(kind):
            return read(scalar)
    return _other(scalar)


def _time(scalar: Any) -> datetime | str:
    us, kind = _micros(scalar.value, scalar.type.unit), scalar.type
    if not _is_near(us // 1_000):
        return f"{scalar.value} {kind.unit} since 1970"
    found = _EPOCH + timedelta(microseconds=us)
    return found if kind.tz is None else found.replace(tzinfo=UTC)


def _date(scalar: Any) -> date | str:
    days, unit = (scalar.value, "days") if _KINDS.is_date32(scalar.type) else (scalar.value // 86_400_000, "ms")
    if not _is_near(days * 86_400_000):
        return f"{scalar.value} {unit} since 1970"
    return (_EPOCH + timedelta(days=days)).date()


def _duration(scalar: Any) -> timedelta | str:
    us = _micros(scalar.value, scalar.type.unit)
    return timedelta(microseconds=us) if abs(us) < _LONGEST_US else f"{scalar.value} {scalar.type.unit}"


def _time_of_day(scalar: Any) -> time | str:
    us = _micros(scalar.value, scalar.type.unit)
    return (_EPOCH + timedelta(microseconds=us)).time() if 0 <= us < _DAY_US else f"{scalar.value} {scalar.type.unit}"


def _other(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()
    except (ValueError, OverflowError, pa.ArrowException):
        with suppress(Exception):
            return str(scalar)
        return f"a value of the type {scalar.type}"


_READ: list[tuple[Callable[[Any], bool], Callable[[Any], Any]]] = [
    (_KINDS.is_timestamp, _time),
    (_KINDS.is_date, _date),
    (_KINDS.is_duration, _duration),
    (_KINDS.is_time, _time_of_day),
]


def _micros(value: int, unit: str) -> int:
    return value * 1_000_000 // _UNITS[unit]


def _is_near(ms: int) -> bool:
    """Return whether a time is one that a datetime holds, in any zone."""
    return FIRST_YEAR_MS <= ms <= LAST_YEAR_MS
