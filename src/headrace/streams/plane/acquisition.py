"""Acquiring the cursors of a partition's views, and bringing up to date the views that are behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.cursor import CursorState
from headrace.streams.plane.catch_up import SliceOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.features.online.store import OnlineStore
    from headrace.streams.plane.catch_up import CatchUp
    from headrace.streams.plane.partition import OwnedPartition
    from headrace.streams.plane.partitions import Partitions
    from headrace.streams.views.view_partition import ViewPartition


class Acquisition:
    """Acquires partitions for one worker: ASSIGNED or REFUSED → CATCHING_UP or LIVE.

    ``new_owner`` returns a new id for each acquisition. ``publish`` puts the definitions into the store; it is called
    before each acquisition, as a store may have lost them.
    """

    def __init__(
        self,
        partitions: Partitions,
        store: OnlineStore,
        catch_up: CatchUp,
        *,
        new_owner: Callable[[], bytes],
        publish: Callable[[], None],
    ) -> None:
        self._partitions, self._store, self._catch_up = partitions, store, catch_up
        self._new_owner, self._publish = new_owner, publish

    def acquire(self, owned: OwnedPartition) -> None:
        """Acquire every cursor of the partition. Begin to fold the rows of the log and the buffer beyond the cursors.

        After a refused write the partition is REFUSED, and is tried again later. Raises OnlineStoreUnavailableError.
        """
        owned.behind = []
        self._acquire_cursors(owned, owned.views)
        self._begin(owned, owned.views)

    def follow(self, owned: OwnedPartition, views: Sequence[ViewPartition]) -> None:
        """Give the partition these views. Acquire the cursors of new views, and do not touch those of views that left.

        If the store does not answer, the partition is REFUSED, and is tried again later.
        """
        new = [view for view in views if view not in owned.views]
        owned.views = list(views)
        owned.behind = [view for view in owned.behind if view in views]
        if not owned.is_written:
            return
        try:
            self._acquire_cursors(owned, new)
            self._begin(owned, new)
        except OnlineStoreUnavailableError:
            self._partitions.refuse(owned)

    def suspend(self, owned: OwnedPartition) -> None:
        """Write *rebuilding* into every cursor of a partition that nobody reads. Raises OnlineStoreUnavailableError.

        A cursor that another worker has acquired, or that does not exist, is not changed.
        """
        self._store.write([write for view in owned.views for write in view.suspended()])

    def acquire_suspended(self, owned: OwnedPartition) -> None:
        """Acquire the cursors of a partition that cannot be read, and :meth:`suspend` it."""
        self._acquire_cursors(owned, owned.views)
        self.suspend(owned)

    def advance(self, *, alone: bool = False) -> bool:
        """Fold one slice for views that are behind. Return False if there is no slice to fold now.

        ``alone``: True if no live view waits meanwhile; the slice is larger then.
        """
        turn = self._catch_up.advance(alone=alone)
        if turn is None:
            return False
        if turn.outcome is SliceOutcome.REFUSED:
            self._partitions.refuse(turn.owned)
        elif turn.outcome is SliceOutcome.CAUGHT_UP:
            self._partitions.caught_up(turn.owned)
            if turn.owned.source.is_import:  # nothing comes to it any more
                for view in turn.owned.views:
                    view.memory.drop(view.source)
        return True

    def _acquire_cursors(self, owned: OwnedPartition, views: Sequence[ViewPartition]) -> None:
        owner = self._new_owner()
        self._publish()
        for view in views:
            view.acquire(owner, owned.partition_count)

    def _begin(self, owned: OwnedPartition, views: Sequence[ViewPartition]) -> None:
        """Write *rebuilding* into the cursors of views that are behind, before any of their fields is read.

        So there is a cursor wherever fields are written. The code that removes a view's keys relies on this.
        """
        behind = [view for view in views if view.position < owned.next_offset]
        marks = [(view, write) for view in behind for write in view.marked(CursorState.REBUILDING)]
        up_to_date = [view for view in views if view not in behind and not view.is_live]
        marks += [(view, write) for view in up_to_date for write in view.marked(CursorState.LIVE)]
        if not all(self._store.write([write for _, write in marks])):
            self._partitions.refuse(owned)
            return
        for view, write in marks:
            view.applied(write)
        self._partitions.begin(owned, [view for view in owned.views if view in behind or view in owned.behind])
        self._catch_up.begin(owned)
