"""Rows of files to rows of the event log: each gets its time and its verdict, as a record of the bus does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
from msgspec import UNSET

from headrace.bus.formats.json_format import Json
from headrace.bus.source_partition import NO_CLOCK
from headrace.bus.table import Table
from headrace.event_log.columns import ACCEPTED, DUPLICATE
from headrace.streams.imports.column_fields import ColumnFields, check_columns
from headrace.streams.imports.table_operations import TableOperations
from headrace.streams.imports.wire_rows import WireRows
from headrace.streams.plane.record_judge import PartitionRecords, PartitionRun, RecordJudge
from headrace.streams.plane.seen_ids import RecordIds, SeenIds, unique_values

if TYPE_CHECKING:
    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream
    from headrace.streams.imports.availability import Availability
    from headrace.streams.imports.file_pieces import FilePiece

NO_TIME = "the row has no time at which it was available"


class ImportJudge:
    """Judges rows of the files of one import. Whatever the format of the stream, a row or a line is plain JSON."""

    def __init__(
        self, stream: Stream, available: Availability, zone: str | None = None, *, deleted: str | None = None
    ) -> None:
        self._stream, self._available = stream, available
        self._operations = TableOperations(stream, deleted) if isinstance(stream, Table) else None
        self._judge = RecordJudge(replace(stream, format=Json()))
        self._wire = WireRows(stream.event, stream.columns, zone)
        self._columns = ColumnFields(stream.event, self._wire, zone)

    def wanted(self, there: Sequence[str]) -> list[str]:
        """Return the columns to read of a file that has these."""
        found = [self._wire.column(field, there) for field in self._stream.columns]
        own = [self._available.column, None if self._operations is None else self._operations.column]
        return [name for name in dict.fromkeys([*found, *own]) if name is not None and name in there]

    def check(self, there: Sequence[str], where: str) -> None:
        """Raise SettingsError if a file lacks a column that every row needs."""
        infos = msgspec.structs.fields(self._stream.event)
        check_columns(there, self._wire, {info.name: info for info in infos if not info.required}, where)

    def rows(self, piece: FilePiece, source: SourcePartition) -> pl.DataFrame:
        """Return the log's rows of a piece in order of the time when they were available, with offsets from 0.

        A row without a time stands beside the row before it in the file. Raises SettingsError for a column of times
        without a zone.
        """
        values, fields, errors = self.decoded(piece)
        times = self._available.times(fields, piece)
        if self._operations is not None:
            fields = self._operations.marked(fields, piece)
        for row in np.flatnonzero(times == NO_CLOCK).tolist():
            errors.setdefault(row, NO_TIME)
        times = filled(times)
        order = np.argsort(times, kind="stable")
        if (order[1:] < order[:-1]).any():
            places = np.empty_like(order)
            places[order] = np.arange(len(order))
            fields, times = fields[order], times[order]
            errors = {int(places[row]): problem for row, problem in errors.items()}
        records = PartitionRecords(np.arange(len(times)), times, NoKeys(len(times)), Reordered(values, order))
        run = PartitionRun(source, len(times), int(times[0]) if len(times) else NO_CLOCK)
        rows = self._judge.judge_fields([run], records, fields, errors)
        return rows if self._operations is None else self._operations.finished(rows)

    def new_ids(self) -> SeenIds | None:
        """Return the ids that an import has had before its first row: none. None for a stream without ``unique=``."""
        within_us = self._stream.spec.within_us
        return None if within_us is UNSET else SeenIds(within_us)

    def without_duplicates(self, rows: pl.DataFrame, seen: SeenIds | None) -> pl.DataFrame:
        """Return the next rows of an import with the verdict *duplicate* on those whose id it has ``seen``."""
        if seen is None:
            return rows
        values, is_whole = unique_values(self._stream, rows)
        own = np.flatnonzero(is_whole & (rows.get_column("__verdict") == ACCEPTED).to_numpy())
        clocks = rows.get_column("__available_at").to_physical().to_numpy()
        found = np.zeros(rows.height, bool)
        found[own] = seen.duplicates(RecordIds.of(values, clocks).take(own))
        return rows.with_columns(
            pl.when(pl.Series(found)).then(pl.lit(DUPLICATE)).otherwise(pl.col(name)).alias(name)
            for name in ("__verdict", "__reason")
        )

    def decoded(self, piece: FilePiece) -> tuple[Sequence[bytes], pl.DataFrame, dict[int, str]]:
        """Return the bytes of the rows as records, their fields, and the errors of those that do not decode."""
        if piece.columns is None:
            return piece.lines, *self._judge.fields(piece.lines)
        values = _Lazy(self._wire, piece)
        quick = None
        if self._columns.is_possible:
            quick = self._columns.fields(piece.columns, piece.others, is_text=piece.is_text)
        if quick is None:
            fields, errors = self._judge.fields(values.lines())
        else:
            fields, errors = self._mended(*quick, values)
        for place, _ in enumerate(piece.broken, piece.columns.height):
            errors[place] = "the line has another number of columns"
        if piece.broken:
            fields = pl.concat([fields, pl.DataFrame(schema=fields.schema).clear(len(piece.broken))])
        return values, fields, errors

    def _mended(self, fields: pl.DataFrame, good: pl.Series, values: _Lazy) -> tuple[pl.DataFrame, dict[int, str]]:
        """Read the rows that are not surely right like records."""
        if good.all():
            return fields, {}
        others = np.flatnonzero(~good.to_numpy())
        found, errors = self._judge.fields(values.lines(others))
        at = pl.Series("__row", others)
        mended = (
            fields.with_row_index("__row")
            .cast({"__row": pl.Int64})
            .update(found.with_columns(at), on="__row", include_nulls=True)
        )
        return mended.drop("__row"), {int(others[row]): problem for row, problem in errors.items()}


class _Lazy(Sequence[bytes]):
    """The rows of a table as records, which are written when they are asked for: most never are."""

    def __init__(self, wire: WireRows, piece: FilePiece) -> None:
        self._wire, self._piece = wire, piece

    def lines(self, rows: np.ndarray | None = None) -> list[bytes]:
        columns = self._piece.columns
        assert columns is not None  # noqa: S101 - only tables have lazy rows
        chosen = columns if rows is None else columns[rows]
        return self._wire.lines(chosen, self._piece.other_values(rows), is_text=self._piece.is_text)

    def __len__(self) -> int:
        return self._piece.height

    def __getitem__(self, row: Any) -> Any:
        height = self._piece.height - len(self._piece.broken)
        return self._piece.broken[row - height] if row >= height else self.lines(np.array([row]))[0]


class Reordered(Sequence[bytes]):
    """Records in another order. Only those that are asked for are looked up."""

    def __init__(self, values: Sequence[bytes], order: np.ndarray) -> None:
        self._values, self._order = values, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, row: Any) -> Any:
        return self._values[int(self._order[row])]


class NoKeys(Sequence[None]):
    """The keys of rows of files: there are none."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: Any) -> Any:
        return None


def filled(times: np.ndarray) -> np.ndarray:
    """Return times with that of the row before in place of none, or of the row after at the beginning, or 1970."""
    known = times != NO_CLOCK
    if known.all():
        return times
    if not known.any():
        return np.zeros_like(times)
    last = np.maximum.accumulate(np.where(known, np.arange(len(times)), -1))
    return times[np.where(last < 0, int(np.argmax(known)), last)]
