"""Keeps the event log in shape while writers run: merges small files and deletes replaced ones.

Delta's own ``optimize`` is not used: if two run at once, both succeed and every row is there twice (measured with
deltalake 1.6). Here the rows of some offsets are replaced by the same rows, in one commit that says which rows it
replaces. Delta refuses the second of two such commits, even a late one, and accepts appends of later offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.dataset as ds
from deltalake import CommitProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from headrace.errors import FencedError, SettingsError, TerminalError
from headrace.event_log.durable_commit import make_durable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from deltalake import DeltaTable

    from headrace.event_log.event_log import EventLog

COMPACTED, VACUUMED = "headrace.compacted", "headrace.vacuumed"
"""Delta transactions whose version is the time of the last such work that had something to do, in epoch seconds."""
LEAST_RETENTION = timedelta(days=7)
_TRIES = 5
_KEY = ["__partition", "__topic_id", "__offset"]


@dataclass(frozen=True)
class CompactionSizes:
    """The sizes of a compaction. A file is small if it is below ``small_bytes`` and has fewer than half of ``rows``.

    ``rows`` also limits the rows in memory and in a new file. Fewer than ``least_files`` small files are left alone.
    """

    small_bytes: int = 64 << 20
    rows: int = 500_000
    least_files: int = 20

    def small(self, found: pl.DataFrame) -> pl.DataFrame:
        """Return the small files among these."""
        return found.filter((pl.col("bytes") < self.small_bytes) & (pl.col("rows") < self.rows / 2))


@dataclass(frozen=True)
class TableShape:
    """The state of a table. Times are seconds since the epoch; None means never."""

    topic: str
    version: int
    rows: int
    files: int
    small_files: int
    bytes: int
    compacted_s: int | None
    vacuumed_s: int | None


def table_shape(log: EventLog, topic: str, sizes: CompactionSizes | None = None) -> TableShape:
    """Return the state of a topic's table. Raises OfflineStoreUnavailableError."""
    with log.storage(topic):
        table = log.table(topic)
        found = _files(table)
        small = (sizes or CompactionSizes()).small(found)
        return TableShape(
            topic, table.version(), int(found["rows"].sum()), found.height, small.height, int(found["bytes"].sum()),
            table.transaction_version(COMPACTED), table.transaction_version(VACUUMED),
        )  # fmt: skip


def _files(table: DeltaTable) -> pl.DataFrame:
    """Return the files that have rows, the oldest first."""
    actions: Any = table.get_add_actions(flatten=True)
    found = pl.DataFrame(actions).select(
        "path", pl.col("size_bytes").alias("bytes"), pl.col("num_records").alias("rows"), "modification_time"
    )
    return found.filter(pl.col("rows") > 0).sort("modification_time", "path")


def compact(log: EventLog, topic: str, now_s: int, sizes: CompactionSizes | None = None) -> Iterator[int]:
    """Merge small files, piece by piece. Yield the number of files in each piece after it is committed.

    A piece is tried again if a writer commits meanwhile: its file may hold other rows of several partitions, and Delta
    compares only the least and the largest offset. Raises FencedError if another process replaced the same rows, or a
    writer came between each time, and then changes nothing; OfflineStoreUnavailableError; and TerminalError if the rows
    differ afterwards, which a person has to look at.
    """
    sizes = sizes or CompactionSizes()
    with log.storage(topic):
        small = sizes.small(_files(log.table(topic)))
    if small.height < sizes.least_files:
        return
    piece = (pl.col("rows").cum_sum() - 1) // sizes.rows
    for _, part in small.group_by(piece, maintain_order=True):
        if part.height > 1:
            with log.storage(topic, passing=CommitFailedError):
                _replace_patiently(log, topic, part["path"].to_list(), now_s)
        yield part.height


def _replace_patiently(log: EventLog, topic: str, paths: Sequence[str], now_s: int) -> None:
    """Replace files, and begin again if a writer came between. What another compaction replaced is not there again."""
    tries = 0
    while True:
        tries += 1
        try:
            return _replace(log.table(topic), paths, now_s)
        except FencedError:
            if tries == _TRIES or not set(paths) <= set(_files(log.table(topic))["path"]):
                raise


def _replace(table: DeltaTable, paths: Sequence[str], now_s: int) -> None:
    """Replace all rows of the offsets that these files cover by the same rows in order, in one commit."""
    ranges = _ranges(table, paths)
    before, rows = table.version(), _rows(table, ranges)
    try:
        write_deltalake(
            table,
            rows.sort_by([(name, "ascending") for name in _KEY]),
            mode="overwrite",
            predicate=" OR ".join(f"({each.sql})" for each in ranges),
            commit_properties=CommitProperties(app_transactions=[Transaction(COMPACTED, now_s)]),
        )
    except CommitFailedError as error:
        message = f"compaction of {table.table_uri}: something else replaced these rows, or wrote meanwhile: {error}"
        raise FencedError(message) from error
    make_durable(table)
    found = _rows(table, ranges, ["__offset"]).num_rows
    if found != rows.num_rows:
        message = (
            f"compaction of {table.table_uri}: there are {found:,} rows at version {table.version()} where version "
            f"{before} has {rows.num_rows:,}. Stop the workers and do not vacuum: the files of {before} are still there"
        )
        raise TerminalError(message)


@dataclass(frozen=True)
class _FileRange:
    """The offsets of one source partition from ``first`` to ``last``, both included."""

    topic_id: bytes
    partition: int
    first: int
    last: int

    @property
    def sql(self) -> str:
        """The range as a predicate of Delta."""
        return (
            f"__topic_id = X'{self.topic_id.hex()}' AND __partition = {self.partition} "
            f"AND __offset >= {self.first} AND __offset <= {self.last}"
        )

    @property
    def filter(self) -> Any:
        """The same range as a filter of Arrow."""
        offset = ds.field("__offset")
        own = (ds.field("__topic_id") == self.topic_id) & (ds.field("__partition") == self.partition)
        return own & (offset >= self.first) & (offset <= self.last)


def _ranges(table: DeltaTable, paths: Sequence[str]) -> list[_FileRange]:
    """Return the offsets that some files cover, by source partition."""
    every, own = table.to_pyarrow_dataset(), set(paths)
    files = [fragment for fragment in every.get_fragments() if fragment.path in own]
    keys = ds.FileSystemDataset(files, every.schema, every.format, every.filesystem).to_table(columns=_KEY)
    places = pl.DataFrame(keys).group_by("__topic_id", "__partition")
    found = places.agg(pl.col("__offset").min().alias("first"), pl.col("__offset").max().alias("last"))
    return [_FileRange(*row) for row in found.sort("__partition", "__topic_id").iter_rows()]


def _rows(table: DeltaTable, ranges: Sequence[_FileRange], columns: list[str] | None = None) -> pa.Table:
    keep = reduce(or_, (each.filter for each in ranges))
    return table.to_pyarrow_dataset().to_table(columns=columns, filter=keep)


def check_retention(retention: timedelta) -> None:
    """Raise SettingsError if the retention is less than seven days."""
    if retention < LEAST_RETENTION:
        message = (
            f"log_retention: {retention} is too short, as readers may need replaced files for that long: "
            f"{LEAST_RETENTION.days}d or more"
        )
        raise SettingsError(message)


def vacuum(log: EventLog, topic: str, now_s: int, retention: timedelta, *, dry_run: bool = False) -> int:
    """Delete the files that left the table longer than ``retention`` ago. Return their number.

    With ``dry_run`` they are only counted. A reader of an older version of the table loses its files, so ``retention``
    has to be longer than the longest training run. Raises SettingsError for less than seven days, and
    OfflineStoreUnavailableError.
    """
    check_retention(retention)
    with log.storage(topic):
        gone = log.table(topic).vacuum(
            -(-int(retention.total_seconds()) // 3_600),
            dry_run=dry_run,
            full=True,  # also the files of refused commits
            commit_properties=CommitProperties(app_transactions=[Transaction(VACUUMED, now_s)]),
        )
    return len({path.rpartition("/")[2] for path in gone})
