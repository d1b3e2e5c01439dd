"""From record bytes to columns: the decoding half of a record's verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import polars as pl

from headrace.bus.duration import instant
from headrace.bus.event import Event, Field, Kind
from headrace.bus.stream import Stream

_TYPES: dict[Kind, Any] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "str": pl.String(),
    "datetime": pl.Datetime("us", "UTC"),
}
_INT64 = range(-(2**63), 2**63)
_FLOAT_SECONDS = 2.0**32  # below it a double of seconds still tells microseconds apart


def column_type(field: Field) -> Any:
    """The Polars type of a field's column."""
    return pl.List(_TYPES[field.kind]) if field.many else _TYPES[field.kind]


def schema(stream: Stream) -> dict[str, Any]:
    """The Polars schema of a stream's event fields."""
    return {field.name: column_type(field) for field in stream.fields}


class Decoder:
    """Decodes the payloads of one stream. A verdict depends on its own payload alone, never on its neighbours."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decoder = msgspec.json.Decoder(stream.event)
        self._times = [field.name for field in stream.fields if field.kind == "datetime" and not field.many]
        self._ints = [field.name for field in stream.fields if field.kind == "int" and not field.many]

    def decode(self, payloads: Sequence[bytes | None]) -> tuple[list[Event], np.ndarray, dict[int, str]]:
        """The events that decode, their positions, and the error of each other position."""
        events = self._together(payloads)
        if events is not None:
            return events, np.arange(len(events)), {}
        return self._one_by_one(payloads)

    def columns(self, events: Sequence[Event]) -> pl.DataFrame:
        """One column a field, typed as in :func:`schema`."""
        return pl.DataFrame([_column(field, events) for field in self._stream.fields])

    def _together(self, payloads: Sequence[bytes | None]) -> list[Event] | None:
        """All events at once, or None where one of them needs a closer look."""
        if None in payloads:
            return None
        lines = b"\n".join(payloads)  # type: ignore[arg-type]
        if lines.count(b"\n") != len(payloads) - 1:  # a payload with a line end of its own
            return None
        try:
            events = self._decoder.decode_lines(lines)
        except msgspec.MsgspecError:
            return None
        return events if len(events) == len(payloads) and self._fit(events) else None

    def _fit(self, events: list[Event]) -> bool:
        times = (all(map(_zoned, map(attrgetter(name), events))) for name in self._times)
        ints = (_within_int64(list(map(attrgetter(name), events))) for name in self._ints)
        return all(times) and all(ints)

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
        except msgspec.MsgspecError as error:
            return None, str(error)
        except RecursionError:
            return None, "JSON is nested too deeply"
        for field in self._stream.fields:
            problem = _problem(field, getattr(event, field.name))
            if problem:
                return None, f"{problem} - at `$.{field.name}`"
        return event, ""


def _problem(field: Field, value: Any) -> str:
    """Why a decoded value has no place in its column; empty if it has."""
    items = value if field.many and value is not None else [value]
    if field.kind == "int" and not all(item is None or item in _INT64 for item in items):
        return "The integer does not fit into 64 bits"
    if field.kind == "datetime" and not all(_zoned(item) for item in items):
        return "The time has no zone: write it with an offset or Z"
    return ""


def _zoned(value: datetime | None) -> bool:
    return value is None or value.tzinfo is not None


def _within_int64(values: list[int | None]) -> bool:
    present = [value for value in values if value is not None] if None in values else values
    return not present or (min(present) in _INT64 and max(present) in _INT64)  # type: ignore[type-var]


def _column(field: Field, events: Sequence[Event]) -> pl.Series:
    values = list(map(attrgetter(field.name), events))
    if field.kind == "datetime" and not field.many and None not in values and values:
        return pl.Series(field.name, instants(values)).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.Series(field.name, values, dtype=column_type(field))


def instants(moments: Sequence[datetime]) -> np.ndarray:
    """int64 microseconds of many times; exact, by way of doubles where these are exact enough."""
    seconds = np.fromiter(map(_TIMESTAMP, moments), np.float64, len(moments))
    if np.abs(seconds).max(initial=0.0) < _FLOAT_SECONDS:
        return np.rint(seconds * 1e6).astype(np.int64)
    return np.fromiter(map(instant, moments), np.int64, len(moments))


_TIMESTAMP: Callable[[datetime], float] = datetime.timestamp
