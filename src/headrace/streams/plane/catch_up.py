"""Views that are behind their partition catch up from the log and the buffer, a slice at a time.

Between two slices the worker reads, folds into the live views, and writes heartbeats. A view's cursor says how far the
view has come. So an interrupted catch-up always goes on from the cursor.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import polars as pl
import structlog

from headrace.base.failpoints import failpoint
from headrace.base.waiting import UntilAvailable
from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.cursor import CursorState
from headrace.streams.plane.partition import PartitionPhase
from headrace.streams.views.logged_rows import LoggedRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from headrace.features.online.store import OnlineStore
    from headrace.streams.plane.logged_stream import LoggedStream
    from headrace.streams.plane.partition import OwnedPartition, Place
    from headrace.streams.views.view_partition import ViewPartition

_SLICE_ROWS, _ALONE_ROWS = 10_000, 100_000
"""The rows of a slice if live views wait for it (about 10 ms for each view), and if no live view waits.

A slice writes each of its entities once, so larger slices are cheaper."""
logger = structlog.get_logger(__name__)


class SliceOutcome(Enum):
    """The outcome of one turn of a partition that catches up."""

    READING = "the log is still being read: there is nothing to fold yet"
    FOLDED = "a slice was folded and written"
    CAUGHT_UP = "a slice was folded and written, and no view is behind any more"
    REFUSED = "a write was refused or not answered: the cursors have to be acquired again"


@dataclass(frozen=True)
class CatchUpTurn:
    """One turn: the partition whose turn it was, and the outcome."""

    owned: OwnedPartition
    outcome: SliceOutcome


@dataclass(frozen=True)
class _LogSlice:
    """Rows of one partition that end below ``end``."""

    rows: pl.DataFrame
    end: int


class CatchUp:
    """Goes round the partitions whose phase is CATCHING_UP. A thread reads the log, ``piece_rows`` at a time.

    Work that was begun is given up when its partition leaves that phase.
    """

    def __init__(
        self,
        store: OnlineStore,
        streams: Mapping[str, LoggedStream],
        *,
        piece_rows: int,
        slice_rows: int = _SLICE_ROWS,
    ) -> None:
        self._store, self._streams = store, streams
        self._piece, self._slice, self._rows = piece_rows, slice_rows, slice_rows
        self._work: dict[Place, tuple[OwnedPartition, Iterator[SliceOutcome]]] = {}
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="catch-up")
        self._closed = threading.Event()
        self._until_available = UntilAvailable(self._closed)

    def begin(self, owned: OwnedPartition) -> None:
        """Begin with the views of a partition that are behind. Work on it that was under way starts again."""
        self._work.pop(owned.place, None)
        if owned.behind:
            self._work[owned.place] = owned, self._slices(owned)

    def advance(self, *, alone: bool = False) -> CatchUpTurn | None:
        """Fold one slice of the partition whose turn it is. Return None if no partition has a slice to fold now.

        ``alone``: True if no live view waits meanwhile; the slice is larger then. The outcome is never READING.
        """
        self._rows = max(self._slice, _ALONE_ROWS) if alone else self._slice
        for place in list(self._work):
            owned, slices = self._work.pop(place)
            if owned.phase is not PartitionPhase.CATCHING_UP:
                continue
            outcome = self._step(owned, slices)
            if outcome in {SliceOutcome.READING, SliceOutcome.FOLDED}:
                self._work[place] = owned, slices  # its next turn comes after the others'
            if outcome is not SliceOutcome.READING:
                return CatchUpTurn(owned, outcome)
        return None

    def _step(self, owned: OwnedPartition, slices: Iterator[SliceOutcome]) -> SliceOutcome:
        try:
            outcome = next(slices, SliceOutcome.CAUGHT_UP)
        except OnlineStoreUnavailableError as error:
            logger.warning("catching up was not answered", place=owned.place, error=str(error))
            return SliceOutcome.REFUSED
        return outcome if owned.behind else SliceOutcome.CAUGHT_UP

    def close(self) -> None:
        """End the thread."""
        self._work.clear()
        self._closed.set()
        self._reads.shutdown(cancel_futures=True)

    # -- one partition ----------------------------------------------------------------------------------------------

    def _slices(self, owned: OwnedPartition) -> Iterator[SliceOutcome]:
        """Yield the outcome of each turn. The views with the largest position go first, together."""
        while owned.behind:
            position = max(view.position for view in owned.behind)
            views = [view for view in owned.behind if view.position == position]
            columns = list(dict.fromkeys(column for view in views for column in view.columns))
            for part in self._beyond(owned, position, columns):
                yield SliceOutcome.READING if part is None else self._fold(owned, views, part)
                if views[0] not in owned.behind:
                    break  # live: from now on each batch folds what comes

    def _beyond(self, owned: OwnedPartition, position: int, columns: Sequence[str]) -> Iterator[_LogSlice | None]:
        """Yield the rows from a position on: first the log's, with these columns alone, then the buffer's.

        Yield None while the log is still being read.

        Rows that are flushed while the last piece is read are kept in memory. Without this, a log that grows faster
        than it can be read would be read without end.
        """
        flusher = self._streams[owned.topic].flusher
        end_of_log = flusher.positions()[owned.source]
        if end_of_log - position > self._piece:
            yield from self._logged(owned, position, end_of_log, columns)
            return
        with flusher.keeping(owned.source) as parts:
            if position < end_of_log:
                yield from self._logged(owned, position, end_of_log, columns)
            yield from self._buffered(owned, parts, max(position, end_of_log))

    def _logged(
        self, owned: OwnedPartition, start: int, end: int, columns: Sequence[str]
    ) -> Iterator[_LogSlice | None]:
        """Yield the slices of one piece while the next piece is read. At most two pieces are in memory."""
        reading = self._read(owned, start, end, columns)
        for piece_ends in (*range(start + self._piece, end, self._piece), end):
            while not reading.done():
                yield None
            rows = reading.result()
            if piece_ends < end:
                reading = self._read(owned, piece_ends, end, columns)
            yield from self._cut(rows, piece_ends)

    def _read(self, owned: OwnedPartition, start: int, end: int, columns: Sequence[str]) -> Future[pl.DataFrame]:
        read_from, piece_ends = self._streams[owned.topic].log.read_from, min(start + self._piece, end)
        return self._reads.submit(
            self._until_available, read_from, owned.topic, owned.source, start, piece_ends, columns
        )

    def _buffered(self, owned: OwnedPartition, parts: Sequence[pl.DataFrame], position: int) -> Iterator[_LogSlice]:
        end = position
        while newer := [part for part in parts if part.get_column("__offset").item(-1) >= end]:
            rows = pl.concat(newer)
            end = rows.get_column("__offset").item(-1) + 1
            yield from self._cut(rows, end)
        if end == position:
            yield _LogSlice(self._streams[owned.topic].log.empty(owned.topic), owned.next_offset)

    def _cut(self, rows: pl.DataFrame, end: int) -> Iterator[_LogSlice]:
        while rows.height > self._rows:
            part, rows = rows.slice(0, self._rows), rows.slice(self._rows)
            yield _LogSlice(part, part.get_column("__offset").item(-1) + 1)
        yield _LogSlice(rows, end)

    def _fold(self, owned: OwnedPartition, views: Sequence[ViewPartition], part: _LogSlice) -> SliceOutcome:
        """Fold and write one slice. The slice that reaches the partition's position makes the views live."""
        is_live = part.end >= owned.next_offset
        state = CursorState.LIVE if is_live else CursorState.REBUILDING
        logged = {name: LoggedRows.from_rows(part.rows, name) for name in {view.event_time for view in views}}
        folds = [(view, write) for view in views for write in view.fold(logged[view.event_time], part.end, state)]
        failpoint("before-catch-up")
        applied = self._store.write([write for _, write in folds])
        failpoint("after-catch-up")
        if not all(applied):
            logger.warning("write refused while catching up", place=owned.place)
            return SliceOutcome.REFUSED
        for view, write in folds:
            view.applied(write)
        if is_live:
            owned.behind = [view for view in owned.behind if view not in views]
        return SliceOutcome.FOLDED
