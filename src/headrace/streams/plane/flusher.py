"""The unflushed rows of one stream, and their commits to the event log, which run while the loop folds."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from headrace.base.failpoints import failpoint
from headrace.errors import FencedError, OfflineStoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.log_writer import LogWriter


@dataclass
class UnflushedRows:
    """The rows of one source partition that are not in the log: offsets [flushed, consumed).

    ``row_count``: how many rows these are.
    ``kept``: the rows that :meth:`Flusher.keeping` has given out, which a commit does not remove.
    """

    flushed: int | None
    consumed: int
    rows: list[pl.DataFrame]
    row_count: int = 0
    kept: list[pl.DataFrame] | None = None

    @property
    def is_due(self) -> bool:
        """True if a commit has to write something of the partition: rows, or that no record is left."""
        return bool(self.rows) or self.consumed > (self.flushed or 0)


@dataclass(frozen=True)
class _PendingCommit:
    """One commit under way: for each partition the expected D, the new D, and the number of buffered frames in it."""

    expected: Mapping[SourcePartition, int | None]
    positions: Mapping[SourcePartition, int]
    frames: Mapping[SourcePartition, int]


@dataclass(frozen=True)
class FinishedCommit:
    """One commit that was made: its rows, and the seconds that it took."""

    rows: int
    seconds: float


@dataclass(frozen=True)
class FlushResult:
    """The outcome of the commits that have ended since the last result was returned.

    ``fenced``: partitions whose D another worker has moved. Their buffered rows are gone,
    :meth:`Flusher.positions` has the new D, and Kafka has to be read again from there.
    """

    commits: Sequence[FinishedCommit]
    fenced: Sequence[SourcePartition]


class Flusher:
    """Buffers rows by source partition and commits them, one commit at a time, on a thread of its own.

    :meth:`collect`, :meth:`settle` and :meth:`flush` each return the outcome of all commits that have ended since the
    last of these calls returned. Nothing is lost when one of them raises: the next one returns it.
    :meth:`open` and :meth:`close` also wait for the commit under way. Collect its outcome before more rows are added.
    """

    def __init__(self, writer: LogWriter, monotonic: Callable[[], float]) -> None:
        self._writer, self._monotonic = writer, monotonic
        self._unflushed: dict[SourcePartition, UnflushedRows] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._running: tuple[_PendingCommit, Future[FinishedCommit]] | None = None
        self._commits: list[FinishedCommit] = []
        self._fenced: list[SourcePartition] = []

    @property
    def pending(self) -> int:
        """The number of rows that are not in the log yet."""
        return sum(unflushed.row_count for unflushed in self._unflushed.values())

    def open(self, source: SourcePartition) -> int | None:
        """Begin with a partition. Return D, from which it must be consumed, or None if the log has nothing of it."""
        self._finish()
        self._writer.refresh()
        position = self._writer.position(source)
        self._unflushed[source] = UnflushedRows(position, position or 0, [])
        return position

    def close(self, source: SourcePartition) -> None:
        """Forget a partition with its unflushed rows."""
        self._finish()
        self._unflushed.pop(source, None)

    def add(self, source: SourcePartition, rows: pl.DataFrame, next_offset: int) -> None:
        """Buffer rows of a partition that end below ``next_offset``."""
        unflushed = self._unflushed[source]
        unflushed.rows.append(rows)
        unflushed.row_count += rows.height
        unflushed.consumed = next_offset
        if unflushed.kept is not None:
            unflushed.kept.append(rows)

    def pass_by(self, source: SourcePartition, next_offset: int) -> None:
        """Note that no record is left below an offset. The next commit moves D to it, also one without rows."""
        self._unflushed[source].consumed = next_offset

    @contextlib.contextmanager
    def keeping(self, source: SourcePartition) -> Iterator[Sequence[pl.DataFrame]]:
        """Yield a list of the partition's rows from D on, in order.

        Rows that are added meanwhile are appended to the list. A commit does not remove rows from it.
        """
        unflushed = self._unflushed[source]
        unflushed.kept = kept = list(unflushed.rows)
        try:
            yield kept
        finally:
            if unflushed.kept is kept:
                unflushed.kept = None

    def positions(self) -> dict[SourcePartition, int]:
        """Return D of each open partition."""
        return {source: unflushed.flushed or 0 for source, unflushed in self._unflushed.items()}

    # -- commits ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin a commit of everything buffered, unless one is under way or nothing is buffered."""
        due = {source: unflushed for source, unflushed in self._unflushed.items() if unflushed.is_due}
        if self._running is not None or not due:
            return
        commit = _PendingCommit(
            {source: unflushed.flushed for source, unflushed in due.items()},
            {source: unflushed.consumed for source, unflushed in due.items()},
            {source: len(unflushed.rows) for source, unflushed in due.items()},
        )
        frames = [frame for unflushed in due.values() for frame in unflushed.rows]
        rows = pl.concat(frames) if frames else self._writer.no_rows()
        self._running = commit, self._thread.submit(self._append, rows, commit)

    def collect(self) -> FlushResult:
        """Process the outcome of the commit under way if it has ended.

        If the commit failed, raises OfflineStoreUnavailableError; its rows stay buffered.
        """
        if self._running is not None and self._running[1].done():
            self._finish()
        return self._result()

    def settle(self) -> FlushResult:
        """Wait for the commit under way, if there is one. Raises as :meth:`collect` does."""
        self._finish()
        return self._result()

    def flush(self) -> FlushResult:
        """Commit everything and wait. Raises as :meth:`collect` does."""
        self._finish()
        for _ in range(len(self._unflushed) + 1):  # a refused commit is tried again without the fenced partitions
            self.start()
            self._finish()
        return self._result()

    def commit(self) -> set[SourcePartition]:
        """Commit everything and wait. Return the fenced partitions, whose rows were dropped.

        The outcome is returned by the next :meth:`collect` too. Raises as :meth:`collect` does.
        """
        result = self.flush()
        self._commits, self._fenced = list(result.commits), list(result.fenced)
        return set(result.fenced)

    def shutdown(self) -> None:
        """End the thread."""
        with contextlib.suppress(OfflineStoreUnavailableError):
            self._finish()
        self._thread.shutdown(wait=True)

    def _append(self, rows: pl.DataFrame, commit: _PendingCommit) -> FinishedCommit:
        failpoint("before-delta")
        began = self._monotonic()
        self._writer.append(rows, commit.expected, commit.positions)
        finished = FinishedCommit(rows.height, self._monotonic() - began)
        failpoint("after-delta")
        return finished

    def _finish(self) -> None:
        if self._running is None:
            return
        (commit, future), self._running = self._running, None
        try:
            self._commits.append(future.result())
        except FencedError:
            self._drop_fenced(commit)
            return
        for source, frames in commit.frames.items():
            unflushed = self._unflushed[source]
            unflushed.row_count -= sum(frame.height for frame in unflushed.rows[:frames])
            del unflushed.rows[:frames]
            unflushed.flushed = commit.positions[source]

    def _drop_fenced(self, commit: _PendingCommit) -> None:
        """Ask the log for each partition's D. If it is not the expected D, drop the buffered rows of the partition."""
        self._writer.reopen()
        positions = {source: self._writer.position(source) for source in commit.expected if source in self._unflushed}
        for source, position in positions.items():
            if position != commit.expected[source]:
                self._unflushed[source] = UnflushedRows(position, position or 0, [])
                self._fenced.append(source)

    def _result(self) -> FlushResult:
        result = FlushResult(self._commits, self._fenced)
        self._commits, self._fenced = [], []
        return result
