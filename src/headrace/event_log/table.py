"""The columns of a Delta table over time, and the place of its files.

An event type may get new fields, which earlier rows lack. A field that may be null is null there. A field with a
default has the default, which the table keeps as metadata of the column.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.fs
from deltalake.fs import DeltaStorageHandler

from headrace.errors import DefinitionError
from headrace.event_log.columns import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable

    from headrace.bus.stream import Stream

_DEFAULT = "headrace.default"
"""Metadata of a column: the JSON of its value in accepted rows that were written before the column existed."""
_LOCAL = "file://"
_TIME = pl.Datetime("us", "UTC")
_PYTHON: dict[pl.DataType, Any] = {_TIME: datetime, pl.List(_TIME): list[datetime]}
"""Types that JSON alone does not determine."""


def no_rows(table: DeltaTable) -> pl.DataFrame:
    """Return no rows, with all columns of the table."""
    return pl.DataFrame(pa.schema(table.schema().to_arrow()).empty_table())


def missing_columns(stream: Stream, wanted: Mapping[str, Any], table: DeltaTable) -> pa.Schema | None:
    """Return the columns that a table of the stream lacks, or None if it has all.

    Raises DefinitionError if a field has another type than its column, or if it is new, never null and has no default.
    """
    found = no_rows(table).schema
    for name, dtype in wanted.items():
        if name in found and found[name] != dtype:
            message = (
                f"stream {stream.topic!r}: field {name!r} of {stream.event.__name__} is {dtype}, but {found[name]} "
                f"in the event log at {table.table_uri}. A field cannot change its type: give the new one another name"
            )
            raise DefinitionError(message)
    missing = {name: dtype for name, dtype in wanted.items() if name not in found}
    if not missing:
        return None
    defaults = {field.name: field for field in msgspec.structs.fields(stream.event)}
    columns = pl.DataFrame(schema=missing).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    return pa.schema([column.with_metadata(_metadata(stream, defaults[column.name])) for column in columns])


def _metadata(stream: Stream, field: msgspec.structs.FieldInfo) -> dict[str, str] | None:
    if stream.field(field.name).nullable:
        return None
    if field.required:
        message = (
            f"stream {stream.topic!r}: field {field.name!r} of {stream.event.__name__} is new, and the event log has "
            "events without it: give it a default, or let it be null with '| None = None'"
        )
        raise DefinitionError(message)
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return {_DEFAULT: msgspec.json.encode(value).decode()}


def with_all_columns(rows: pl.DataFrame, table: DeltaTable) -> pl.DataFrame:
    """Return the rows with all columns of the table, in its order. Columns that the event type lacks are null."""
    empty = no_rows(table)
    return rows if rows.columns == empty.columns else pl.concat([empty, rows], how="diagonal")


def with_defaults(rows: pl.DataFrame, table: DeltaTable) -> pl.DataFrame:
    """Return the rows with the defaults of columns that were added later, in accepted rows."""
    defaults = {
        field.name: _value(field.metadata[_DEFAULT], rows.schema[field.name])
        for field in table.schema().fields
        if _DEFAULT in (field.metadata or {}) and field.name in rows.columns
    }
    if not defaults:
        return rows
    accepted = pl.col("__verdict") == ACCEPTED
    return rows.with_columns(
        pl.when(accepted).then(pl.col(name).fill_null(pl.lit(value))).otherwise(name)
        for name, value in defaults.items()
    )


def _value(text: str, dtype: pl.DataType) -> pl.Series:
    """Return a default as a column of one row."""
    value = msgspec.json.decode(text, type=_PYTHON.get(dtype, Any))
    return pl.Series([value], dtype=dtype)


def local_folder(table: DeltaTable) -> Path | None:
    """Return the folder of the table's files on this machine; None if they are in remote storage."""
    return Path(unquote(table.table_uri.removeprefix(_LOCAL))) if table.table_uri.startswith(_LOCAL) else None


def remote_files(table: DeltaTable, options: Mapping[str, str] | None) -> pyarrow.fs.FileSystem:
    """Return the file system that reads the table's files by their names, as Delta itself does."""
    return pyarrow.fs.PyFileSystem(DeltaStorageHandler(table.table_uri, dict(options or {}) or None))
