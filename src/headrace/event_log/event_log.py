"""The event log: one Delta table a stream, the truth and the only restart point.

A commit carries its rows and, as Delta transactions ``<topic id>-<partition>``, the offsets up to which the log is
complete. Columns beside the event's own fields are in :data:`META`; a rejected row keeps its bytes.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Self

import polars as pl
import pyarrow.dataset as ds
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from headrace.bus.codec import schema
from headrace.errors import OfflineStoreUnavailableError
from headrace.event_log.by_source import by_source
from headrace.event_log.files import NO_END, OffsetRange, read_here, read_there
from headrace.event_log.table import elsewhere, filled, folder, missing_columns, no_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream

_TIME = pl.Datetime("us", "UTC")
META: dict[str, Any] = {
    "__topic_id": pl.Binary(),
    "__partition": pl.Int32(),
    "__offset": pl.Int64(),
    "__record_timestamp": _TIME,
    "__available_at": _TIME,
    "__verdict": pl.String(),
    "__reason": pl.String(),
    "__error": pl.String(),
    "__key": pl.Binary(),
    "__value": pl.Binary(),
}
_IDENTITY = ("__topic_id", "__partition", "__offset", "__verdict")
ACCEPTED, REJECTED = "accepted", "rejected"
_ATTEMPTS = 10
_AHEAD = 2


def _identified(columns: Sequence[str]) -> list[str]:
    """These columns, after those that tell who a row is."""
    return list(dict.fromkeys([*_IDENTITY, *columns]))


def log_schema(stream: Stream) -> dict[str, Any]:
    """The Polars schema of a stream's table: :data:`META`, then the event's fields."""
    return META | schema(stream)


class EventLog:
    """The tables of all streams under one folder or URL."""

    def __init__(self, url: str | Path, storage_options: Mapping[str, str] | None = None) -> None:
        self._url = str(url).rstrip("/")
        self._options = dict(storage_options or {}) or None
        self._held: dict[str, DeltaTable] | None = None

    def one_look(self) -> Self:
        """This log as of one look: however often a topic is read, its rows are those of the first time.

        Until :meth:`look_again`.
        """
        same = copy(self)
        same._held = {}  # noqa: SLF001 - its own
        return same

    def look_again(self) -> None:
        """Of a log as of one look: from now on each topic is as it is when it is read next."""
        if self._held is not None:
            self._held = {}

    def path(self, topic: str) -> str:
        """Where the table of a topic lies."""
        return f"{self._url}/{topic}"

    def create(self, stream: Stream) -> None:
        """Make the table if there is none, or give it the columns that the stream's event type has beyond it.

        Several workers may do so at once. Raises OfflineStoreUnavailableError, and DefinitionError where a field has
        another type than in the log, or is new and says nothing of the events before it.
        """
        with self.storage(stream.topic):
            try:
                table = DeltaTable(self.path(stream.topic), storage_options=self._options)
            except TableNotFoundError:
                table = self._create(stream)
            for _ in range(_ATTEMPTS):
                if self._evolved(table, stream):
                    return
                table.update_incremental()
        message = f"the event log at {self.path(stream.topic)} changes under each attempt to add columns: try again"
        raise OfflineStoreUnavailableError(message)

    def _create(self, stream: Stream) -> DeltaTable:
        empty = pl.DataFrame(schema=log_schema(stream)).to_arrow(compat_level=pl.CompatLevel.oldest())
        try:
            write_deltalake(self.path(stream.topic), empty, mode="ignore", storage_options=self._options)
        except DeltaError:
            if not self.exists(stream.topic):  # else another worker was first
                raise
        return DeltaTable(self.path(stream.topic), storage_options=self._options)

    def _evolved(self, table: DeltaTable, stream: Stream) -> bool:
        """Whether the table has all columns now; not if another worker changed it at the same time."""
        missing = missing_columns(stream, log_schema(stream), table)
        if missing is not None:
            try:
                write_deltalake(table, missing.empty_table(), mode="append", schema_mode="merge")
            except CommitFailedError:
                return False
        return True

    @contextmanager
    def storage(self, topic: str, *, passing: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        """Whatever the storage raises within, as OfflineStoreUnavailableError; ``passing`` is let through."""
        try:
            yield
        except passing:
            raise
        except (DeltaError, OSError) as error:
            message = f"the event log of {topic!r} at {self.path(topic)} does not answer: {error}"
            raise OfflineStoreUnavailableError(message) from error

    def exists(self, topic: str) -> bool:
        """Whether the topic has a table. Raises OfflineStoreUnavailableError."""
        with self.storage(topic):
            return DeltaTable.is_deltatable(self.path(topic), self._options)

    def table(self, topic: str) -> DeltaTable:
        """A fresh handle. Raises OfflineStoreUnavailableError."""
        with self.storage(topic):
            return DeltaTable(self.path(topic), storage_options=self._options)

    def newest(self, topic: str, known: DeltaTable | None = None) -> DeltaTable:
        """The state of the table to read, by the handle that is ``known`` where there is one.

        Raises OfflineStoreUnavailableError.
        """
        if self._held is not None:
            if topic not in self._held:
                self._held[topic] = self.table(topic)
            return self._held[topic]
        if known is None:
            return self.table(topic)
        with self.storage(topic):
            known.update_incremental()
        return known

    def reader(self, topic: str, columns: Sequence[str] | None = None) -> LogReader:
        """A reader that remembers what it has read: of ``columns``, and of who a row is; or of all there are."""
        return LogReader(self, topic, columns)

    def read(self, topic: str) -> pl.DataFrame:
        """All rows of one snapshot, each source partition's in order."""
        return self.reader(topic).read()

    def read_from(
        self,
        topic: str,
        source: SourcePartition,
        start: int,
        end: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """The rows of one source partition at offsets from ``start`` to below ``end``, in order, of one snapshot.

        Files that lie outside of it are not read.
        """
        span = OffsetRange(source.partition, start, NO_END if end is None else end)
        with self.storage(topic):
            table = self.newest(topic)
            here = folder(table)
            if here is None:
                frame = self.select(topic, span.keeps(ds.field), columns)
            else:
                schema = no_rows(table).schema
                paths = [here / name for name in span.files(table)]
                found = read_here(paths, schema, _identified(columns) if columns else list(schema), span.keeps(pl.col))
                frame = self._visible(topic, filled(found, table))
        frame = frame.filter(pl.col("__topic_id") == source.topic_id)
        frame = frame if frame.get_column("__offset").is_sorted() else frame.sort("__offset")
        return frame.select(columns) if columns else frame

    def select(self, topic: str, keep: ds.Expression | None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows of one snapshot that a filter keeps, each source partition's in order.

        They have ``columns`` and who a row is, or all there are. Files that lie outside of the filter by their
        statistics are not read.
        """
        read = _identified(columns) if columns else None
        with self.storage(topic):
            table = self.newest(topic)
            found = table.to_pyarrow_dataset().to_table(columns=read, filter=keep)
        rows = self._visible(topic, filled(pl.DataFrame(found), table))
        return rows.sort("__partition", "__topic_id", "__offset")

    def scan(self, topic: str, columns: Sequence[str], keep: ds.Expression | None = None) -> Iterator[pl.DataFrame]:
        """:meth:`select`, some rows at a time and in no order: no more than a few pieces of a file are in memory."""
        read = _identified(columns)
        with self.storage(topic):
            table = self.newest(topic)
            pieces = table.to_pyarrow_dataset().to_batches(
                columns=read, filter=keep, batch_readahead=_AHEAD, fragment_readahead=1
            )
            for piece in pieces:
                if piece.num_rows:
                    yield self._visible(topic, filled(pl.DataFrame(piece), table))

    def rows(self, topic: str, table: DeltaTable, uris: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
        """The rows of some files of a topic's table, with these columns, among them who a row is."""
        names, here = [uri.rpartition("/")[2] for uri in uris], folder(table)
        if here is None:
            there = elsewhere(table, self._options)
            parts = [read_there(there, name, columns) for name in names]
            found = pl.concat([no_rows(table).select(columns), *parts], how="diagonal")
        else:
            found = read_here([here / name for name in names], no_rows(table).schema, columns)
        return self._visible(topic, filled(found, table))

    def _visible(self, topic: str, rows: pl.DataFrame) -> pl.DataFrame:  # noqa: ARG002 - a log of pins asks for it
        """The rows that this log has: all of them. Every read of rows goes through here."""
        return rows

    def empty(self, topic: str) -> pl.DataFrame:
        """No rows, with all columns of the table."""
        return no_rows(self.table(topic))


class LogReader:
    """Reads a table's rows once each: every call of :meth:`read` returns what came since the last one.

    Compaction rewrites files; rows are told apart by their offsets, so no row comes twice or is missed. The columns are
    those of the first call, whatever the table gets later.
    """

    def __init__(self, log: EventLog, topic: str, columns: Sequence[str] | None = None) -> None:
        self._log = log
        self._topic = topic
        self._columns: list[str] = _identified(columns) if columns else []
        self._table: DeltaTable | None = None
        self._seen: set[str] = set()
        self._next: dict[SourcePartition, int] = {}

    def read(self) -> pl.DataFrame:
        """The rows that came since the last call, each source partition's in order."""
        with self._log.storage(self._topic):
            table = self._table = self._log.newest(self._topic, self._table)
            uris = set(table.file_uris())
            self._columns = self._columns or no_rows(table).columns
            fresh = sorted(uris - self._seen)
            frame = (
                self._log.rows(self._topic, table, fresh, self._columns)
                if fresh
                else no_rows(table).select(self._columns)
            )
        self._seen = uris  # only now: a storage that failed is read again
        return frame if frame.is_empty() else self._only_new(frame)

    def positions(self) -> Mapping[SourcePartition, int]:
        """The offsets below which everything was read."""
        return dict(self._next)

    def _only_new(self, frame: pl.DataFrame) -> pl.DataFrame:
        parts = []
        for source, part in by_source(frame).items():
            seen = int(part.get_column("__offset").search_sorted(self._next.get(source, 0)))
            new = part[seen:]
            if not new.is_empty():
                self._next[source] = new.get_column("__offset").item(-1) + 1
            parts.append(new)
        return pl.concat(parts)
