"""Taking the views' cursors of a partition, bringing them up to date, and doing so again whenever a fence says no."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from headrace.features.online import CursorState, Write
from headrace.streams.logged_rows import LoggedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import polars as pl

    from headrace.features.log import EventLog
    from headrace.features.online import OnlineStore
    from headrace.streams.flusher import Flusher
    from headrace.streams.partition import OwnedPartition
    from headrace.streams.retries import Retries
    from headrace.streams.view_partition import ViewPartition

logger = structlog.get_logger(__name__)


class Acquisition:
    """Acquires partitions for one worker. A partition that is :meth:`waiting` writes nothing until acquired again.

    ``publish`` puts the definitions into the store, at each acquisition, as a store may lose them.
    """

    def __init__(
        self,
        store: OnlineStore,
        log: EventLog,
        flushers: Mapping[str, Flusher],
        retries: Retries[tuple[str, int]],
        *,
        new_owner: Callable[[], bytes],
        publish: Callable[[], None],
        catch_up_rows: int,
    ) -> None:
        self._store, self._log, self._flushers, self._retries = store, log, flushers, retries
        self._new_owner, self._publish, self._piece = new_owner, publish, catch_up_rows

    def acquire(self, owned: OwnedPartition) -> None:
        """Take every cursor of the partition, then fold what the log and the buffer have beyond it.

        A write that is refused on the way means another try later. Raises what the stores raise.
        """
        self._take_cursors(owned)
        flusher = self._flushers[owned.topic]
        end_of_log, tail = flusher.positions()[owned.source], flusher.tail(owned.source)
        caught_up = [self._catch_up(view, owned, end_of_log, tail) for view in owned.views]
        if not all(caught_up):
            self.later(owned)

    def _take_cursors(self, owned: OwnedPartition) -> None:
        owner = self._new_owner()
        self._publish()
        for view in owned.views:
            view.acquire(owner, owned.partitions)

    def _catch_up(self, view: ViewPartition, owned: OwnedPartition, end_of_log: int, tail: list[pl.DataFrame]) -> bool:
        """Fold [cursor, D) of the log, then the buffer; False as soon as a write is refused."""
        if view.cursor.next_offset >= owned.next_offset and view.cursor.state is CursorState.LIVE:
            return True
        for piece in self._beyond(view.position, owned, end_of_log, tail):
            next_offset = piece.get_column("__offset").item(-1) + 1
            if next_offset > view.position and not self._commit(view, piece, next_offset, CursorState.REBUILDING):
                return False
        end = max(view.position, owned.next_offset)
        return self._commit(view, self._log.empty(owned.topic), end, CursorState.LIVE)

    def _beyond(
        self, position: int, owned: OwnedPartition, end_of_log: int, tail: list[pl.DataFrame]
    ) -> Iterator[pl.DataFrame]:
        """The rows from a position on, never more in memory than ``catch_up_rows`` of the log: it may be all of it."""
        for start in range(position, end_of_log, self._piece):
            rows = self._log.read_from(owned.topic, owned.source, start, min(start + self._piece, end_of_log))
            if not rows.is_empty():
                yield rows
        for part in tail:
            yield from part.iter_slices(self._piece)

    def _commit(self, view: ViewPartition, rows: pl.DataFrame, next_offset: int, state: CursorState) -> bool:
        write = view.fold(LoggedRows.of(rows, view.event_time), next_offset, state)
        applied = self._store.write([write])[0]
        if applied:
            view.cursor = write.after
        return applied

    # -- again ------------------------------------------------------------------------------------------------------

    def later(self, owned: OwnedPartition) -> None:
        """Acquire again after the next polls, which tell whether the partition is still ours."""
        self._retries.later(owned.place)

    def suspend(self, owned: OwnedPartition, *, take: bool = False) -> None:
        """Say in every cursor that the partition is *rebuilding*, as nobody reads it.

        ``take``: the cursors are not ours yet. One that is another's by now, or not there, is left alone.
        """
        if take:
            self._take_cursors(owned)
        known = [(view, view.cursor) for view in owned.views if view.cursor.next_offset >= 0]
        stopped = [
            Write(view.view, owned.source, cursor, replace(cursor, state=CursorState.REBUILDING))
            for view, cursor in known
        ]
        self._store.write(stopped)

    def waiting(self, place: tuple[str, int]) -> bool:
        """Whether the partition has yet to be acquired again."""
        return place in self._retries

    def held(self, owned: OwnedPartition) -> None:
        """A heartbeat was applied: the partition is really ours, and the next trouble is a new one."""
        self._retries.settled(owned.place)

    def forget(self, place: tuple[str, int]) -> None:
        """The partition is no longer ours."""
        self._retries.forget(place)

    def due(self) -> list[tuple[str, int]]:
        """The partitions to be acquired again now."""
        return self._retries.due()
