"""The fenced handle through which one process appends to one stream's table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pyarrow.dataset as ds
from deltalake import CommitProperties, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError

from headrace.errors import FencedError
from headrace.event_log.durable_commit import make_durable
from headrace.event_log.table import with_all_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog

_WRITING = WriterProperties(compression="SNAPPY", max_row_group_size=65_536)
"""A commit has the rows of one partition after the other, so reading one partition needs few row groups."""


class LogWriter:
    """The handle through which one process appends to one stream's table.

    It is a fence. If another process has committed to one of the partitions since this handle saw the table,
    :meth:`append` raises FencedError. The handle follows its own commits.
    """

    def __init__(self, log: EventLog, stream: Stream) -> None:
        log.create(stream)
        self._log = log
        self._topic = stream.topic
        self._table = log.table(stream.topic)

    def position(self, source: SourcePartition) -> int | None:
        """Return D, the offset below which this version of the log is complete.

        Return None if the log has nothing of the partition.
        """
        with self._log.storage(self._topic):
            return self._table.transaction_version(source.text)

    def cut(self, source: SourcePartition) -> int | None:
        """Return the note in the log about a topic that ends below D, or None if there is no note.

        The note is D if a person has accepted the cut. Before that it is -1 minus the end of the topic.
        """
        with self._log.storage(self._topic):
            return self._table.transaction_version(f"{source.text}-cut")

    def has_rows(self, partition: int) -> bool:
        """Return whether the log has a row of a partition of the topic, of any incarnation.

        It reads rows until it finds one. Raises OfflineStoreUnavailableError.
        """
        found = self._log.scan(self._topic, ["__partition"], ds.field("__partition") == partition)
        return any(rows.height for rows in found)

    def refresh(self) -> None:
        """Update the handle, so that it sees the commits of other processes."""
        with self._log.storage(self._topic):
            self._table.update_incremental()

    def no_rows(self) -> pl.DataFrame:
        """Return a frame without rows, for a commit that only moves positions."""
        return self._log.empty(self._topic)

    def append(
        self,
        rows: pl.DataFrame,
        expected: Mapping[SourcePartition, int | None],
        positions: Mapping[SourcePartition, int],
    ) -> None:
        """Commit rows with the new positions. Raises FencedError unless the log stands at ``expected``."""
        self._insist(rows, expected, {source.text: position for source, position in positions.items()})

    def note(
        self,
        source: SourcePartition,
        expected: int | None,
        position: int,
        *,
        cut: int | None = None,
        why: Mapping[str, str],
    ) -> None:
        """Move a partition's position and its cut, without rows. ``why`` is written into the commit.

        Raises FencedError unless the log stands at ``expected``.
        """
        versions = {source.text: position} | ({} if cut is None else {f"{source.text}-cut": cut})
        self._insist(self.no_rows(), {source: expected}, versions, why)

    def _insist(
        self,
        rows: pl.DataFrame,
        expected: Mapping[SourcePartition, int | None],
        versions: Mapping[str, int],
        why: Mapping[str, str] | None = None,
    ) -> None:
        known = self._versions(versions)
        try:
            self._commit(rows, expected, versions, why)
        except CommitFailedError as error:
            self.refresh()  # a compaction meanwhile is not a conflict; a change of our own transactions is one
            if self._versions(versions) != known:
                raise self._fenced(str(error)) from error
            try:
                self._commit(rows, expected, versions, why)
            except CommitFailedError as again:
                raise self._fenced(str(again)) from again

    def _versions(self, names: Iterable[str]) -> list[int | None]:
        with self._log.storage(self._topic):
            return [self._table.transaction_version(name) for name in names]

    def _commit(
        self,
        rows: pl.DataFrame,
        expected: Mapping[SourcePartition, int | None],
        versions: Mapping[str, int],
        why: Mapping[str, str] | None,
    ) -> None:
        for source, position in expected.items():
            found = self.position(source)
            if found != position:
                raise self._fenced(f"partition {source.text} stands at {found}, expected {position}")
        transactions = [Transaction(name, version) for name, version in versions.items()]
        properties = CommitProperties(app_transactions=transactions, custom_metadata=dict(why) if why else None)
        with self._log.storage(self._topic, passing=CommitFailedError):
            write_deltalake(
                self._table,
                with_all_columns(rows, self._table).to_arrow(compat_level=pl.CompatLevel.oldest()),
                mode="append",
                commit_properties=properties,
                writer_properties=_WRITING,
            )
            make_durable(self._table)

    def _fenced(self, why: str) -> FencedError:
        return FencedError(f"append to the event log of {self._topic!r}: {why}; another worker owns it now")

    def reopen(self) -> None:
        """Take a fresh handle. Called after a conflict."""
        self._table = self._log.table(self._topic)
