"""Taking the views' cursors of a partition, and again whenever a fence says no; bringing up to date what is behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.cursor import CursorState
from headrace.streams.plane.catch_up import CatchUp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.event_log.event_log import EventLog
    from headrace.features.online.store import OnlineStore
    from headrace.streams.plane.flusher import Flusher
    from headrace.streams.plane.partition import OwnedPartition
    from headrace.streams.plane.retries import Retries
    from headrace.streams.views.view_partition import ViewPartition


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
        self._store, self._retries = store, retries
        self._new_owner, self._publish = new_owner, publish
        self._catch_up = CatchUp(store, log, flushers, self.later, piece_rows=catch_up_rows)

    def acquire(self, owned: OwnedPartition) -> None:
        """Take every cursor of the partition, and begin to fold what the log and the buffer have beyond it.

        A write that is refused on the way means another try later. Raises what the store raises.
        """
        owned.behind = []
        self._take_cursors(owned, owned.views)
        self._begin(owned, owned.views)

    def follow(self, owned: OwnedPartition, views: Sequence[ViewPartition]) -> None:
        """The partition has these views now: begin with those that are new, leave those alone that are gone.

        A store that does not answer means another try later.
        """
        new = [view for view in views if view not in owned.views]
        owned.views = list(views)
        owned.behind = [view for view in owned.behind if view in views]
        if self.waiting(owned.place):
            return
        try:
            self._take_cursors(owned, new)
            self._begin(owned, new)
        except OnlineStoreUnavailableError:
            self.later(owned)

    def _take_cursors(self, owned: OwnedPartition, views: Sequence[ViewPartition]) -> None:
        owner = self._new_owner()
        self._publish()
        for view in views:
            view.acquire(owner, owned.partitions)

    def _begin(self, owned: OwnedPartition, views: Sequence[ViewPartition]) -> None:
        """Say *rebuilding* in the cursors of views that are behind, before anything of them is read.

        So a cursor stands wherever fields are written: what removes a view's keys looks for it.
        """
        behind = [view for view in views if view.position < owned.next_offset]
        marks = [(view, write) for view in behind for write in view.marked(CursorState.REBUILDING)]
        up_to_date = [view for view in views if view not in behind and not view.is_live]
        marks += [(view, write) for view in up_to_date for write in view.marked(CursorState.LIVE)]
        if not all(self._store.write([write for _, write in marks])):
            self.later(owned)
            return
        for view, write in marks:
            view.applied(write)
        owned.behind = [view for view in owned.views if view in behind or view in owned.behind]
        self._catch_up.begin(owned)

    def advance(self, *, alone: bool = False) -> bool:
        """Fold one slice of what is behind; False if there is none at hand."""
        return self._catch_up.advance(alone=alone)

    def close(self) -> None:
        """End what runs beside."""
        self._catch_up.close()

    # -- again ------------------------------------------------------------------------------------------------------

    def later(self, owned: OwnedPartition) -> None:
        """Acquire again after the next polls, which tell whether the partition is still ours."""
        self._catch_up.forget(owned.place)
        self._retries.later(owned.place)

    def suspend(self, owned: OwnedPartition, *, take: bool = False) -> None:
        """Say in every cursor that the partition is *rebuilding*, as nobody reads it.

        ``take``: the cursors are not ours yet. One that is another's by now, or not there, is left alone.
        """
        if take:
            self._take_cursors(owned, owned.views)
        self._store.write([write for view in owned.views for write in view.suspended()])

    def waiting(self, place: tuple[str, int]) -> bool:
        """Whether the partition has yet to be acquired again."""
        return place in self._retries

    def held(self, owned: OwnedPartition) -> None:
        """A heartbeat was applied: the partition is really ours, and the next trouble is a new one."""
        self._retries.settled(owned.place)

    def forget(self, place: tuple[str, int]) -> None:
        """The partition is no longer ours."""
        self._catch_up.forget(place)
        self._retries.forget(place)

    def due(self) -> list[tuple[str, int]]:
        """The partitions to be acquired again now."""
        return self._retries.due()
