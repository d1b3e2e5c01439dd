"""Turns the bytes of records into columns: the decoding part of a record's verdict."""

from __future__ import annotations

from itertools import repeat
from operator import attrgetter, sub
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from headrace.base.times import utc_datetime
from headrace.bus.event import plain_value
from headrace.bus.event_reader import EventReader
from headrace.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from headrace.bus.event import Field, Kind
    from headrace.bus.formats.record_format import Headers
    from headrace.bus.stream import Stream
    from headrace.bus.stream_spec import FieldSpec
    from headrace.bus.wire import TimeForm

_TYPES: dict[Kind, Any] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "str": pl.String(),
    "datetime": pl.Datetime("us", "UTC"),
}
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
        self._reader = EventReader(stream)

    def decode(
        self, payloads: Sequence[bytes | None], headers: Sequence[Headers] = ()
    ) -> tuple[list[Any], np.ndarray, dict[int, str]]:
        """Return the rows of the payloads that decode, their positions, and the error of each other position.

        ``headers`` are those of the records, if the stream's format reads them.
        """
        rows = self._reader.rows(payloads, headers)
        if rows is not None:
            return rows, np.arange(len(rows)), {}
        return self._one_by_one(payloads, headers or [()] * len(payloads))

    def columns(self, rows: Sequence[Any]) -> pl.DataFrame:
        """Return one column for each field, typed as in :func:`schema`, of rows that :meth:`decode` returned."""
        return pl.DataFrame([_column(field, rows) for field in self._stream.fields])

    def _one_by_one(
        self, payloads: Sequence[bytes | None], headers: Sequence[Headers]
    ) -> tuple[list[Any], np.ndarray, dict[int, str]]:
        rows: list[Any] = []
        positions: list[int] = []
        errors: dict[int, str] = {}
        for position, (payload, own) in enumerate(zip(payloads, headers, strict=True)):
            try:
                rows.append(self._reader.row(payload, own))
            except CodecError as error:
                errors[position] = str(error)
            else:
                positions.append(position)
        return rows, np.array(positions, np.int64), errors


def _column(field: Field, rows: Sequence[Any]) -> pl.Series:
    values: list[Any] = list(map(attrgetter(field.name), rows))
    if field.form is not None:
        return _formed(field, field.form, values)
    if not field.is_plain:
        values = [list(map(plain_value, value)) if isinstance(value, list) else plain_value(value) for value in values]
    if field.kind == "datetime" and not field.many and values and not (field.nullable and None in values):
        return pl.Series(field.name, instants(values)).cast(column_type(field))
    return pl.Series(field.name, values, dtype=column_type(field))


def _formed(field: Field, form: TimeForm, values: list[Any]) -> pl.Series:
    """Return the column of times that are written in a form of their own."""
    present = [value for value in values if value is not None]
    micros = form.micros(present)
    if len(present) < len(values):
        known = iter(micros.tolist())
        return pl.Series(field.name, [None if value is None else next(known) for value in values], pl.Int64).cast(
            column_type(field)
        )
    return pl.Series(field.name, micros).cast(column_type(field))


def instants(moments: Sequence[datetime]) -> np.ndarray:
    """Return the int64 microseconds of many times with zone, exactly."""
    since = pa.array(list(map(sub, moments, repeat(_EPOCH))), pa.duration("us"))
    found: np.ndarray = since.view(pa.int64()).to_numpy()
    return found
