"""One view over one source partition: its memory, its cursor, and the writes that keep both in step."""

from __future__ import annotations

import itertools
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.features.entity_key import serializer
from headrace.features.folded import FoldedView
from headrace.features.kernel import kernel
from headrace.features.online import NO_CLOCK, Cursor, CursorState, OnlineStore, Source, Write, shard_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import polars as pl

    from headrace.streams.logged_rows import LoggedRows


def view_name(spec: Mapping[str, Any], version: str) -> str:
    """The name of a view version in the online store."""
    return f"{spec['view']}@{version}"


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

    def __init__(self, spec: Mapping[str, Any], source: Source, store: OnlineStore) -> None:
        self.kernel = kernel(spec)
        self.view = view_name(spec, self.kernel.version)
        self.source = source
        self.cursors = [Cursor(b"", -1)] * store.shards
        self.position = 0
        """The offset below which all rows are folded, here and, once the writes are applied, in the store."""
        self.clock = NO_CLOCK
        """The partition's clock at that position."""
        self._store = store
        self._forget_all()
        self._serialize = serializer(self.kernel.entity_keys)
        self._names = [name for name, _ in self.kernel.entity_keys]
        self.event_time: str = spec["source"]["event_time"]
        self._by_event_time = spec["clock"] == "stream"

    def _forget_all(self) -> None:
        self._folded = FoldedView(self.kernel)
        self._keys, self._shards = list[bytes](), array("H")  # of each slot; the shard only where there are several

    def acquire(self, owner: bytes, partitions: int) -> None:
        """Take the cursors over and start from the one that is least; the memory is dropped."""
        self._forget_all()
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

    @property
    def nbytes(self) -> int:
        """The memory that its entities take."""
        return self._folded.nbytes

    def forget(self) -> None:
        """Drop the half of the entities that was used least recently; they come back from the store.

        Not between a fold and its writes.
        """
        kept = self._folded.forget(len(self._keys) // 2).tolist()
        self._keys = [self._keys[slot] for slot in kept]
        self._shards = array("H", [self._shards[slot] for slot in kept] if self._shards else [])

    # -- writes -----------------------------------------------------------------------------------------------------

    def applied(self, write: Write) -> None:
        """The store has it."""
        self.cursors[write.shard] = write.after

    def count(self, partitions: int) -> None:
        """The topic has this many partitions now; the next writes say so."""
        self.cursors = [replace(cursor, partitions=partitions) for cursor in self.cursors]

    def heartbeat(self) -> list[Write]:
        """The compare-and-sets that say: alive, and still the owner, up to here. They carry no field."""
        return [self._write(shard, self._following(cursor)) for shard, cursor in enumerate(self.cursors)]

    def level(self) -> list[Write]:
        """Those that bring cursors up which the last folds had nothing for."""
        behind = [shard for shard, cursor in enumerate(self.cursors) if cursor.next_offset < self.position]
        return [self._write(shard, self._following(self.cursors[shard])) for shard in behind]

    def _following(self, cursor: Cursor) -> Cursor:
        if cursor.next_offset >= self.position:
            return cursor
        return cursor.moved(self.position, 0, max(cursor.clock, self.clock), cursor.state)

    def marked(self, state: CursorState) -> list[Write]:
        """Those that fold nothing and say in every cursor, also where there is none yet, whether it is up to date."""
        return [
            self._write(shard, cursor.moved(max(cursor.next_offset, 0), 0, cursor.clock, state))
            for shard, cursor in enumerate(self.cursors)
        ]

    def suspended(self) -> list[Write]:
        """Those that say *rebuilding* in the cursors that are there."""
        return [write for write in self.marked(CursorState.REBUILDING) if write.before.next_offset >= 0]

    def _write(self, shard: int, after: Cursor, keys: Sequence[bytes] = (), fields: Sequence[bytes] = ()) -> Write:
        return Write(self.view, self.source, self.cursors[shard], after, keys, fields, shard)

    # -- folding ----------------------------------------------------------------------------------------------------

    def fold(self, rows: LoggedRows, next_offset: int, state: CursorState = CursorState.LIVE) -> list[Write]:
        """Fold rows of the log that end below ``next_offset``; the writes that make it so in the store.

        Rows below their shard's cursor, and below an entity's own field, were folded before and are left out.
        """
        rows = rows.since(self.position)
        self.clock = max(self.clock, rows.clock(by_event_time=self._by_event_time))
        data = self.kernel.keep(rows.accepted)
        slots, offsets = self._slots(data), data.get_column("offset").to_numpy()
        fresh = offsets >= self._folded.next_offset[slots]
        times, partials = data.get_column("__time").to_numpy()[fresh], self.kernel.lift(data)[fresh]
        touched = slots[fresh]
        self._folded.fold(touched, times, partials, np.full(len(touched), self.clock))
        self.position = next_offset
        touched = np.unique(touched)
        if len(self.cursors) == 1:
            return [self._moved(0, rows.accepted.height, touched.tolist(), self._fields(touched), state)]
        return self._spread(self._counts(rows, slots, offsets), touched, state)

    def _fields(self, slots: np.ndarray) -> list[bytes]:
        return self._folded.fields(slots, np.full(len(slots), self.position), np.full(len(slots), self.clock))

    def _moved(self, shard: int, rows: int, slots: Sequence[int], fields: Sequence[bytes], state: CursorState) -> Write:
        """The write of one shard after a fold; its cursor may be further already, and then has nothing to take."""
        cursor = self.cursors[shard]
        after = cursor.moved(max(cursor.next_offset, self.position), rows, max(cursor.clock, self.clock), state)
        return self._write(shard, after, [self._keys[slot] for slot in slots], fields)

    def _counts(self, rows: LoggedRows, slots: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """How many accepted rows each shard has beyond its cursor; those that the view leaves out are in shard 0."""
        ends = np.array([cursor.next_offset for cursor in self.cursors])
        shards = np.asarray(self._shards)[slots]
        counts = np.bincount(shards[offsets >= ends[shards]], minlength=len(ends))
        accepted = rows.accepted.get_column("offset").to_numpy()
        counts[0] += np.count_nonzero(accepted >= ends[0]) - np.count_nonzero(offsets >= ends[0])
        return counts

    def _spread(self, counts: np.ndarray, touched: np.ndarray, state: CursorState) -> list[Write]:
        """The writes of those shards that have rows, or say something else of their state."""
        shards = np.asarray(self._shards)[touched]
        order = np.argsort(shards, kind="stable")
        touched, bounds = touched[order], np.searchsorted(shards[order], np.arange(len(counts) + 1)).tolist()
        slots, fields = touched.tolist(), self._fields(touched)
        return [
            self._moved(shard, rows, slots[begin:end], fields[begin:end], state)
            for shard, (rows, begin, end) in enumerate(zip(counts.tolist(), bounds, bounds[1:], strict=False))
            if rows or begin < end or self.cursors[shard].state is not state
        ]

    def _slots(self, data: pl.DataFrame) -> np.ndarray:
        """Each row's slot; entities that are not in memory are loaded from the store first."""
        names = list(zip(*(data.get_column(name).to_list() for name in self._names), strict=True))
        slots = self._known(names)
        if (slots < 0).any():
            self._load(dict.fromkeys(names[row] for row in np.flatnonzero(slots < 0).tolist()))
            slots = self._known(names)
        return slots

    def _known(self, names: Sequence[tuple[Any, ...]]) -> np.ndarray:
        """The slot of each name, -1 where it has none."""
        return np.fromiter(map(self._folded.slots.get, names, itertools.repeat(-1)), np.int64, len(names))

    def _load(self, names: Iterable[tuple[Any, ...]]) -> None:
        keys = {name: self._serialize(name) for name in names}
        stored = self._store.read(self.view, self.source, list(keys.values()))
        for (name, key), field in zip(keys.items(), stored, strict=True):
            slot = self._folded.load(name, field)
            self._keys.append(key)
            if len(self.cursors) > 1:
                self._place(slot, shard_of(key, len(self.cursors)))

    def _place(self, slot: int, shard: int) -> None:
        """Rows count from the larger of the field's header and the shard's cursor on; both move with the folds."""
        self._shards.append(shard)
        bounds = self._folded.next_offset
        bounds[slot] = max(bounds[slot], self.cursors[shard].next_offset)
