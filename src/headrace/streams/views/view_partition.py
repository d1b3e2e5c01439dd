"""One view over one source partition: its memory, its cursors, and the writes that keep both in step.

A batch has rows of several partitions. They are folded together, and end as at most one write for each partition and
shard::

    row ──> slot: one key of one partition, in ViewMemory
             │     └── tiles of each size, in FoldedView ──> the field of the key: its bytes
             └──> home: (partition, shard of the key)
                   └── one write: the fields of all touched slots of the home, and the home's cursor
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.online.cursor import Cursor, CursorState
from headrace.features.online.store import FencedWrite, OnlineStore
from headrace.streams.views.logged_rows import FOLDED
from headrace.streams.views.view_memory import FieldsByHome, PartitionBounds, ShardFields, ShardHomes, ViewMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.streams.views.logged_rows import LoggedRows


def reach(spec: ViewSpec) -> timedelta:
    """Return how far before a view's clock a look-up can see: longest window plus history."""
    return timedelta(microseconds=spec.longest_reach_us + spec.history_us)


class ViewPartition:
    """Folds the rows of one source partition into one view. Only the partition's owner does so.

    All shards of the store share one memory. A shard without rows in a batch is not written. Its cursor follows with
    :meth:`level` and :meth:`heartbeat`; until then its position is right, as no row of the shard is in between.
    """

    def __init__(
        self,
        spec: ViewSpec,
        source: SourcePartition,
        store: OnlineStore,
        memory: ViewMemory | None = None,
        *,
        topic: str | None = None,
    ) -> None:
        """``memory``: the view's memory, which other partitions share. None: a memory of its own.

        ``topic`` is the partition's; None: that of the view's only stream.
        """
        self.topic = topic or spec.stream.topic
        self.memory = memory or ViewMemory(spec, store)
        self.view = self.memory.view
        self.source = source
        self.cursors = [Cursor(b"", -1)] * store.shards
        self.position = 0
        """The offset below which all rows are folded, here and, once the writes are applied, in the store."""
        self.clock = NO_CLOCK
        """The partition's clock at that position."""
        self._unwritten: set[int] = set()  # shards with folded rows whose write is not applied (yet)
        self._store = store
        self.event_time: str = spec.stream_of(self.topic).event_time
        self.columns = list(dict.fromkeys([*FOLDED, *spec.fields_of(self.topic)]))
        """The columns of the log that folding reads."""
        self.by_event_time = spec.clock == "stream"

    def acquire(self, owner: bytes, partitions: int) -> None:
        """Acquire the cursors, and start from the least of them. The memory of this partition is dropped."""
        self.memory.drop(self.source)
        self._unwritten.clear()
        found = self._store.acquire(self.view, self.source, owner, partitions)
        self.cursors = [cursor or Cursor(owner, -1, partitions=partitions) for cursor in found]
        self.position = self.written
        self.clock = min(cursor.clock for cursor in self.cursors)

    @property
    def is_live(self) -> bool:
        """True if every shard has a cursor, and every cursor says *live*."""
        return all(cursor.next_offset >= 0 and cursor.state is CursorState.LIVE for cursor in self.cursors)

    @property
    def written(self) -> int:
        """The offset below which all rows are in the store, by the cursors."""
        return max(min(cursor.next_offset for cursor in self.cursors), 0)

    @property
    def furthest(self) -> int:
        """The offset below which some shard has all its rows in the store, by the cursors."""
        return max(cursor.next_offset for cursor in self.cursors)

    @property
    def rows_total(self) -> int:
        """The accepted rows folded, by the cursors."""
        return sum(cursor.rows_total for cursor in self.cursors)

    # -- writes -----------------------------------------------------------------------------------------------------

    def applied(self, write: FencedWrite) -> None:
        """Take in that the store applied a write."""
        self.cursors[write.shard] = write.after
        self._unwritten.discard(write.shard)

    def extend_topic(self, partition_count: int) -> None:
        """Take the new number of the topic's partitions. The next writes put it into the cursors."""
        self.cursors = [replace(cursor, partitions=partition_count) for cursor in self.cursors]

    def heartbeat(self) -> list[FencedWrite]:
        """Return writes without fields, one for each cursor: the owner is alive, and has folded up to here."""
        return [self._write(shard, self._following(shard)) for shard in range(len(self.cursors))]

    def level(self) -> list[FencedWrite]:
        """Return the writes that bring up the cursors of shards for which the last folds had no rows."""
        behind = [shard for shard, cursor in enumerate(self.cursors) if cursor.next_offset < self.position]
        return [self._write(shard, self._following(shard)) for shard in behind if shard not in self._unwritten]

    def _following(self, shard: int) -> Cursor:
        """Return the cursor at the position; unchanged if a write with fields for it is still to come."""
        cursor = self.cursors[shard]
        if cursor.next_offset >= self.position or shard in self._unwritten:
            return cursor
        return cursor.moved(self.position, 0, max(cursor.clock, self.clock), cursor.state)

    def marked(self, state: CursorState) -> list[FencedWrite]:
        """Return writes that put a state into every shard's cursor and fold nothing. A missing cursor is created."""
        return [
            self._write(shard, cursor.moved(max(cursor.next_offset, 0), 0, cursor.clock, state))
            for shard, cursor in enumerate(self.cursors)
        ]

    def suspended(self) -> list[FencedWrite]:
        """Return the writes that say *rebuilding* in the cursors that exist."""
        return [write for write in self.marked(CursorState.REBUILDING) if write.before.next_offset >= 0]

    def _write(
        self, shard: int, after: Cursor, keys: Sequence[bytes] = (), fields: Sequence[bytes] = ()
    ) -> FencedWrite:
        return FencedWrite(self.view, self.source, self.cursors[shard], after, keys, fields, shard)

    # -- folding ----------------------------------------------------------------------------------------------------

    def fold(self, rows: LoggedRows, next_offset: int, state: CursorState = CursorState.LIVE) -> list[FencedWrite]:
        """Fold rows of the log that end below ``next_offset``. Return the writes that bring the store up to it.

        Rows below their shard's cursor, and below an entity's own field, were folded before and are left out.
        """
        return fold_together([self], rows.since(self.position), [next_offset], state)[0]

    @property
    def bounds(self) -> PartitionBounds:
        """The offset of each shard below which the partition's rows were folded before."""
        return PartitionBounds(self.source, [cursor.next_offset for cursor in self.cursors])

    def shard_writes(
        self, counts: Sequence[int], fields: FieldsByHome, index: int, state: CursorState
    ) -> list[FencedWrite]:
        """Return the writes after a fold: one for each shard that has rows or fields, or has to change its state.

        ``counts``: the accepted rows of each shard. ``index``: that of this partition in ``fields``. A view with one
        shard is always written.
        """
        is_single = len(self.cursors) == 1
        return [
            self._folded(shard, count, fields.of_shard(index, shard), state)
            for shard, count in enumerate(counts)
            if is_single or count or fields.has(index, shard) or self.cursors[shard].state is not state
        ]

    def _folded(self, shard: int, count: int, fields: ShardFields, state: CursorState) -> FencedWrite:
        """The cursor may be further already: then nothing of the batch is for it."""
        cursor = self.cursors[shard]
        after = cursor.moved(max(cursor.next_offset, self.position), count, max(cursor.clock, self.clock), state)
        self._unwritten.add(shard)
        return self._write(shard, after, fields.keys, fields.fields)


@dataclass(frozen=True)
class RowsToFold:
    """Rows of several partitions on their way into one view: arrays with one element a row.

    ``partition`` is the index of the row's partition among those that are folded together.
    """

    partition: NDArray[np.int64]
    offset: NDArray[np.int64]
    slot: NDArray[np.int64]
    time_us: NDArray[np.int64]
    partial: np.ndarray

    def where(self, wanted: np.ndarray) -> RowsToFold:
        """Return the wanted rows."""
        if wanted.all():
            return self
        return RowsToFold(
            self.partition[wanted], self.offset[wanted], self.slot[wanted], self.time_us[wanted], self.partial[wanted]
        )


def fold_together(
    views: Sequence[ViewPartition], rows: LoggedRows, next_offsets: Sequence[int], state: CursorState = CursorState.LIVE
) -> list[list[FencedWrite]]:
    """Fold rows of several partitions into one view of one memory. Return the writes of each partition.

    The rows are those of these partitions, none below the position of its view. The cost is by batch, not by partition.
    """
    rows = rows.in_roles(views[0].memory.kernel.spec, views[0].topic)
    memory, homes = views[0].memory, ShardHomes(views[0].memory, [view.bounds for view in views])
    index_of = _partition_index(views)
    clocks = rows.clocks(index_of, [view.clock for view in views], by_event_time=views[0].by_event_time)
    kept = _rows_to_fold(memory, rows, index_of, homes)
    counts = _row_counts(rows, kept, index_of, homes)
    fresh = kept.where(kept.offset >= memory.next_offsets(kept.slot))
    touched = memory.fold(fresh.slot, fresh.time_us, fresh.partial, clocks[fresh.partition])
    fields = homes.fields(touched, np.array(next_offsets), clocks)
    for view, next_offset, clock in zip(views, next_offsets, clocks.tolist(), strict=True):
        view.position, view.clock = next_offset, clock
    return [
        view.shard_writes(of_view, fields, index, state)
        for index, (view, of_view) in enumerate(zip(views, counts.tolist(), strict=True))
    ]


def _partition_index(views: Sequence[ViewPartition]) -> Callable[[pl.DataFrame], NDArray[np.int64]]:
    """Return a function that gives the index of each row's partition in ``views``."""
    numbers = [view.source.partition for view in views]
    index = np.zeros(max(numbers) + 1, np.int64)
    index[numbers] = np.arange(len(numbers))
    return lambda rows: index[rows.get_column("__partition").to_numpy()]


def _rows_to_fold(
    memory: ViewMemory, rows: LoggedRows, index_of: Callable[[pl.DataFrame], NDArray[np.int64]], homes: ShardHomes
) -> RowsToFold:
    """Return the accepted rows that the view keeps. Slots that are not in memory are loaded from the store."""
    data = memory.kernel.keep(rows.accepted)
    partition = index_of(data)
    return RowsToFold(
        partition=partition,
        offset=data.get_column("__row_offset").to_numpy(),
        slot=memory.slots(data, partition, homes.bounds),
        time_us=data.get_column("__time").to_numpy(),
        partial=memory.kernel.lift(data),
    )


def _row_counts(
    rows: LoggedRows, kept: RowsToFold, index_of: Callable[[pl.DataFrame], NDArray[np.int64]], homes: ShardHomes
) -> np.ndarray:
    """Return how many accepted rows each shard (a column) of each partition (a row) has beyond its cursor.

    Rows that the view leaves out count for shard 0.
    """
    accepted = index_of(rows.accepted)
    ends = homes.next_offsets
    if ends.shape[1] == 1:
        return np.bincount(accepted, minlength=len(ends))[:, None]
    home = homes.homes(kept.slot)
    counts = np.bincount(home[kept.offset >= ends.reshape(-1)[home]], minlength=ends.size).reshape(ends.shape)
    offsets = rows.accepted.get_column("__row_offset").to_numpy()
    for partition, offset, sign in ((accepted, offsets, 1), (kept.partition, kept.offset, -1)):
        counts[:, 0] += sign * np.bincount(partition[offset >= ends[partition, 0]], minlength=len(ends))
    return counts
