"""Turns the bytes of records into columns: the decoding part of a record's verdict."""

from __future__ import annotations

from itertools import repeat
from operator import attrgetter, sub
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa

from headrace.base.times import utc_datetime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from headrace.bus.event import Event, Field, Kind
    from headrace.bus.stream import Stream
    from headrace.bus.stream_spec import FieldSpec

_TYPES: dict[Kind, Any] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "str": pl.String(),
    "datetime": pl.Datetime("us", "UTC"),
}
_ZONE = attrgetter("tzinfo")
_INT64 = range(-(2**63), 2**63)
_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_EPOCH = utc_datetime(0)


def column_type(field: Field | FieldSpec) -> Any:
    """Return the Polars type of a field's column."""
    return pl.List(_TYPES[field.kind]) if field.many else _TYPES[field.kind]


def schema(stream: Stream) -> dict[str, Any]:
    """Return the Polars schema of a stream's event fields."""
    return {field.name: column_type(field) for field in stream.fields}


class Decoder:
    """Decodes the payloads of one stream. A verdict depends only on its own payload, never on other payloads."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decoder = msgspec.json.Decoder(stream.event)
        self._checks = [
            (field.name, _CHECKS[field.kind], field.many) for field in stream.fields if field.kind in _CHECKS
        ]

    def decode(self, payloads: Sequence[bytes | None]) -> tuple[list[Event], np.ndarray, dict[int, str]]:
        """Return the events that decode, their positions, and the error of each other position."""
        events = self._together(payloads)
        if events is not None:
            return events, np.arange(len(events)), {}
        return self._one_by_one(payloads)

    def columns(self, events: Sequence[Event]) -> pl.DataFrame:
        """Return one column for each field, typed as in :func:`schema`."""
        return pl.DataFrame([_column(field, events) for field in self._stream.fields])

    def _together(self, payloads: Sequence[bytes | None]) -> list[Event] | None:
        """Return all events at once, or None if one of them needs a closer look."""
        try:
            events = list(map(self._decoder.decode, payloads))  # type: ignore[arg-type]
        except (*_MALFORMED, TypeError):  # TypeError: a record without a value
            return None
        return events if self._fit(events) else None

    def _fit(self, events: list[Event]) -> bool:
        return all(fits(_scalars(map(attrgetter(name), events), many)) for name, (fits, _), many in self._checks)

    def _one_by_one(self, payloads: Sequence[bytes | None]) -> tuple[list[Event], np.ndarray, dict[int, str]]:
        events: list[Event] = []
        positions: list[int] = []
        errors: dict[int, str] = {}
        for position, payload in enumerate(payloads):
            event, error = self._one(payload)
            if event is None:
                errors[position] = error
            else:
                events.append(event)
                positions.append(position)
        return events, np.array(positions, np.int64), errors

    def _one(self, payload: bytes | None) -> tuple[Event | None, str]:
        if payload is None:
            return None, "the record has no value (a tombstone)"
        try:
            event = self._decoder.decode(payload)
        except RecursionError:
            return None, "JSON is nested too deeply"
        except _MALFORMED as error:
            return None, str(error)
        for name, (fits, problem), many in self._checks:
            if not fits(_scalars([getattr(event, name)], many)):
                return None, f"{problem} - at `$.{name}`"
        return event, ""


def _scalars(values: Iterable[Any], many: bool) -> list[Any]:  # noqa: FBT001 - a field's own property
    """Return the values that are not null; the items of the values if these are lists."""
    present = [value for value in values if value is not None]
    return [item for value in present for item in value if item is not None] if many else present


def _zoned(moments: list[datetime]) -> bool:
    return all(map(_ZONE, moments))


def _within_int64(numbers: list[int]) -> bool:
    return not numbers or (min(numbers) in _INT64 and max(numbers) in _INT64)


_CHECKS: dict[Kind, tuple[Callable[[list[Any]], bool], str]] = {
    "int": (_within_int64, "The integer does not fit into 64 bits"),
    "datetime": (_zoned, "The time has no zone: write it with an offset or Z"),
}
"""Values that msgspec accepts and a column cannot hold, by kind: the test of many values, and the error."""


def _column(field: Field, events: Sequence[Event]) -> pl.Series:
    values = list(map(attrgetter(field.name), events))
    if field.kind == "datetime" and not field.many and values and not (field.nullable and None in values):
        return pl.Series(field.name, instants(values)).cast(column_type(field))
    return pl.Series(field.name, values, dtype=column_type(field))


def instants(moments: Sequence[datetime]) -> np.ndarray:
    """Return the int64 microseconds of many times with zone, exactly."""
    since = pa.array(list(map(sub, moments, repeat(_EPOCH))), pa.duration("us"))
    found: np.ndarray = since.view(pa.int64()).to_numpy()
    return found
