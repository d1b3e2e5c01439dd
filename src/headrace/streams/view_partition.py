"""One view over one source partition: its memory, its cursor, and the writes that keep both in step."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.features.entity_key import serializer
from headrace.features.folded import FoldedView
from headrace.features.kernel import kernel
from headrace.features.online import NO_CLOCK, Cursor, CursorState, OnlineStore, Source, Write

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
    """Folds the rows of one source partition into one view. The owner of the partition is the only one that does."""

    def __init__(self, spec: Mapping[str, Any], source: Source, store: OnlineStore) -> None:
        self.kernel = kernel(spec)
        self.view = view_name(spec, self.kernel.version)
        self.source = source
        self.cursor = Cursor(b"", -1)
        self._store = store
        self._folded, self._keys = FoldedView(self.kernel), list[bytes]()  # of each slot
        self._serialize = serializer(self.kernel.entity_keys)
        self._names = [name for name, _ in self.kernel.entity_keys]
        self.event_time: str = spec["source"]["event_time"]
        self._by_event_time = spec["clock"] == "stream"

    def acquire(self, owner: bytes, partitions: int) -> None:
        """Take the cursor over and start from what it says; the memory is dropped."""
        self._folded, self._keys = FoldedView(self.kernel), []
        found = self._store.acquire(self.view, self.source, owner, partitions)
        self.cursor = found or Cursor(owner, -1, partitions=partitions, clock=NO_CLOCK)

    @property
    def nbytes(self) -> int:
        """The memory that its entities take."""
        return self._folded.nbytes

    def forget(self) -> None:
        """Drop the half of the entities that was used least recently; they come back from the store.

        Not between a fold and its write.
        """
        kept = self._folded.forget(len(self._keys) // 2)
        self._keys = [self._keys[slot] for slot in kept.tolist()]

    @property
    def position(self) -> int:
        """The offset below which all rows are folded."""
        return max(self.cursor.next_offset, 0)

    def heartbeat(self) -> Write:
        """The empty compare-and-set that says: alive, and still the owner."""
        return Write(self.view, self.source, self.cursor, self.cursor)

    def fold(self, rows: LoggedRows, next_offset: int, state: CursorState = CursorState.LIVE) -> Write:
        """Fold rows of the log that end below ``next_offset``; the write that makes it so in the store.

        Rows below the cursor, and below an entity's own field, were folded before and are left out.
        """
        rows = rows.since(self.position)
        clock = max(self.cursor.clock, rows.clock(by_event_time=self._by_event_time))
        data = self.kernel.keep(rows.accepted)
        slots = self._slots(data)
        fresh = data.get_column("offset").to_numpy() >= self._folded.next_offset[slots]
        times, partials = data.get_column("__time").to_numpy()[fresh], self.kernel.lift(data)[fresh]
        slots = slots[fresh]
        self._folded.fold(slots, times, partials, np.full(len(slots), clock))
        touched = np.unique(slots)
        fields = self._folded.fields(touched, np.full(len(touched), next_offset), np.full(len(touched), clock))
        after = self.cursor.moved(next_offset, rows.accepted.height, clock, state)
        keys = [self._keys[slot] for slot in touched.tolist()]
        return Write(self.view, self.source, self.cursor, after, keys, fields)

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
            self._folded.load(name, field)
            self._keys.append(key)
