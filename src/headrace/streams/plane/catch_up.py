"""Views that are behind their partition: brought up to it from the log and the buffer, a slice at a time.

Between two slices the worker reads, folds what is live, and beats. How far a view has come is its cursor, so whatever
ends the work, it goes on from there.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import polars as pl
import structlog

from headrace.base.waiting import UntilAvailable
from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.cursor import CursorState
from headrace.streams.plane.failpoints import failpoint
from headrace.streams.views.logged_rows import LoggedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from headrace.event_log.event_log import EventLog
    from headrace.features.online.store import OnlineStore
    from headrace.streams.plane.flusher import Flusher
    from headrace.streams.plane.partition import OwnedPartition
    from headrace.streams.views.view_partition import ViewPartition

_SLICE_ROWS, _ALONE_ROWS = 10_000, 100_000
"""What the live views wait for at most: about 10 ms a view; and what is folded at once where none of them has to wait.

A slice writes each entity that it has rows of once, so larger ones are cheaper."""
logger = structlog.get_logger(__name__)


class CatchUp:
    """Goes round the partitions that have views behind. The log is read ``piece_rows`` at a time, on a thread.

    ``again`` is called with a partition whose write was refused or not answered: it has to be acquired again.
    """

    def __init__(
        self,
        store: OnlineStore,
        log: EventLog,
        flushers: Mapping[str, Flusher],
        again: Callable[[OwnedPartition], None],
        *,
        piece_rows: int,
        slice_rows: int = _SLICE_ROWS,
    ) -> None:
        self._store, self._log, self._flushers, self._again = store, log, flushers, again
        self._piece, self._slice, self._rows = piece_rows, slice_rows, slice_rows
        self._work: dict[tuple[str, int], tuple[OwnedPartition, Iterator[bool]]] = {}
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="catch-up")
        self._closed = threading.Event()
        self._patiently = UntilAvailable(self._closed)

    def begin(self, owned: OwnedPartition) -> None:
        """Take up what is behind in a partition, anew if it was under way."""
        self._work.pop(owned.place, None)
        if owned.behind:
            self._work[owned.place] = owned, self._slices(owned)

    def forget(self, place: tuple[str, int]) -> None:
        """Leave a partition as it is."""
        self._work.pop(place, None)

    def advance(self, *, alone: bool = False) -> bool:
        """Fold one slice of the partition whose turn it is; False if no partition has one at hand.

        ``alone``: nothing live waits for it.
        """
        self._rows = max(self._slice, _ALONE_ROWS) if alone else self._slice
        for place in list(self._work):
            owned, slices = self._work.pop(place)  # its next turn comes after the others'
            self._work[place] = owned, slices
            if self._step(owned, slices):
                return True
        return False

    def _step(self, owned: OwnedPartition, slices: Iterator[bool]) -> bool:
        try:
            folded = next(slices, False)
        except OnlineStoreUnavailableError as error:
            logger.warning("catching up was not answered", place=owned.place, error=str(error))
            self._again(owned)
            return False
        if not owned.behind:
            self.forget(owned.place)
        return folded

    def close(self) -> None:
        """End the thread."""
        self._work.clear()
        self._closed.set()
        self._reads.shutdown(cancel_futures=True)

    # -- one partition ----------------------------------------------------------------------------------------------

    def _slices(self, owned: OwnedPartition) -> Iterator[bool]:
        """True after each slice, False while the log is read. Those nearest to the end go first, together."""
        while owned.behind:
            position = max(view.position for view in owned.behind)
            views = [view for view in owned.behind if view.position == position]
            columns = list(dict.fromkeys(column for view in views for column in view.columns))
            for found in self._beyond(owned, position, columns):
                if found is not None and not self._fold(owned, views, *found):
                    return
                yield found is not None
                if views[0] not in owned.behind:
                    break  # live: from now on each batch folds what comes

    def _beyond(
        self, owned: OwnedPartition, position: int, columns: Sequence[str]
    ) -> Iterator[tuple[pl.DataFrame, int] | None]:
        """The rows from a position on, in slices, each with its end: of the log, or of what it does not have yet.

        Those of the log have these columns alone.

        What is flushed while the last piece is read is kept: else a log that is slower to read than it is flushed would
        be read for ever.
        """
        flusher = self._flushers[owned.topic]
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
    ) -> Iterator[tuple[pl.DataFrame, int] | None]:
        """While a piece is folded the next one is read: never more than two are in memory."""
        reading = self._read(owned, start, end, columns)
        for piece_ends in (*range(start + self._piece, end, self._piece), end):
            while not reading.done():
                yield None
            rows = reading.result()
            if piece_ends < end:
                reading = self._read(owned, piece_ends, end, columns)
            yield from self._cut(rows, piece_ends)

    def _read(self, owned: OwnedPartition, start: int, end: int, columns: Sequence[str]) -> Future[pl.DataFrame]:
        ends = min(start + self._piece, end)
        read = partial(self._log.read_from, owned.topic, owned.source, start, ends, columns)
        return self._reads.submit(self._patiently, read)

    def _buffered(
        self, owned: OwnedPartition, parts: Sequence[pl.DataFrame], position: int
    ) -> Iterator[tuple[pl.DataFrame, int]]:
        end = position
        while newer := [part for part in parts if part.get_column("__offset").item(-1) >= end]:
            rows = pl.concat(newer)
            end = rows.get_column("__offset").item(-1) + 1
            yield from self._cut(rows, end)
        if end == position:
            yield self._log.empty(owned.topic), owned.next_offset

    def _cut(self, rows: pl.DataFrame, end: int) -> Iterator[tuple[pl.DataFrame, int]]:
        while rows.height > self._rows:
            part, rows = rows.slice(0, self._rows), rows.slice(self._rows)
            yield part, part.get_column("__offset").item(-1) + 1
        yield rows, end

    def _fold(self, owned: OwnedPartition, views: Sequence[ViewPartition], rows: pl.DataFrame, end: int) -> bool:
        """The writes of one slice; live with the one that reaches the partition's position. False if one is refused."""
        is_live = end >= owned.next_offset
        state = CursorState.LIVE if is_live else CursorState.REBUILDING
        logged = {name: LoggedRows.of(rows, name) for name in {view.event_time for view in views}}
        folds = [(view, write) for view in views for write in view.fold(logged[view.event_time], end, state)]
        failpoint("before-catch-up")
        applied = self._store.write([write for _, write in folds])
        failpoint("after-catch-up")
        if not all(applied):
            logger.warning("write refused while catching up", place=owned.place)
            self._again(owned)
            return False
        for view, write in folds:
            view.applied(write)
        if is_live:
            owned.behind = [view for view in owned.behind if view not in views]
        return True
