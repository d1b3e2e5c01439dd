"""Rows of files as the records that a producer would have sent: JSON, with the names and the forms of the event type.

So a row of a table is judged as a record is: by the same code, with the same verdict and the same words.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from headrace.bus.event import Event, Field

_TRUTHS = {"true": True, "false": False}


class WireRows:
    """Writes rows of columns as JSON records of an event type. ``zone``: that of times without one; None: of none."""

    def __init__(self, event: type[Event], fields: Sequence[Field], zone: str | None = None) -> None:
        self.fields = fields
        self._written = _names(event)
        self._zone = None if zone is None else ZoneInfo(zone)

    def column(self, field: Field, there: Sequence[str]) -> str | None:
        """Return the column of a file that has a field: by its name in JSON, or in Python. None if there is none."""
        return next((name for name in (self._written[field.name], field.name) if name in there), None)

    def lines(self, frame: pl.DataFrame, *, is_text: bool) -> list[bytes]:
        """Return each row as a record. A column that the frame lacks is null, if the field may be null."""
        columns = [(field, self.column(field, frame.columns)) for field in self.fields]
        absent = {field.name: None for field, column in columns if column is None and field.nullable}
        named = [(field, column) for field, column in columns if column is not None]
        return [
            msgspec.json.encode(self._record(row, named, absent, is_text=is_text))
            for row in frame.iter_rows(named=True)
        ]

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
            return dict(tuple(each.values()) for each in value) if isinstance(value, list) else value
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


def _names(event: type[Event]) -> dict[str, str]:
    """Return the last name in JSON of each field of an event type."""
    infos = msgspec.structs.fields(event)
    return {info.name: info.encode_name.rpartition(".")[2] or info.name for info in infos}


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
