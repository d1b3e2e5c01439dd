"""One view over one source partition: its memory, its cursor, and the writes that keep both in step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.offline.feature_history import used_columns
from headrace.features.online.cursor import Cursor, CursorState
from headrace.features.online.store import FencedWrite, OnlineStore
from headrace.streams.views.logged_rows import FOLDED
from headrace.streams.views.view_memory import ViewMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from headrace.streams.views.logged_rows import LoggedRows


def reach_us(spec: Mapping[str, Any]) -> int:
    """How far behind a view's clock a look-up may see: its longest window and its history."""
    longest: int = max(window["length_us"] for window in spec["windows"])
    history: int = spec["history_us"]
    return longest + history


class ViewPartition:
    """Folds the rows of one source partition into one view. The owner of the partition is the only one that does.

    One memory for all shards of the store. A shard that a batch brings nothing is not written; its cursor follows with
    :meth:`level` and :meth:`heartbeat`. To stay behind is right, as there is nothing of that shard in between.
    """

    def __init__(
        self, spec: Mapping[str, Any], source: SourcePartition, store: OnlineStore, memory: ViewMemory | None = None
    ) -> None:
        """``memory``: the view's, which other partitions share; None: one of its own."""
        self.memory = memory or ViewMemory(spec, store)
        self.view = self.memory.view
        self.source = source
        self.cursors = [Cursor(b"", -1)] * store.shards
        self.position = 0
        """The offset below which all rows are folded, here and, once the writes are applied, in the store."""
        self.clock = NO_CLOCK
        """The partition's clock at that position."""
        self._unwritten: set[int] = set()  # shards that were folded into and whose write was not applied (yet)
        self._store = store
        self.event_time: str = spec["source"]["event_time"]
        self.columns = [*FOLDED, *used_columns(spec)]
        """What folding reads of a row in the log."""
        self.by_event_time = spec["clock"] == "stream"

    def acquire(self, owner: bytes, partitions: int) -> None:
        """Take the cursors over and start from the one that is least; the memory of this partition is dropped."""
        self.memory.drop(self.source)
        self._unwritten.clear()
        found = self._store.acquire(self.view, self.source, owner, partitions)
        self.cursors = [cursor or Cursor(owner, -1, partitions=partitions) for cursor in found]
        self.position = self.written
        self.clock = min(cursor.clock for cursor in self.cursors)

    @property
    def is_live(self) -> bool:
        """Whether every shard has a cursor that says so."""
        return all(cursor.next_offset >= 0 and cursor.state is CursorState.LIVE for cursor in self.cursors)

    @property
    def written(self) -> int:
        """The offset below which all rows are in the store, by the cursors."""
        return max(min(cursor.next_offset for cursor in self.cursors), 0)

    @property
    def rows_total(self) -> int:
        """The accepted rows folded, by the cursors."""
        return sum(cursor.rows_total for cursor in self.cursors)

    # -- writes -----------------------------------------------------------------------------------------------------

    def applied(self, write: FencedWrite) -> None:
        """The store has it."""
        self.cursors[write.shard] = write.after
        self._unwritten.discard(write.shard)

    def extend_topic(self, partition_count: int) -> None:
        """Take the new number of the topic's partitions. The next writes put it into the cursors."""
        self.cursors = [replace(cursor, partitions=partition_count) for cursor in self.cursors]

    def heartbeat(self) -> list[FencedWrite]:
        """The compare-and-sets that say: alive, and still the owner, up to here. They carry no field."""
        return [self._write(shard, self._following(shard)) for shard in range(len(self.cursors))]

    def level(self) -> list[FencedWrite]:
        """Those that bring cursors up which the last folds had nothing for."""
        behind = [shard for shard, cursor in enumerate(self.cursors) if cursor.next_offset < self.position]
        return [self._write(shard, self._following(shard)) for shard in behind if shard not in self._unwritten]

    def _following(self, shard: int) -> Cursor:
        """The cursor at the position, unless a write that has fields for it is still to come."""
        cursor = self.cursors[shard]
        if cursor.next_offset >= self.position or shard in self._unwritten:
            return cursor
        return cursor.moved(self.position, 0, max(cursor.clock, self.clock), cursor.state)

    def marked(self, state: CursorState) -> list[FencedWrite]:
        """Those that fold nothing and say in every cursor, also where there is none yet, whether it is up to date."""
        return [
            self._write(shard, cursor.moved(max(cursor.next_offset, 0), 0, cursor.clock, state))
            for shard, cursor in enumerate(self.cursors)
        ]

    def suspended(self) -> list[FencedWrite]:
        """Those that say *rebuilding* in the cursors that are there."""
        return [write for write in self.marked(CursorState.REBUILDING) if write.before.next_offset >= 0]

    def _write(
        self, shard: int, after: Cursor, keys: Sequence[bytes] = (), fields: Sequence[bytes] = ()
    ) -> FencedWrite:
        return FencedWrite(self.view, self.source, self.cursors[shard], after, keys, fields, shard)

    # -- folding ----------------------------------------------------------------------------------------------------

    def fold(self, rows: LoggedRows, next_offset: int, state: CursorState = CursorState.LIVE) -> list[FencedWrite]:
        """Fold rows of the log that end below ``next_offset``; the writes that make it so in the store.

        Rows below their shard's cursor, and below an entity's own field, were folded before and are left out.
        """
        return fold_together([self], rows.since(self.position), [next_offset], state)[0]

    @property
    def bounds(self) -> tuple[SourcePartition, list[int]]:
        """The source partition, and the offset of each shard below which its rows were folded before."""
        return self.source, [cursor.next_offset for cursor in self.cursors]

    def moved(
        self, shard: int, rows: int, keys: Sequence[bytes], fields: Sequence[bytes], state: CursorState
    ) -> FencedWrite:
        """The write of one shard after a fold; its cursor may be further already, and then has nothing to take."""
        cursor = self.cursors[shard]
        after = cursor.moved(max(cursor.next_offset, self.position), rows, max(cursor.clock, self.clock), state)
        self._unwritten.add(shard)
        return self._write(shard, after, keys, fields)


def fold_together(
    views: Sequence[ViewPartition], rows: LoggedRows, next_offsets: Sequence[int], state: CursorState = CursorState.LIVE
) -> list[list[FencedWrite]]:
    """Fold rows of several partitions into one view of one memory, in one go; the writes of each.

    The rows are those of these partitions, none below the position of its view. What it costs is by batch.
    """
    memory, which = views[0].memory, _indexes(views)
    data = memory.kernel.keep(rows.accepted)
    own, offsets, bounds = which(data), data.get_column("offset").to_numpy(), [view.bounds for view in views]
    slots = memory.slots(data, own, bounds)
    clocks = rows.clocks(which, [view.clock for view in views], by_event_time=views[0].by_event_time)
    counts = _counts(rows, offsets, own, which, lambda: memory.homes(slots, bounds), bounds)
    fresh = offsets >= memory.next_offsets(slots)
    times, partials = data.get_column("__time").to_numpy(), memory.kernel.lift(data)
    if not fresh.all():
        slots, times, partials, own = slots[fresh], times[fresh], partials[fresh], own[fresh]
    touched = memory.fold(slots, times, partials, clocks[own])
    homes = memory.homes(touched, bounds)
    order = np.argsort(homes, kind="stable")
    touched, homes = touched[order], homes[order]
    of, shards = homes // counts.shape[1], counts.shape[1]
    keys, fields = memory.fields(touched, np.array(next_offsets)[of], clocks[of])
    ends = np.searchsorted(homes, np.arange(len(views) * shards + 1)).tolist()
    found = []
    for index, (view, next_offset, clock) in enumerate(zip(views, next_offsets, clocks.tolist(), strict=True)):
        view.position, view.clock = next_offset, clock
        found.append(
            [
                view.moved(shard, count, keys[begin:end], fields[begin:end], state)
                for shard, (count, begin, end) in enumerate(
                    zip(counts[index].tolist(), ends[index * shards :], ends[index * shards + 1 :], strict=False)
                )
                if shards == 1 or count or begin < end or view.cursors[shard].state is not state
            ]
        )
    return found


def _indexes(views: Sequence[ViewPartition]) -> Callable[[pl.DataFrame], NDArray[np.int64]]:
    """Gives the index of each row's view."""
    numbers = [view.source.partition for view in views]
    index = np.zeros(max(numbers) + 1, np.int64)
    index[numbers] = np.arange(len(numbers))
    return lambda rows: index[rows.get_column("__partition").to_numpy()]


def _counts(  # noqa: PLR0917 - one call site
    rows: LoggedRows,
    offsets: np.ndarray,
    own: np.ndarray,
    which: Callable[[pl.DataFrame], NDArray[np.int64]],
    homes_of_rows: Callable[[], NDArray[np.int64]],
    bounds: Sequence[tuple[SourcePartition, Sequence[int]]],
) -> np.ndarray:
    """How many accepted rows each shard (a column) of each view (a row) has beyond its cursor.

    Those that the view leaves out are in shard 0.
    """
    ends = np.array([of_view for _, of_view in bounds])
    accepted = which(rows.accepted)
    if ends.shape[1] == 1:
        return np.bincount(accepted, minlength=len(ends))[:, None]
    homes = homes_of_rows()
    counts = np.bincount(homes[offsets >= ends.reshape(-1)[homes]], minlength=ends.size).reshape(ends.shape)
    for of, sign, at in ((accepted, 1, rows.accepted.get_column("offset").to_numpy()), (own, -1, offsets)):
        counts[:, 0] += sign * np.bincount(of[at >= ends[of, 0]], minlength=len(ends))
    return counts
