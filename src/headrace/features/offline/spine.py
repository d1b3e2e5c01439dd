"""Spines: tables of rows that get features. A row has join keys and a time; any data frame library can make it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import DefinitionError, TerminalError
from headrace.features.definitions.view_spec import NO_KEY, NO_KEY_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BATCH_ROWS = 1_000_000
"""The number of rows of a spine that are in memory at a time."""
FEASTS = "event_timestamp"
_TYPES: dict[str, pl.DataType] = {"str": pl.String(), "int": pl.Int64()}


@dataclass(frozen=True)
class Spine:
    """A table that can be read in pieces again and again."""

    schema: Mapping[str, pl.DataType]
    rows: int
    _source: pl.DataFrame | Path

    @staticmethod
    def from_table(given: Any) -> Spine:
        """Make a spine from a pandas, Polars or Arrow table, or from the path of a Parquet file.

        Raises TerminalError if it is none of these or cannot be read.
        """
        if isinstance(given, Spine):
            return given
        if isinstance(given, str | Path):
            return _of_file(Path(given))
        frame = _frame(given)
        return Spine(frame.schema, frame.height, frame)

    def pieces(self, rows: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
        """Yield the rows in order, at most so many at a time. There is at least one piece, which may be empty."""
        if isinstance(self._source, pl.DataFrame):
            yield from self._source.iter_slices(rows) if self.rows else [self._source]
            return
        with pq.ParquetFile(self._source) as file:
            found = False
            for batch in file.iter_batches(rows, columns=list(self.schema)):
                found = True
                yield pl.DataFrame(batch)
            if not found:
                yield pl.DataFrame(file.schema_arrow.empty_table()).select(list(self.schema))

    def select(self, columns: Sequence[str]) -> Spine:
        """Return a spine with some of the columns."""
        chosen = self._source.select(columns) if isinstance(self._source, pl.DataFrame) else self._source
        return Spine({name: self.schema[name] for name in columns}, self.rows, chosen)

    def time(self, asked: str | None, preferred: str | None = None) -> str:
        """The name of the time column: the given one, or ``preferred``, or Feast's, or the only column of times.

        Raises DefinitionError if there is no such column.
        """
        times = [name for name, dtype in self.schema.items() if isinstance(dtype, pl.Datetime)]
        for name in [asked] if asked is not None else [preferred, FEASTS]:
            if name in times:
                return str(name)
        if asked is None and len(times) == 1:
            return times[0]
        what = f"no time column {asked!r}" if asked is not None else "no one time column"
        message = f"the spine has {what}: its columns of times are {times or 'none'}; name one with time=…"
        raise DefinitionError(message)


def _of_file(path: Path) -> Spine:
    try:
        with pq.ParquetFile(path) as file:
            schema = pl.DataFrame(file.schema_arrow.empty_table()).schema
            return Spine(schema, file.metadata.num_rows, path)
    except (OSError, pa.ArrowInvalid) as error:
        raise TerminalError(f"the spine {path} cannot be read as a Parquet file: {error}") from error


def _frame(given: Any) -> pl.DataFrame:
    if isinstance(given, pl.DataFrame):
        return given
    if isinstance(given, pl.LazyFrame):
        collected: pl.DataFrame = given.collect()
        return collected
    if isinstance(given, pa.Table | pa.RecordBatch):
        return pl.DataFrame(given)
    if type(given).__module__.partition(".")[0] == "pandas":
        try:
            converted: pl.DataFrame = pl.from_pandas(given)
        except (TypeError, pa.ArrowException) as error:
            raise TerminalError(f"the spine's columns have no one type each: {error}") from error
        return converted
    message = f"a spine is a pandas, Polars or Arrow table, or the path of a Parquet file; this is a {type(given)}"
    raise TerminalError(message)


def keys_of(piece: pl.DataFrame, wanted: Mapping[str, str]) -> pl.DataFrame:
    """Return the join keys in the types that views have. ``wanted`` maps each to its kind, str or int.

    Raises DefinitionError.
    """
    if NO_KEY in wanted and NO_KEY not in piece.columns:
        piece = piece.with_columns(pl.Series(NO_KEY, [NO_KEY_VALUE] * piece.height, pl.String))
    missing = [name for name in wanted if name not in piece.columns]
    if missing:
        message = f"the spine lacks the join keys {missing}; it has {piece.columns}, and needs {list(wanted)}"
        raise DefinitionError(message)
    return piece.select(_key(piece.get_column(name), kind) for name, kind in wanted.items())


def _key(column: pl.Series, kind: str) -> pl.Series:
    is_text = isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum)
    fits = column.dtype.is_integer() if kind == "int" else is_text
    if not fits and column.dtype != pl.Null:
        message = f"the spine's join key {column.name!r} is {column.dtype}; the views have it as {kind}: cast it"
        raise DefinitionError(message)
    try:
        return column.cast(_TYPES[kind])
    except pl.exceptions.InvalidOperationError as error:
        message = f"the spine's join key {column.name!r} is {column.dtype}, with values beyond 64 bits"
        raise DefinitionError(message) from error


def times_us(piece: pl.DataFrame, name: str) -> np.ndarray:
    """Return the time of each row in microseconds. Times without a zone are UTC.

    Raises TerminalError if a time is missing.
    """
    column = piece.get_column(name)
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        message = f"the spine's time {name!r} is missing in {column.null_count():,} rows, the first is row {row:,}"
        raise TerminalError(message)
    times: np.ndarray = column.dt.epoch("us").to_numpy().astype(np.int64)
    return times
