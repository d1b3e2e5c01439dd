"""Rows that enter the event log together, in one commit, from files that are written before it.

Until the commit, Delta does not know the files, so no reader sees a part of the rows. A process that is killed finds
the files that it has written when it begins again. Files that nobody commits go with the next vacuum.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from headrace.base.failpoints import failpoint
from headrace.errors import FencedError, OfflineStoreUnavailableError
from headrace.event_log.durable_commit import make_durable, sync
from headrace.event_log.table import local_folder, remote_files, with_all_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltalake import DeltaTable

    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog

_GROUP_ROWS = 65_536
_ATTEMPTS = 10
_RETENTION_NOTE = "headrace.import"


class StagedRows:
    """The files of one source partition that are to enter the table of a stream at once."""

    def __init__(self, log: EventLog, stream: Stream, source: SourcePartition) -> None:
        log.create(stream)
        self._log, self._topic, self._source = log, stream.topic, source
        self._table: DeltaTable = log.table(stream.topic)
        self._here = local_folder(self._table)
        self._there = remote_files(self._table, log.storage_options) if self._here is None else None

    @property
    def committed(self) -> int | None:
        """The number of rows that were committed; None before the commit."""
        with self._log.storage(self._topic):
            self._table.update_incremental()
            return self._table.transaction_version(self._source.text)

    def rows(self, number: int) -> int | None:
        """Return how many rows a file has that was written whole; None if there is no such file."""
        name = self._name(number)
        with self._log.storage(self._topic):
            if self._here is not None:
                return _height(self._here / name) if (self._here / name).exists() else None
            try:
                with self._there.open_input_file(name) as opened:  # type: ignore[union-attr]
                    return _height(opened)
            except (FileNotFoundError, OSError):
                return None

    def write(self, number: int, rows: pl.DataFrame) -> None:
        """Write a file of rows whole, or not at all. Raises OfflineStoreUnavailableError."""
        data = with_all_columns(rows, self._table).to_arrow(compat_level=pl.CompatLevel.oldest())
        name = self._name(number)
        with self._log.storage(self._topic):
            if self._here is None:
                with self._there.open_output_stream(name) as opened:  # type: ignore[union-attr]
                    _write(data, opened)
                return
            draft = self._here / f".{name}.draft"
            _write(data, draft)
            sync([draft])
            draft.replace(self._here / name)

    def commit(self, files: int, total: int, why: str) -> None:
        """Add the first files to the table, with D of the source partition, in one commit.

        Raises FencedError if somebody else has committed rows of the source partition, and
        OfflineStoreUnavailableError.
        """
        failpoint("before-import")
        with self._log.storage(self._topic, passing=CommitFailedError):
            actions = [self._action(number) for number in range(files)]
            for _ in range(_ATTEMPTS):
                if self.committed is not None:
                    raise FencedError(f"{self._topic}: the rows of {self._source.text} were committed meanwhile")
                try:
                    self._commit(actions, total, why)
                except CommitFailedError:  # a compaction may come between
                    continue
                failpoint("after-import")
                return
        raise OfflineStoreUnavailableError(
            f"{self._log.path(self._topic)} is changed by others all the time: try again"
        )

    def _commit(self, actions: Sequence[AddAction], total: int, why: str) -> None:
        self._table.create_write_transaction(
            list(actions),
            mode="append",
            schema=self._table.schema(),
            partition_by=[],
            commit_properties=CommitProperties(
                app_transactions=[Transaction(self._source.text, total)], custom_metadata={_RETENTION_NOTE: why}
            ),
        )
        self._table.update_incremental()
        make_durable(self._table)

    def _action(self, number: int) -> AddAction:
        """Return Delta's line of a file. By its statistics a read of some offsets finds its files."""
        name = self._name(number)
        if self._here is not None:
            size, meta = (self._here / name).stat().st_size, pq.read_metadata(self._here / name)
        else:
            with self._there.open_input_file(name) as opened:  # type: ignore[union-attr]
                size, meta = opened.size(), pq.read_metadata(opened)
        bounds = {column: _bounds(meta, column) for column in ("__partition", "__offset")}
        stats = {
            "numRecords": meta.num_rows,
            "minValues": {column: least for column, (least, _) in bounds.items()},
            "maxValues": {column: most for column, (_, most) in bounds.items()},
            "nullCount": dict.fromkeys(bounds, 0),
        }
        return AddAction(
            name, size, {}, int(time.time() * 1_000), data_change=True, stats=msgspec.json.encode(stats).decode()
        )

    def _name(self, number: int) -> str:
        return f"{self._source.topic_id.hex()}-{number:06}.parquet"


def _write(data: pa.Table, where: Any) -> None:
    """Write a file of Parquet. Dictionaries of numbers and times would cost half of an import, and make it larger."""
    texts: Any = [field.name for field in data.schema if _is_text(field.type)]  # pyarrow's stub knows only a bool
    pq.write_table(data, where, row_group_size=_GROUP_ROWS, compression="snappy", use_dictionary=texts)


def _is_text(kind: pa.DataType) -> bool:
    return kind in {pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}


def _height(file: Any) -> int:
    rows: int = pq.read_metadata(file).num_rows
    return rows


def _bounds(meta: Any, column: str) -> tuple[int, int]:
    place = meta.schema.to_arrow_schema().get_field_index(column)
    found = [meta.row_group(group).column(place).statistics for group in range(meta.num_row_groups)]
    return min(each.min for each in found), max(each.max for each in found)


def remove_rows(log: EventLog, topic: str, source: SourcePartition) -> None:
    """Remove all rows of a source partition from a table, in one commit. Its D stays. Doing it twice is harmless.

    Raises OfflineStoreUnavailableError.
    """
    which = f"__partition = {source.partition} AND __topic_id = X'{source.topic_id.hex()}'"
    for _ in range(_ATTEMPTS):
        with log.storage(topic, passing=CommitFailedError):
            table = log.table(topic)
            before = table.version()
            try:
                table.delete(which, commit_properties=CommitProperties(custom_metadata={_RETENTION_NOTE: "undone"}))
            except CommitFailedError:  # a worker or a compaction came between
                continue
            if table.version() != before:
                make_durable(table)
            return
    raise OfflineStoreUnavailableError(f"{log.path(topic)} is changed by others all the time: try again")
