"""The columns of a Delta table over time, and the place of its files.

An event type may get new fields, also in nested events, which earlier rows lack. A field that may be null is null
there. A field with a default has the default, which the table keeps as metadata of the field.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.fs
from deltalake.fs import DeltaStorageHandler

from headrace.bus.nested_columns import conformed, null_where
from headrace.bus.stream_spec import OPERATION
from headrace.errors import DefinitionError
from headrace.event_log.columns import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deltalake import DeltaTable

    from headrace.bus.stream import Stream

_DEFAULT = "headrace.default"
"""Metadata of a column: the JSON of its value in accepted rows that were written before the column existed."""
_LOCAL = "file://"
_PYTHON: dict[type[pl.DataType], Any] = {
    pl.Datetime: datetime, pl.Date: date, pl.Decimal: Decimal, pl.Binary: bytes,
}  # fmt: skip
"""Types of which JSON has texts."""


def no_rows(table: DeltaTable) -> pl.DataFrame:
    """Return no rows, with all columns of the table."""
    return pl.DataFrame(pa.schema(table.schema().to_arrow()).empty_table())


def has_column(table: DeltaTable, name: str) -> bool:
    """Return whether the table has a column, or a field of a struct such as ``card.country``."""
    here: Any = table.schema()
    for part in name.split("."):
        here = next((field.type for field in getattr(here, "fields", ()) if field.name == part), None)
        if here is None:
            return False
    return True


def missing_columns(stream: Stream, wanted: Mapping[str, Any], table: DeltaTable) -> pa.Schema | None:
    """Return the columns that a table of the stream lacks, or lacks fields of, or None if it has all.

    Raises DefinitionError if a field has another type than its column, or if it is new, never null and has no default.
    """
    found = no_rows(table).schema
    _check_is_same_kind(stream, wanted, found, table.table_uri)
    changed = _AddedFields(stream, table.table_uri)
    new = {name: dtype for name, dtype in wanted.items() if changed.by(name, dtype, found.get(name))}
    if not new:
        return None
    columns = pl.DataFrame(schema=new).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    return pa.schema([changed.with_metadata(column, column.name) for column in columns])


def _check_is_same_kind(stream: Stream, wanted: Mapping[str, Any], found: Mapping[str, Any], table_uri: str) -> None:
    if (OPERATION in wanted) == (OPERATION in found):
        return
    now, before = ("table", "stream") if OPERATION in wanted else ("stream", "table")
    message = (
        f"{stream.topic!r} is a {now} now, and was a {before} when the event log at {table_uri} was written. Only the "
        "log of a table has deletes. Read the topic into another event log: take another namespace and another data_dir"
    )
    raise DefinitionError(message)


class _AddedFields:
    """The fields of an event type that a table lacks: new ones, which earlier rows have to do without."""

    def __init__(self, stream: Stream, table_uri: str) -> None:
        self._stream, self._uri = stream, table_uri
        self._new: set[str] = set()

    def by(self, name: str, wanted: pl.DataType, found: pl.DataType | None) -> bool:
        """Return whether the table lacks this column, or fields of its structs. Note the new ones."""
        if found is None:
            self._new.add(name)
            return True
        if wanted == found:
            return False
        if not isinstance(wanted, pl.Struct) or not isinstance(found, pl.Struct):
            message = (
                f"stream {self._stream.topic!r}: field {name!r} of {self._stream.event.__name__} is {wanted}, but "
                f"{found} in the event log at {self._uri}. A field cannot change its type: give the new one another "
                "name"
            )
            raise DefinitionError(message)
        known: dict[str, Any] = {field.name: field.dtype for field in found.fields}
        lacking = [self.by(f"{name}.{each.name}", each.dtype, known.get(each.name)) for each in wanted.fields]  # type: ignore[arg-type]
        return any(lacking)

    def with_metadata(self, column: pa.Field, name: str) -> pa.Field:
        """Return the Arrow field with the defaults of new fields, of structs too. ``name`` is its whole name."""
        if name in self._new:
            return column.with_metadata(self._default(name))
        if not pa.types.is_struct(column.type):
            return column
        inner = [self.with_metadata(each, f"{name}.{each.name}") for each in column.type]
        return column.with_type(pa.struct(inner))

    def _default(self, name: str) -> dict[str, str] | None:
        event, fields = self._stream.event, self._stream.columns
        *above, last = name.split(".")
        for part in above:
            field = next(each for each in fields if each.name == part)
            event, fields = field.event or event, field.fields
        if next(each for each in fields if each.name == last).nullable:
            return None
        info = next(each for each in msgspec.structs.fields(event) if each.name == last)
        if info.required:
            message = (
                f"stream {self._stream.topic!r}: field {name!r} of {self._stream.event.__name__} is new, and the event "
                "log has events without it: give it a default, or let it be null with '| None = None'"
            )
            raise DefinitionError(message)
        value = info.default_factory() if info.default is msgspec.NODEFAULT else info.default
        return {_DEFAULT: msgspec.json.encode(_by_names(value)).decode()}


def _by_names(value: Any) -> Any:
    """Return a value whose events are objects with the names of columns, which those in records may differ from."""
    if isinstance(value, msgspec.Struct):
        return {name: _by_names(getattr(value, name)) for name in value.__struct_fields__}
    return [_by_names(item) for item in value] if isinstance(value, list) else value


def with_all_columns(rows: pl.DataFrame, table: DeltaTable) -> pl.DataFrame:
    """Return the rows with all columns of the table, in its order. Columns that the event type lacks are null."""
    empty = no_rows(table)
    return rows if rows.schema == empty.schema else conformed(rows, empty.schema)


def with_defaults(rows: pl.DataFrame, table: DeltaTable) -> pl.DataFrame:
    """Return the rows with the defaults of columns that were added later, in accepted rows."""
    defaults = [(path, text) for path, text in _defaults(table.schema().fields) if path[0] in rows.columns]
    if not defaults:
        return rows
    accepted = rows.get_column("__verdict") == ACCEPTED
    for (name, *rest), text in defaults:
        column = rows.get_column(name)
        filled = _filled(column, rest, text)
        rows = rows.with_columns(pl.when(accepted).then(filled).otherwise(column).alias(name))
    return rows


def _defaults(fields: Sequence[Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path and the default of each field that was added later, in structs too."""
    for field in fields:
        path = (*above, field.name)
        if _DEFAULT in (field.metadata or {}):
            yield path, field.metadata[_DEFAULT]
        yield from _defaults(getattr(field.type, "fields", ()), path)


def _filled(column: pl.Series, path: Sequence[str], text: str) -> pl.Series:
    """Return a column with a default in place of null, or in place of null in a field of its structs."""
    if not path:
        return pl.select(pl.lit(column).fill_null(pl.lit(_value(text, column.dtype)))).to_series()
    inner = column.struct.unnest()
    inner = inner.with_columns(_filled(column.struct.field(path[0]), path[1:], text).alias(path[0]))
    return null_where(inner.to_struct(column.name), column)


def _value(text: str, dtype: pl.DataType) -> pl.Series:
    """Return a default as a column of one row."""
    return pl.Series([_as_stored(msgspec.json.decode(text), dtype)], dtype=dtype)


def _as_stored(value: Any, dtype: Any) -> Any:
    """Return a value of JSON as a column of this type takes it."""
    if value is None:
        return None
    match dtype:
        case pl.Struct():
            known = {each.name: each.dtype for each in dtype.fields}
            return {name: _as_stored(value.get(name), inner) for name, inner in known.items()}
        case pl.List() if isinstance(value, dict):
            return [{"key": key, "value": item} for key, item in value.items()]
        case pl.List():
            return [_as_stored(item, dtype.inner) for item in value]
    kind = next((kind for of, kind in _PYTHON.items() if isinstance(dtype, of)), None)
    return value if kind is None else msgspec.convert(value, kind)


def local_folder(table: DeltaTable) -> Path | None:
    """Return the folder of the table's files on this machine; None if they are in remote storage."""
    return Path(unquote(table.table_uri.removeprefix(_LOCAL))) if table.table_uri.startswith(_LOCAL) else None


def remote_files(table: DeltaTable, options: Mapping[str, str] | None) -> pyarrow.fs.FileSystem:
    """Return the file system that reads the table's files by their names, as Delta itself does."""
    return pyarrow.fs.PyFileSystem(DeltaStorageHandler(table.table_uri, dict(options or {}) or None))
