"""The event log: one Delta table for each stream. It is the truth and the only restart point.

A commit contains its rows and, as Delta transactions ``<topic id>-<partition>``, the offsets up to which the log is
complete. The columns in ``META`` are added to the event's own fields. A rejected row keeps its bytes.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from headrace.base.place_names import check_folder_name
from headrace.bus.control_topics import DEFAULT_NAMESPACE
from headrace.bus.nested_columns import conformed, picked, stored
from headrace.bus.source_partition import SourcePartition
from headrace.errors import LogDamagedError, NotInLogYetError, OfflineStoreUnavailableError
from headrace.event_log.columns import IMPORTS_TABLE, log_schema
from headrace.event_log.durable_commit import make_durable
from headrace.event_log.files import read_local, read_remote
from headrace.event_log.readable_log import ReadableLog
from headrace.event_log.table import local_folder, missing_columns, no_rows, remote_files, with_defaults

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from headrace.bus.stream import Stream

_ATTEMPTS = 10


class EventLog(ReadableLog):
    """The tables of all streams of a namespace under one folder or URL.

    ``ends`` pins topics: topic → source partition → the offset below which its rows are visible. A manifest has such
    ends, so its rows can be read again. Topics without ends show all their rows. Raises SettingsError for a folder
    whose name cannot be used.
    """

    def __init__(
        self,
        url: str | Path,
        storage_options: Mapping[str, str] | None = None,
        *,
        ends: Mapping[str, Mapping[SourcePartition, int]] | None = None,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> None:
        check_folder_name(url, "the event log")
        self._url = str(url).rstrip("/")
        self._options = dict(storage_options or {}) or None
        self._ends = ends or {}
        self.namespace = namespace

    @property
    def url(self) -> str:
        """The folder or URL of the log."""
        return self._url

    @property
    def storage_options(self) -> dict[str, str] | None:
        """The options of the storage, or None."""
        return self._options

    def path(self, topic: str) -> str:
        """The folder or URL of a topic's table."""
        return f"{self._url}/{topic}"

    def folder(self, topic: str) -> Path | None:
        """Return the folder of a topic's table; None if it is in remote storage."""
        return None if "://" in self._url else Path(self.path(topic))

    def forget_missing_files(self, topic: str, reason: str) -> None:
        """Commit that files which are listed, but do not exist, have no rows. Raises OfflineStoreUnavailableError."""
        with self.storage(topic):
            table = self.table(topic)
            table.repair(commit_properties=CommitProperties(custom_metadata={"headrace.reason": reason}))
            make_durable(table)

    def create(self, stream: Stream) -> None:
        """Make the table if there is none, or add the columns that the stream's event type has and the table lacks.

        Several workers may call it at once. Raises OfflineStoreUnavailableError, and DefinitionError if a field has
        another type than in the log, or if it is new and has no default for earlier events.
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
        message = (
            f"the event log at {self.path(stream.topic)} was changed by others during every attempt to add columns: "
            "try again"
        )
        raise OfflineStoreUnavailableError(message)

    def _create(self, stream: Stream) -> DeltaTable:
        empty = pl.DataFrame(schema=log_schema(stream)).to_arrow(compat_level=pl.CompatLevel.oldest())
        try:
            write_deltalake(self.path(stream.topic), empty, mode="ignore", storage_options=self._options)
        except DeltaError:
            if not self.exists(stream.topic):  # otherwise another worker was first
                raise
        return DeltaTable(self.path(stream.topic), storage_options=self._options)

    def _evolved(self, table: DeltaTable, stream: Stream) -> bool:
        """Add missing columns. Return False if another worker changed the table at the same time."""
        missing = missing_columns(stream, log_schema(stream), table)
        if missing is not None:
            try:
                write_deltalake(table, missing.empty_table(), mode="append", schema_mode="merge")
            except CommitFailedError:
                return False
        return True

    @contextmanager
    def storage(self, topic: str, *, passing: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        """Turn what the storage raises inside the block into OfflineStoreUnavailableError, except ``passing``.

        A file that cannot be read raises LogDamagedError, which is one.
        """
        try:
            yield
        except passing:
            raise
        except (pl.exceptions.ComputeError, pa.ArrowException) as error:
            message = (
                f"a file of the event log of {topic!r} at {self.path(topic)} cannot be read: {error}; "
                "`headrace doctor` names it, and `headrace repair --restore` makes its rows again from Kafka"
            )
            raise LogDamagedError(message) from error
        except (DeltaError, OSError) as error:
            message = (
                f"the event log of {topic!r} at {self.path(topic)} does not answer: {error}; if it stays so, "
                "`headrace doctor` says why"
            )
            raise OfflineStoreUnavailableError(message) from error

    def exists(self, topic: str) -> bool:
        """Return whether the topic has a table. Raises OfflineStoreUnavailableError."""
        with self.storage(topic):
            return DeltaTable.is_deltatable(self.path(topic), self._options)

    def table(self, topic: str) -> DeltaTable:
        """Return a fresh handle of a topic's table. Raises OfflineStoreUnavailableError, and NotInLogYetError."""
        try:
            with self.storage(topic, passing=TableNotFoundError):
                return DeltaTable(self.path(topic), storage_options=self._options)
        except TableNotFoundError as error:
            message = (
                f"the event log has no table of {topic!r} yet, at {self.path(topic)}: a worker makes it when it "
                "starts. If one has run with the same `event_log`, its storage is away, or is another one"
            )
            raise NotInLogYetError(message) from error

    def newest(self, topic: str, known: DeltaTable | None = None) -> DeltaTable:
        """Return a handle of the newest version of the table: the updated ``known`` handle, or a fresh one.

        Raises OfflineStoreUnavailableError.
        """
        if known is None:
            return self.table(topic)
        with self.storage(topic):
            known.update_incremental()
        return known

    def rows(self, topic: str, table: DeltaTable, uris: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
        """Return these columns of some files of a topic's table. They include the ones that identify a row."""
        names, here = [uri.rpartition("/")[2] for uri in uris], local_folder(table)
        if here is None:
            there = remote_files(table, self._options)
            empty = no_rows(table).select(stored(columns))
            parts = [conformed(read_remote(there, name, empty.columns), empty.schema) for name in names]
            found = pl.concat([empty, *parts])
        else:
            found = read_local([here / name for name in names], no_rows(table).schema, stored(columns))
        return picked(self.visible(topic, with_defaults(found, table)), columns)

    def visible(self, topic: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows below the topic's ``ends``, or all rows if it has none."""
        below = self._ends.get(topic)
        if below is None:
            return rows
        own = (
            (pl.col("__partition") == source.partition)
            & (pl.col("__topic_id") == source.topic_id)
            & (pl.col("__offset") < end)
            for source, end in below.items()
        )
        return rows.filter(pl.any_horizontal(pl.lit(value=False), *own))

    def undone(self, topic: str) -> Collection[SourcePartition]:
        """Return the imports of a topic that were undone. Raises OfflineStoreUnavailableError."""
        if not self.exists(IMPORTS_TABLE):
            return set()
        table = self.table(IMPORTS_TABLE)
        with self.storage(IMPORTS_TABLE):
            rows = pl.DataFrame(table.to_pyarrow_table(columns=["id", "topic", "what"]))
        ids = rows.filter((pl.col("topic") == topic) & (pl.col("what") == "undone")).get_column("id")
        return {SourcePartition.from_text(each) for each in ids.to_list()}

    def empty(self, topic: str) -> pl.DataFrame:
        """Return no rows, with all columns of the table."""
        return no_rows(self.table(topic))
