"""From record bytes to columns: the decoding half of a record's verdict."""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.bus.duration import instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace.bus.event import Event, Field, Kind
    from headrace.bus.stream import Stream

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
        self._checks = [
            (field.name, _CHECKS[field.kind], field.many) for field in stream.fields if field.kind in _CHECKS
        ]

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
        if not _an_object_a_line(lines, len(payloads)):
            return None
        try:
            events = self._decoder.decode_lines(lines)
        except _MALFORMED:
            return None
        return events if len(events) == len(payloads) and self._fit(events) else None

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


def _an_object_a_line(lines: bytes, count: int) -> bool:
    """Whether ``count`` payloads, joined by line ends, each begin with ``{`` and end with ``}``.

    JSON has no bare line end in a string, and after a ``}`` within an object no ``{``: so lines that decode hold whole
    objects each, and as many events as lines means one a line. Records thus cannot misalign their neighbours.
    """
    enclosed = lines.startswith(b"{") and lines.endswith(b"}")
    return enclosed and lines.count(b"\n") == count - 1 == lines.count(b"}\n{")


def _scalars(values: Iterable[Any], many: bool) -> list[Any]:  # noqa: FBT001 - a field's own property
    """The values that are not null; of lists their items."""
    present = [value for value in values if value is not None]
    return [item for value in present for item in value if item is not None] if many else present


def _zoned(moments: list[datetime]) -> bool:
    return None not in map(_ZONE, moments)


def _within_int64(numbers: list[int]) -> bool:
    return not numbers or (min(numbers) in _INT64 and max(numbers) in _INT64)


_CHECKS: dict[Kind, tuple[Callable[[list[Any]], bool], str]] = {
    "int": (_within_int64, "The integer does not fit into 64 bits"),
    "datetime": (_zoned, "The time has no zone: write it with an offset or Z"),
}
"""What msgspec lets pass and a column does not hold, by kind: the test of many values, and what is said."""


def _column(field: Field, events: Sequence[Event]) -> pl.Series:
    values = list(map(attrgetter(field.name), events))
    if field.kind == "datetime" and not field.many and None not in values and values:
        return pl.Series(field.name, instants(values)).cast(column_type(field))
    return pl.Series(field.name, values, dtype=column_type(field))


def instants(moments: Sequence[datetime]) -> np.ndarray:
    """int64 microseconds of many times; exact, by way of doubles where these are exact enough."""
    seconds = np.fromiter(map(_TIMESTAMP, moments), np.float64, len(moments))
    if np.abs(seconds).max(initial=0.0) < _FLOAT_SECONDS:
        return np.rint(seconds * 1e6).astype(np.int64)
    return np.fromiter(map(instant, moments), np.int64, len(moments))


_TIMESTAMP: Callable[[datetime], float] = datetime.timestamp
