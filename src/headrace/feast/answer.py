"""Feast's answer to a look-up, written directly as protobuf bytes.

The cells of Feast's own Redis layout are such bytes already: they are passed on without being parsed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.base.times import epoch_us
from headrace.features.definitions.expression_kinds import as_list

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_VECTOR = GetOnlineFeaturesResponse.FeatureVector
_VARINT, _FIXED64, _MESSAGE = 0, 1, 2
_SEVEN_BITS, _UNSIGNED = 0x7F, 2**64 - 1
MILLION = 1_000_000

PRESENT: int = FieldStatus.PRESENT
NULL_VALUE: int = FieldStatus.NULL_VALUE
NOT_FOUND: int = FieldStatus.NOT_FOUND
OUTSIDE_MAX_AGE: int = FieldStatus.OUTSIDE_MAX_AGE


@dataclass(frozen=True)
class FilledView:
    """The answer of one view: a Timestamp for each row and, for each feature, a Value and a status for each row."""

    times: Sequence[bytes]
    values: Sequence[Sequence[bytes]]
    statuses: Sequence[bytes]


def fill(response: Any, names: Sequence[str], filled: FilledView) -> None:
    """Append the columns of a view to a GetOnlineFeaturesResponse."""
    times = _repeated(_VECTOR.EVENT_TIMESTAMPS_FIELD_NUMBER, filled.times)
    vectors = [
        _repeated(_VECTOR.VALUES_FIELD_NUMBER, values) + _repeated(_VECTOR.STATUSES_FIELD_NUMBER, [statuses]) + times
        for values, statuses in zip(filled.values, filled.statuses, strict=True)
    ]
    response.metadata.feature_names.val.extend(names)
    response.MergeFromString(_repeated(GetOnlineFeaturesResponse.RESULTS_FIELD_NUMBER, vectors))


def cells(values: Sequence[Any], present: Sequence[bool], kind: str) -> list[bytes]:
    """Return the Values of a column of a tiled view. A missing value is an empty Value."""
    kind = as_list(kind)
    encode = _ENCODE[kind] if kind in _ENCODE else partial(_of_list, kind)
    if all(present):
        return [*map(encode, values)]
    return [encode(value) if there else b"" for value, there in zip(values, present, strict=True)]


def timestamp(time_us: int) -> bytes:
    """Return a Timestamp of microseconds since the epoch."""
    seconds, micros = divmod(time_us, MILLION)
    return _SECONDS + _varint(seconds & _UNSIGNED) + _NANOS + _varint(micros * 1_000)


def _repeated(field: int, items: Sequence[bytes]) -> bytes:
    tag = _tag(field, _MESSAGE)
    return b"".join([part for item in items for part in (tag, _varint(len(item)), item)])


@lru_cache(maxsize=4096)
def _varint(number: int) -> bytes:
    """Return the bytes of a varint: seven bits in each, the lowest first."""
    out = bytearray()
    while number > _SEVEN_BITS:
        out.append(number & _SEVEN_BITS | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _tag(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


_TEXT, _TIME = _tag(Value.STRING_VAL_FIELD_NUMBER, _MESSAGE), _tag(Value.UNIX_TIMESTAMP_VAL_FIELD_NUMBER, _VARINT)
_DOUBLE, _INT, _BOOL = (
    _tag(Value.DOUBLE_VAL_FIELD_NUMBER, _FIXED64),
    _tag(Value.INT64_VAL_FIELD_NUMBER, _VARINT),
    _tag(Value.BOOL_VAL_FIELD_NUMBER, _VARINT),
)
_SECONDS, _NANOS = _tag(Timestamp.SECONDS_FIELD_NUMBER, _VARINT), _tag(Timestamp.NANOS_FIELD_NUMBER, _VARINT)
_PACK = struct.Struct("<d").pack
_FIRST_DATE, _DAY_S = date(1970, 1, 1), 86_400


def _of_text(value: str) -> bytes:
    encoded = value.encode()
    return _TEXT + _varint(len(encoded)) + encoded


def _in_seconds(value: date) -> int:
    return epoch_us(value) // MILLION if isinstance(value, datetime) else (value - _FIRST_DATE).days * _DAY_S


def _of_list(kind: str, values: Sequence[Any]) -> bytes:
    """Return a list as a Value of Feast. An empty list is a value too."""
    name, is_time = _LISTS[kind]
    cell = Value()
    own = getattr(cell, name)
    own.SetInParent()
    own.val.extend(map(_in_seconds, values) if is_time else values)
    encoded: bytes = cell.SerializeToString()
    return encoded


_LISTS = {
    "list(str)": ("string_list_val", False), "list(int)": ("int64_list_val", False),
    "list(float)": ("double_list_val", False), "list(bool)": ("bool_list_val", False),
    "list(datetime)": ("unix_timestamp_list_val", True), "list(date)": ("unix_timestamp_list_val", True),
}  # fmt: skip
_ENCODE: dict[str, Callable[[Any], bytes]] = {
    "str": _of_text,
    "datetime": lambda value: _TIME + _varint(_in_seconds(value) & _UNSIGNED),
    "date": lambda value: _TIME + _varint(_in_seconds(value) & _UNSIGNED),
    "float": lambda value: _DOUBLE + _PACK(value),
    "int": lambda value: _INT + _varint(int(value) & _UNSIGNED),
    "bool": lambda value: _BOOL + (b"\x01" if value else b"\x00"),
}
