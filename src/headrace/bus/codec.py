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
from headrace.bus.message import problem
from headrace.bus.places import DIGITS, Places
from headrace.bus.written_events import place, value_at
from headrace.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from headrace.bus.event import Field, Kind
    from headrace.bus.formats.record_format import Headers
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.bus.stream_spec import FieldSpec
    from headrace.bus.wire import TimeForm

_TYPES: dict[Kind, Any] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "str": pl.String(),
    "datetime": pl.Datetime("us", "UTC"),
    "date": pl.Date(),
    "bytes": pl.Binary(),
}
_EPOCH = utc_datetime(0)


def column_type(field: Field | FieldSpec) -> Any:
    """Return the Polars type of a field's column. A dict is a list of structs with key and value."""
    of = _item_type(field)
    if field.keyed:
        return pl.List(pl.Struct({"key": pl.String(), "value": of}))
    return pl.List(of) if field.many else of


def _item_type(field: Field | FieldSpec) -> Any:
    if field.kind == "event":
        return pl.Struct({inner.name: column_type(inner) for inner in field.fields or ()})
    if field.kind == "decimal":
        return pl.Decimal(DIGITS, field.places.places if isinstance(field.places, Places) else field.places)  # type: ignore[arg-type]
    return _TYPES[field.kind]


def schema(stream: Stream) -> dict[str, Any]:
    """Return the Polars schema of a stream's columns."""
    return {field.name: column_type(field) for field in stream.columns}


class Decoder:
    """Decodes the payloads of one stream. A verdict depends only on its own payload, never on other payloads."""

    def __init__(self, stream: Stream, schemas: SchemaStore | None = None) -> None:
        self._stream = stream
        self.reader = EventReader(stream, schemas)

    def decode(
        self, payloads: Sequence[bytes | None], headers: Sequence[Headers] = ()
    ) -> tuple[list[Any], np.ndarray, dict[int, str]]:
        """Return the rows of the payloads that decode, their positions, and the error of each other position.

        ``headers`` are those of the records, if the stream's format reads them.
        """
        rows = self.reader.rows(payloads, headers)
        if rows is not None:
            return rows, np.arange(len(rows)), {}
        return self._one_by_one(payloads, headers or [()] * len(payloads))

    def columns(self, rows: Sequence[Any]) -> pl.DataFrame:
        """Return one column for each field, typed as in :func:`schema`, of rows that :meth:`decode` returned."""
        return _columns(self._stream.columns, rows)

    def _one_by_one(
        self, payloads: Sequence[bytes | None], headers: Sequence[Headers]
    ) -> tuple[list[Any], np.ndarray, dict[int, str]]:
        rows: list[Any] = []
        positions: list[int] = []
        errors: dict[int, str] = {}
        for position, (payload, own) in enumerate(zip(payloads, headers, strict=True)):
            try:
                rows.append(self.reader.row(payload, own))
            except CodecError as error:
                errors[position] = problem(error)  # a value of the record in it may be as long as the record
            else:
                positions.append(position)
        return rows, np.array(positions, np.int64), errors


def _columns(fields: Sequence[Field], rows: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame([_column(field, _values(field, rows)) for field in fields])


def _values(field: Field, rows: Sequence[Any]) -> list[Any]:
    """Return what each row has of a field."""
    if field.path:
        return [value_at(row, field) for row in rows]
    return list(map(attrgetter(*place(field)), rows))


def _column(field: Field, values: list[Any]) -> pl.Series:
    if field.form is not None:
        return _formed(field, field.form, values)
    if field.is_nested:
        return _nested(field, values)
    if field.keyed or field.kind in {"event", "decimal"}:
        values = [_stored(field, value) for value in values]
    elif not field.is_plain:
        values = [list(map(plain_value, value)) if isinstance(value, list) else plain_value(value) for value in values]
    if field.kind == "datetime" and not field.many and values and not (field.nullable and None in values):
        return pl.Series(field.name, instants(values)).cast(column_type(field))
    return pl.Series(field.name, values, dtype=column_type(field))


def _nested(field: Field, values: list[Any]) -> pl.Series:
    """Return the column of nested events: a struct, which is null where there is no event."""
    present = [value for value in values if value is not None]
    found = _columns(field.fields, present).to_struct(field.name)
    if len(present) == len(values):
        return found
    known = iter(range(len(present)))
    places = pl.Series([None if value is None else next(known) for value in values], dtype=pl.UInt32)
    return pl.DataFrame([found]).select(pl.col(field.name).gather(places)).to_series()


def _stored(field: Field, value: Any) -> Any:
    """Return a value as Polars takes it: plain lists, dicts and scalars."""
    if value is None:
        return None
    if field.keyed:
        return [{"key": key, "value": plain_value(item)} for key, item in value.items()]
    if field.many:
        return [_stored_item(field, item) for item in value]
    return _stored_item(field, value)


def _stored_item(field: Field, item: Any) -> Any:
    if item is None:
        return None
    if field.kind == "event":
        return {inner.name: _stored(inner, value_at(item, inner)) for inner in field.fields}
    if field.places is not None:
        return field.places.rounded(item)
    return plain_value(item) if field.form is None else field.form.read(item)


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
