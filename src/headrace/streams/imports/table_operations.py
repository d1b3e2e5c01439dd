"""What the rows of files do to a table: each is an upsert, unless a column says that its row is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.bus.stream_spec import AVAILABLE_AT, DELETE, OPERATION, UPSERT
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.bus.table import Table
    from headrace.streams.imports.file_pieces import FilePiece

_TRUTHS = {"true": True, "false": False}


class TableOperations:
    """Gives the rows of the files of one import their operations. ``column`` is true for a deleted row; None: none is.

    A deleted row has to be there as a whole, with its key. The log keeps its key alone, as of any delete.
    """

    def __init__(self, table: Table, column: str | None = None) -> None:
        self._table, self.column = table, column
        own = {*table.key_fields, table.available_field, table.event_time}
        self._emptied = [each.name for each in table.columns if each.name not in own]

    def marked(self, fields: pl.DataFrame, piece: FilePiece) -> pl.DataFrame:
        """Return the fields of rows with their operations. Raises SettingsError for a column that is not true or false.

        A null means that the row is there.
        """
        deleted = np.zeros(fields.height, bool)
        if self.column is not None:
            found = self._of_lines(piece.lines) if piece.columns is None else self._of_column(piece, self.column)
            deleted[: len(found)] = found.fill_null(value=False).to_numpy()
        operations = pl.Series(OPERATION, np.where(deleted, DELETE, UPSERT), pl.String)
        return fields.insert_column(0, operations)

    def finished(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the log's rows, of which those that delete have a key and the time at which they were available."""
        if self.column is None:
            return rows
        is_there = pl.col(OPERATION) == UPSERT
        emptied = [pl.when(is_there).then(name).alias(name) for name in self._emptied]
        if self._table.has_event_time:
            at = self._table.event_time
            emptied.append(pl.when(is_there).then(at).otherwise(AVAILABLE_AT).alias(at))
        return rows.with_columns(emptied)

    def _of_column(self, piece: FilePiece, name: str) -> pl.Series:
        columns = pl.DataFrame() if piece.columns is None else piece.columns
        if name not in columns.columns:
            raise SettingsError(f"--deleted {name}: the files have no such column; they have {columns.columns}")
        column = columns.get_column(name)
        if column.dtype == pl.String:
            texts = column.str.to_lowercase()
            wrong = texts.filter(texts.is_not_null() & ~texts.is_in([*_TRUTHS, ""]))
            if wrong.len():
                raise SettingsError(f"--deleted {name}: the column has {wrong[0]!r}; write true, false or nothing")
            column = texts == "true"
        if column.dtype != pl.Boolean:
            raise SettingsError(f"--deleted {name}: the column is {column.dtype}; it has to be true or false")
        return column

    def _of_lines(self, lines: Sequence[bytes]) -> pl.Series:
        kind = msgspec.defstruct("Marked", [("is_deleted", bool | None, msgspec.field(name=self.column, default=None))])
        decode: Any = msgspec.json.Decoder(kind).decode

        def marked(line: bytes) -> bool:
            try:
                return bool(decode(line).is_deleted)
            except msgspec.ValidationError as error:
                raise SettingsError(f"--deleted {self.column}: a line has no true or false there: {error}") from error
            except (msgspec.MsgspecError, RecursionError):  # it is rejected as a line
                return False

        return pl.Series([marked(line) for line in lines], dtype=pl.Boolean)
