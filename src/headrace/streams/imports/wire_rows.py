"""Rows of files as the records that a producer would have sent: JSON, with the names and the forms of the event type.

So a row of a table is judged as a record is: by the same code, with the same verdict and the same words.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.base.zones import time_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.bus.event import Event, Field

FIRST_YEAR_MS, LAST_YEAR_MS = -62_135_510_400_000, 253_402_214_400_000
"""A day after the first time of a datetime, and a day before the last: also in another zone they are datetimes."""
_ENTRY = ["key", "value"]
"""What Arrow calls the parts of an entry of a map."""
_TRUTHS = {"true": True, "false": False}


class WireRows:
    """Writes rows of columns as JSON records of an event type. ``zone``: that of times without one; None: of none."""

    def __init__(self, event: type[Event], fields: Sequence[Field], zone: str | None = None) -> None:
        self.fields = fields
        self._written = _names(event)
        self._zone = None if zone is None else time_zone(zone)

    def column(self, field: Field, there: Sequence[str]) -> str | None:
        """Return the column of a file that has a field: by its name in JSON, or in Python. None if there is none."""
        return next((name for name in self.names(field) if name in there), None)

    def names(self, field: Field) -> tuple[str, str]:
        """Return the names by which a row may have a field: that in JSON, and that in Python."""
        return self._written[field.name], field.name

    def line(self, row: Mapping[str, Any]) -> bytes:
        """Return one row as a record. A field that the row lacks is missing in the record too.

        Raises TypeError for a value that JSON does not have.
        """
        named = [(each, name) for each in self.fields if (name := self.column(each, list(row))) is not None]
        return msgspec.json.encode(self._record(row, named, {}, is_text=False), enc_hook=_plain)

    def written(self, field: Field) -> str:
        """Return the last name of a field in JSON."""
        return self._written[field.name]

    def lines(
        self, frame: pl.DataFrame, others: Mapping[str, Callable[[int], Any]] | None = None, *, is_text: bool
    ) -> list[bytes]:
        """Return each row as a record. A column that there is not is null, if the field may be null.

        ``others``: what returns the value of a row of each column that the frame does not have.
        """
        others = others or {}
        columns = [(field, self.column(field, [*frame.columns, *others])) for field in self.fields]
        absent = {field.name: None for field, column in columns if column is None and field.nullable}
        named = [(field, column) for field, column in columns if column is not None]
        frame, far = _far_times(frame)
        rows = frame.iter_rows(named=True) if frame.width else iter([{}] * frame.height)
        found = []
        for place, row in enumerate(rows):
            whole = {**row, **far.get(place, {}), **{name: value(place) for name, value in others.items()}}
            found.append(msgspec.json.encode(self._record(whole, named, absent, is_text=is_text)))
        return found

    def _record(
        self,
        row: Mapping[str, Any],
        named: Sequence[tuple[Field, str]],
        absent: Mapping[str, None],
        *,
        is_text: bool,
    ) -> dict[str, Any]:
        record: dict[str, Any] = {}
        for field, column in named:
            self._put(record, field, self._value(field, row[column], is_text=is_text))
        for field in self.fields:
            if field.name in absent:
                self._put(record, field, None)
        return record

    def _put(self, record: dict[str, Any], field: Field, value: Any) -> None:
        *objects, last = field.path or (self._written[field.name],)
        for name in objects:
            record = record.setdefault(name, {})
        record[last] = value

    def _value(self, field: Field, value: Any, *, is_text: bool) -> Any:
        if value is None:
            return None
        if field.many:
            return [self._one(field, item, is_text=False) for item in value] if isinstance(value, list) else value
        if field.keyed:
            return _keyed(value) if isinstance(value, list) else value
        return self._one(field, value, is_text=is_text)

    def _one(self, field: Field, value: Any, *, is_text: bool) -> Any:
        if field.event is not None and isinstance(value, dict):
            inner = WireRows(field.event, field.fields)
            inner._zone = self._zone
            named = [(each, name) for each in field.fields if (name := inner.column(each, list(value))) is not None]
            absent = {e.name: None for e in field.fields if e.nullable and inner.column(e, list(value)) is None}
            return inner._record(value, named, absent, is_text=False)
        if is_text and isinstance(value, str):
            value = _typed(field, value)
        if field.kind == "int" and isinstance(value, float) and value.is_integer():
            return int(value)
        if field.kind == "datetime":
            return self._time(field, value)
        if isinstance(value, bytes) and field.kind != "bytes":
            return _text_of(value)
        return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 - NaN is no number

    def _time(self, field: Field, value: Any) -> Any:
        if field.form is None and isinstance(value, str) and self._zone is not None:
            with suppress(ValueError):
                value = datetime.fromisoformat(value)
        if not isinstance(value, datetime):
            return value
        if value.tzinfo is None and self._zone is not None:
            value = value.replace(tzinfo=self._zone)
        return value if field.form is None or value.tzinfo is None else field.form.write(value)


def _plain(value: Any) -> Any:
    """Return the Python value of a scalar of numpy. Raises TypeError for all else."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is no value of JSON")


def _keyed(entries: list[Any]) -> Any:
    """Return a dict of the entries of a map. What is no map stays as it is: its record is rejected."""
    if all(isinstance(each, dict) and [*each] == _ENTRY for each in entries):
        pairs = [tuple(each.values()) for each in entries]
        return dict(pairs) if all(isinstance(key, str | int) for key, _ in pairs) else entries
    return entries


def _names(event: type[Event]) -> dict[str, str]:
    """Return the last name in JSON of each field of an event type."""
    infos = msgspec.structs.fields(event)
    return {info.name: info.encode_name.rpartition(".")[2] or info.name for info in infos}


def near_times(column: pl.Series) -> pl.Series:
    """Return for each time of a column whether it is one that a datetime holds, also in another zone, or null."""
    times = column.dt.cast_time_unit("ms").to_physical()
    return times.is_between(FIRST_YEAR_MS, LAST_YEAR_MS).fill_null(value=True)


def _far_times(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[int, dict[str, str]]]:
    """Return the frame with null for each time that no datetime holds, and a text for it by row and column."""
    far: dict[int, dict[str, str]] = {}
    for column in frame.get_columns():
        if isinstance(column.dtype, pl.Datetime):
            is_near, times = near_times(column), column.to_physical()
            if not is_near.all():
                for row in is_near.not_().arg_true().to_list():
                    far.setdefault(row, {})[column.name] = f"{times[row]} {column.dtype.time_unit} since 1970"
                frame = frame.with_columns(pl.when(is_near).then(pl.col(column.name)).alias(column.name))
    return frame, far


def _text_of(value: bytes) -> str | list[bytes]:
    """Return bytes as the text that they are. Others stay bytes, in a list: their record is rejected."""
    with suppress(UnicodeDecodeError):
        return value.decode()
    return [value]


def _typed(field: Field, text: str) -> Any:
    """Return what a cell of CSV means for a field. A cell that means nothing stays text: its record is rejected."""
    if field.kind == "bool":
        return _TRUTHS.get(text.lower(), text)
    is_number = field.kind in {"int", "float"} or (field.kind == "datetime" and hasattr(field.form, "unit"))
    if is_number:
        with suppress(ValueError):
            return int(text)
        with suppress(ValueError):
            return float(text)
    return text
