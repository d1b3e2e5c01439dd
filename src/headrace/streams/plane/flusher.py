"""The unflushed rows of one stream, and their way into the event log beside the running folds."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from headrace.errors import FencedError, OfflineStoreUnavailableError
from headrace.streams.plane.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.log_writer import LogWriter


@dataclass
class UnflushedRows:
    """What one source partition has beyond the log: the rows of [flushed, consumed), ``count`` in number.

    ``kept``: see :meth:`keeping`.
    """

    flushed: int | None
    consumed: int
    rows: list[pl.DataFrame]
    count: int = 0
    kept: list[pl.DataFrame] | None = None


@dataclass(frozen=True)
class _PendingCommit:
    """One append under way: what was expected, what is to be, and the parts of each tail that go with it."""

    expected: Mapping[SourcePartition, int | None]
    positions: Mapping[SourcePartition, int]
    parts: Mapping[SourcePartition, int]


class Flusher:
    """Buffers rows by source partition and appends them as one commit at a time, on a thread of its own.

    ``fenced`` is called, on the caller's thread, with each partition that another worker has flushed further or not at
    all as expected: its rows here are gone, :meth:`positions` says where the log stands, and it has to be acquired
    again. ``done`` is told the rows and the
    seconds of each commit, on the flusher's thread.
    """

    def __init__(
        self,
        writer: LogWriter,
        fenced: Callable[[SourcePartition], None],
        done: Callable[[int, float], None] = lambda _rows, _seconds: None,
    ) -> None:
        self._writer = writer
        self._fenced, self._done = fenced, done
        self._tails: dict[SourcePartition, UnflushedRows] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._running: tuple[_PendingCommit, Future[None]] | None = None

    @property
    def pending(self) -> int:
        """The number of rows not in the log yet."""
        return sum(tail.count for tail in self._tails.values())

    def open(self, source: SourcePartition) -> int | None:
        """Begin with a partition; D, the offset from which it is to be consumed, or None if the log has none of it."""
        self.settle()
        self._writer.refresh()
        position = self._writer.position(source)
        self._tails[source] = UnflushedRows(position, position or 0, [])
        return position

    def close(self, source: SourcePartition) -> None:
        """Forget a partition with its unflushed rows."""
        self.settle()
        self._tails.pop(source, None)

    def add(self, source: SourcePartition, rows: pl.DataFrame, next_offset: int) -> None:
        """Take rows of a partition that end below ``next_offset``."""
        tail = self._tails[source]
        tail.rows.append(rows)
        tail.count += rows.height
        tail.consumed = next_offset
        if tail.kept is not None:
            tail.kept.append(rows)

    @contextlib.contextmanager
    def keeping(self, source: SourcePartition) -> Iterator[Sequence[pl.DataFrame]]:
        """The rows of a partition from D on, in order, and those that are added meanwhile, flushed or not."""
        tail = self._tails[source]
        tail.kept = kept = list(tail.rows)
        try:
            yield kept
        finally:
            if tail.kept is kept:
                tail.kept = None

    def positions(self) -> dict[SourcePartition, int]:
        """D of each open partition."""
        return {source: tail.flushed or 0 for source, tail in self._tails.items()}

    def start(self) -> None:
        """Begin a commit of everything buffered, unless one is under way or nothing is there."""
        self.collect()
        due = {source: tail for source, tail in self._tails.items() if tail.rows}
        if self._running is not None or not due:
            return
        commit = _PendingCommit(
            {source: tail.flushed for source, tail in due.items()},
            {source: tail.consumed for source, tail in due.items()},
            {source: len(tail.rows) for source, tail in due.items()},
        )
        rows = pl.concat([part for tail in due.values() for part in tail.rows])
        self._running = commit, self._thread.submit(self._append, rows, commit)

    def _append(self, rows: pl.DataFrame, commit: _PendingCommit) -> None:
        failpoint("before-delta")
        began = time.monotonic()
        self._writer.append(rows, commit.expected, commit.positions)
        self._done(rows.height, time.monotonic() - began)
        failpoint("after-delta")

    def collect(self) -> bool:
        """Take in a commit that has ended, if one has. Raises OfflineStoreUnavailableError; the rows stay buffered."""
        if self._running is None or not self._running[1].done():
            return False
        commit, future = self._running
        self._running = None
        try:
            future.result()
        except FencedError:
            self._judge(commit)
            return False
        for source, parts in commit.parts.items():
            tail = self._tails[source]
            tail.count -= sum(part.height for part in tail.rows[:parts])
            del tail.rows[:parts]
            tail.flushed = commit.positions[source]
        return True

    def settle(self) -> bool:
        """Wait for the commit under way, if any."""
        if self._running is None:
            return False
        self._running[1].exception()
        return self.collect()

    def flush(self) -> None:
        """Commit everything and wait. Raises OfflineStoreUnavailableError."""
        self.settle()
        for _ in range(len(self._tails) + 1):  # each commit that is refused is tried again without what was fenced
            self.start()
            self.settle()

    def _judge(self, commit: _PendingCommit) -> None:
        """After a conflict: each partition by what the log says of it now. The rows of the others stay buffered."""
        self._writer.reopen()
        positions = {source: self._writer.position(source) for source in commit.expected if source in self._tails}
        fenced = [source for source, position in positions.items() if position != commit.expected[source]]
        for source in fenced:
            self._tails[source] = UnflushedRows(positions[source], positions[source] or 0, [])
        for source in fenced:
            self._fenced(source)

    def shutdown(self) -> None:
        """End the thread."""
        with contextlib.suppress(OfflineStoreUnavailableError):
            self.settle()
        self._thread.shutdown(wait=True)
