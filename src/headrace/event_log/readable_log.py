"""The ways of reading an event log: all rows, some offsets, piece by piece, or the rows that are new."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import polars as pl
import pyarrow.dataset as ds

from headrace.bus.nested_columns import picked, stored
from headrace.bus.source_partition import NO_CLOCK
from headrace.errors import NotInLogYetError
from headrace.event_log.by_source import by_source
from headrace.event_log.columns import IDENTITY
from headrace.event_log.files import NO_END, OffsetRange, read_local
from headrace.event_log.table import has_column, local_folder, no_rows, with_defaults

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from deltalake import DeltaTable

    from headrace.bus.source_partition import SourcePartition

_AHEAD = 2


def _identified(columns: Sequence[str]) -> list[str]:
    """Return the columns that identify a row, then the given ones."""
    return list(dict.fromkeys([*IDENTITY, *columns]))


def _check(topic: str, table: DeltaTable, columns: Sequence[str] | None) -> None:
    """Raise NotInLogYetError if the table lacks a column: workers with another definition have written it so far."""
    missing = sorted(name for name in set(columns or ()) if not has_column(table, name))
    if missing:
        message = (
            f"the event log of {topic!r} at {table.table_uri} has no column {', '.join(map(repr, missing))} yet: a "
            "worker that is started with this definition adds it"
        )
        raise NotInLogYetError(message)


class ReadableLog(ABC):
    """The reads of an event log or of a snapshot of it. Every read may raise OfflineStoreUnavailableError.

    A column that is asked for may be a field of a nested event, such as ``card.country``. If the log lacks the table or
    a column that is asked for, they raise NotInLogYetError, which is one.
    """

    namespace: str
    """The namespace whose workers write the log."""

    @abstractmethod
    def newest(self, topic: str, known: DeltaTable | None = None) -> DeltaTable:
        """Return the version of the table to read. ``known`` is a handle that the caller already has; it is updated."""

    @abstractmethod
    def storage(self, topic: str, *, passing: type[Exception] | tuple[()] = ()) -> AbstractContextManager[None]:
        """Turn what the storage raises inside the block into OfflineStoreUnavailableError, except ``passing``."""

    @abstractmethod
    def visible(self, topic: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the part of these rows that the log shows. Every read passes its rows through this method."""

    @abstractmethod
    def rows(self, topic: str, table: DeltaTable, uris: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
        """Return these columns of some files of a topic's table. They include the ones that identify a row."""

    @abstractmethod
    def undone(self, topic: str) -> Collection[SourcePartition]:
        """Return the imports of a topic that were undone. Its table has no rows of them any more, or soon."""

    def snapshot(self, earlier: LogSnapshot | None = None) -> LogSnapshot:
        """Return a snapshot of this log. In it, each topic stays as it is at its first read.

        It takes the handles of an ``earlier`` snapshot, which must not be read any more: updating one is cheaper than
        opening it.
        """
        return LogSnapshot(self, earlier)

    def reader(self, topic: str, columns: Sequence[str] | None = None) -> LogReader:
        """Return a reader that returns each row once.

        Its rows have ``columns`` and the columns that identify a row; with None they have all columns.
        """
        return LogReader(self, topic, columns)

    def read(self, topic: str) -> pl.DataFrame:
        """Return all rows of one version of the table. The rows of each source partition are in order."""
        return self.reader(topic).read()

    def read_from(
        self,
        topic: str,
        source: SourcePartition,
        start: int,
        end: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Return the rows of one source partition at offsets from ``start`` to below ``end``, in order.

        Files whose statistics lie outside of these offsets are not read.
        """
        span = OffsetRange(source.partition, start, NO_END if end is None else end)
        with self.storage(topic):
            table = self.newest(topic)
            _check(topic, table, columns)
            here = local_folder(table)
            if here is None:
                frame = self.select(topic, span.keeps(ds.field), columns)
            else:
                schema = no_rows(table).schema
                paths = [here / name for name in span.files(table)]
                read = stored(_identified(columns)) if columns else list(schema)
                found = read_local(paths, schema, read, span.keeps(pl.col))
                frame = self.visible(topic, with_defaults(found, table))
        frame = frame.filter(pl.col("__topic_id") == source.topic_id)
        frame = frame if frame.get_column("__offset").is_sorted() else frame.sort("__offset")
        return picked(frame, columns) if columns else frame

    def clock_us(self, topic: str, source: SourcePartition, position: int) -> int:
        """Return ``available_at`` of the last row below a position, NO_CLOCK if there is none.

        Raises OfflineStoreUnavailableError.
        """
        if position == 0:
            return NO_CLOCK
        columns = ["__available_at"]
        last = self.read_from(topic, source, position - 1, position, columns)
        if last.is_empty():  # a gap was accepted there
            last = self.read_from(topic, source, 0, position, columns)
        latest: int | None = last.get_column("__available_at").dt.epoch("us").max()  # type: ignore[assignment]
        return NO_CLOCK if latest is None else latest

    def select(self, topic: str, keep: ds.Expression | None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the rows that a filter keeps. The rows of each source partition are in order.

        They have ``columns`` and the columns that identify a row; with None they have all columns. Files whose
        statistics lie outside of the filter are not read.
        """
        wanted = _identified(columns) if columns else None
        with self.storage(topic):
            table = self.newest(topic)
            _check(topic, table, wanted)
            found = table.to_pyarrow_dataset().to_table(columns=wanted and stored(wanted), filter=keep)
        rows = self.visible(topic, with_defaults(pl.DataFrame(found), table))
        rows = rows.sort("__partition", "__topic_id", "__offset")
        return picked(rows, wanted) if wanted else rows

    def scan(self, topic: str, columns: Sequence[str], keep: ds.Expression | None = None) -> Iterator[pl.DataFrame]:
        """Yield the rows of :meth:`select` in pieces, unordered. Only a few pieces of a file are in memory at once."""
        wanted = _identified(columns)
        with self.storage(topic):
            table = self.newest(topic)
            _check(topic, table, wanted)
            pieces = table.to_pyarrow_dataset().to_batches(
                columns=stored(wanted), filter=keep, batch_readahead=_AHEAD, fragment_readahead=1
            )
            for piece in pieces:
                if piece.num_rows:
                    yield picked(self.visible(topic, with_defaults(pl.DataFrame(piece), table)), wanted)


class LogSnapshot(ReadableLog):
    """A log at one moment: each topic stays as it was at the first read of this snapshot.

    Use one when several reads must see the same rows, for example of a topic that has both features and labels.
    """

    def __init__(self, log: ReadableLog, earlier: LogSnapshot | None = None) -> None:
        self._log = log
        self.namespace = log.namespace
        self._tables: dict[str, DeltaTable] = {}
        self._known: dict[str, DeltaTable] = {} if earlier is None else earlier.handles

    @property
    def handles(self) -> dict[str, DeltaTable]:
        """The handles of all topics that this snapshot has read, or was made with."""
        return {**self._known, **self._tables}

    def newest(self, topic: str, known: DeltaTable | None = None) -> DeltaTable:
        """Return the table as it was at the first read of this snapshot. ``known`` is not used."""
        del known
        if topic not in self._tables:
            self._tables[topic] = self._log.newest(topic, self._known.get(topic))
        return self._tables[topic]

    def storage(self, topic: str, *, passing: type[Exception] | tuple[()] = ()) -> AbstractContextManager[None]:
        """Use the log's own block."""
        return self._log.storage(topic, passing=passing)

    def visible(self, topic: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that the log shows."""
        return self._log.visible(topic, rows)

    def rows(self, topic: str, table: DeltaTable, uris: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
        """Return the rows of these files from the log."""
        return self._log.rows(topic, table, uris, columns)

    def undone(self, topic: str) -> Collection[SourcePartition]:
        """Return the imports that were undone by now."""
        return self._log.undone(topic)


class LogReader:
    """Reads the rows of a table once each: every call of :meth:`read` returns the rows that are new since the last one.

    Compaction rewrites files. Rows are identified by their offsets, so no row comes twice and no row is missed. The
    columns are the ones that were asked for, or else those of the first call, even if the table gets new ones later.

    If an import was undone whose rows were returned, the next call returns all rows of the table again, and
    ``restarts`` is one more: the rows of the calls before do not count any more.
    """

    def __init__(self, log: ReadableLog, topic: str, columns: Sequence[str] | None = None) -> None:
        self._log = log
        self._topic = topic
        self._columns: list[str] = _identified(columns) if columns else []
        self._nothing: pl.DataFrame | None = None
        self._table: DeltaTable | None = None
        self._seen: set[str] = set()
        self._next: dict[SourcePartition, int] = {}
        self.restarts = 0

    def read(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """Return the rows that are new since the last call, from the log or from a later ``snapshot`` of it.

        The rows of each source partition are in order.
        """
        log = snapshot or self._log
        with log.storage(self._topic):
            table = snapshot.newest(self._topic) if snapshot else log.newest(self._topic, self._table)
            self._table = self._table if snapshot else table  # a snapshot's handle is never updated
            uris = set(table.file_uris())
            if self._nothing is None:  # nothing is read before the table has all columns
                self._columns = self._columns or no_rows(table).columns
                _check(self._topic, table, self._columns)
                self._nothing = picked(no_rows(table), self._columns)
            if self._seen - uris and self._has_undone(log):
                self._seen, self._next, self.restarts = set(), {}, self.restarts + 1
            fresh = sorted(uris - self._seen)
            frame = log.rows(self._topic, table, fresh, self._columns) if fresh else self._nothing
        self._seen = uris  # only now: after a failure of the storage the same files are read again
        return frame if frame.is_empty() else self._only_new(frame)

    def positions(self) -> Mapping[SourcePartition, int]:
        """Return for each source partition the offset below which every row was read."""
        return dict(self._next)

    def _has_undone(self, log: ReadableLog) -> bool:
        """Return whether an import was undone whose rows were read. It is asked when files have gone."""
        imports = {source for source in self._next if source.is_import}
        return bool(imports) and not imports.isdisjoint(log.undone(self._topic))

    def _only_new(self, frame: pl.DataFrame) -> pl.DataFrame:
        parts = []
        for source, part in by_source(frame).items():
            seen = int(part.get_column("__offset").search_sorted(self._next.get(source, 0)))
            new = part[seen:]
            if not new.is_empty():
                self._next[source] = new.get_column("__offset").item(-1) + 1
            parts.append(new)
        return pl.concat(parts)
