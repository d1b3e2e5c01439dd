"""Columns of nested events: ``card.country`` is the field ``country`` of the struct column ``card``.

The event log has structs. Everything that computes takes columns by such names. A name without a dot is a column
itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


def stored(names: Iterable[str]) -> list[str]:
    """Return the columns of the event log that have these columns, each once."""
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


def column_of(frame: pl.DataFrame, name: str) -> pl.Series:
    """Return the column of that name."""
    if "." not in name or name in frame.columns:
        return frame.get_column(name)
    first, *rest = name.split(".")
    found = frame.get_column(first)
    for part in rest:
        found = found.struct.field(part)
    return found.alias(name)


def picked(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return these columns, in this order."""
    if not any("." in name for name in names):
        return frame.select(names)
    return pl.DataFrame([column_of(frame, name) for name in names])


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with the fields of structs in place of the structs. No content is copied."""
    if not any(isinstance(dtype, pl.Struct) for dtype in frame.dtypes):
        return frame
    return pl.DataFrame([field for each in frame.get_columns() for field in _fields(each)])


def _fields(column: pl.Series) -> Iterator[pl.Series]:
    if not isinstance(column.dtype, pl.Struct):
        yield column
        return
    for field in column.dtype.fields:
        yield from _fields(column.struct.field(field.name).alias(f"{column.name}.{field.name}"))


def conformed(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the columns of a schema. A column or a field of a struct that the frame lacks is null."""
    known = frame.schema
    return pl.DataFrame(
        [
            _conformed(frame.get_column(name), dtype)
            if name in known
            else pl.Series(name, [None], dtype).new_from_index(0, frame.height)
            for name, dtype in schema.items()
        ]
    )


def _conformed(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    if column.dtype == dtype or not isinstance(dtype, pl.Struct) or not isinstance(column.dtype, pl.Struct):
        return column
    inner = conformed(column.struct.unnest(), {field.name: field.dtype for field in dtype.fields})  # type: ignore[misc]
    return null_where(inner.to_struct(column.name), column)


def null_where(struct: pl.Series, like: pl.Series) -> pl.Series:
    """Return the structs, null where another column is."""
    if not like.null_count():
        return struct
    return pl.select(pl.when(like.is_not_null()).then(struct).alias(struct.name)).to_series()
