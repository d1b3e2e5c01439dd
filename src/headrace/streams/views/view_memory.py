"""One view in a worker's memory: the tiles of all its source partitions, so that one fold serves all of them.

::

    (partition, key) ──index──> slot ──┬──> FoldedView: its tiles, its next_offset
                                       └──> SlotTable: the key's bytes, and its home = partition number · shards + shard
"""

from __future__ import annotations

import itertools
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from headrace.features.kernel.tile_kernel import kernel
from headrace.features.online.entity_key import serializer
from headrace.features.online.store import OnlineStore, shard_of
from headrace.streams.views.folded_view import FoldedView

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from headrace.bus.source_partition import SourcePartition
    from headrace.features.definitions.view_spec import ViewSpec


_MANY = 10_000
"""With this number of rows or more, most entities have several rows, as in a backfill."""
_SPARSE = 16
"""If a batch touches less than one slot in this number, sorting it is quicker than looking at all slots."""


class PartitionBounds(NamedTuple):
    """A source partition, and the offset of each shard below which its rows were folded before."""

    source: SourcePartition
    next_offsets: Sequence[int]


class ShardFields(NamedTuple):
    """The keys and the bytes of their fields that one write has for one shard, in the same order."""

    keys: Sequence[bytes]
    fields: Sequence[bytes]


@dataclass(frozen=True)
class FieldsByHome:
    """The fields of touched slots, ordered by home: those of home h are in [ends[h], ends[h + 1])."""

    keys: Sequence[bytes]
    fields: Sequence[bytes]
    ends: Sequence[int]
    shards: int

    def has(self, partition: int, shard: int) -> bool:
        """Return whether there is a field of this shard of the partition with this index."""
        home = partition * self.shards + shard
        return self.ends[home] < self.ends[home + 1]

    def of_shard(self, partition: int, shard: int) -> ShardFields:
        """Return the fields of this shard of the partition with this index."""
        home = partition * self.shards + shard
        begin, end = self.ends[home], self.ends[home + 1]
        return ShardFields(self.keys[begin:end], self.fields[begin:end])


class SlotTable:
    """The key of each slot, and where it belongs in the store."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._keys: list[bytes] = []
        self._homes = array("I")

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes, partition: int, shard: int) -> None:
        """Describe the next slot."""
        self._keys.append(key)
        self._homes.append(partition * self._shards + shard)

    def keep(self, slots: Sequence[int]) -> None:
        """Have these slots alone, which are counted anew."""
        self._keys = [self._keys[slot] for slot in slots]
        self._homes = array("I", [self._homes[slot] for slot in slots])

    def keys(self, slots: np.ndarray) -> list[bytes]:
        """Return the keys of these slots."""
        return [self._keys[slot] for slot in slots.tolist()]

    def homes(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the partition number and the shard of each of these slots."""
        partition, shard = np.divmod(np.asarray(self._homes).take(slots).astype(np.int64), self._shards)
        return partition, shard


def _known(index: Mapping[Any, int], names: Sequence[Any]) -> NDArray[np.int64]:
    """Return the slot of each name, -1 where it has none."""
    return np.fromiter(map(index.get, names, itertools.repeat(-1)), np.int64, len(names))


def _distinct(keys: Sequence[pl.Series]) -> tuple[Sequence[Any], NDArray[np.int32] | None]:
    """Return the names of rows, each name once, and the place of each row's name among them.

    If the rows are few, or have several key fields: return one name a row, and None.
    """
    if len(keys) > 1:
        return list(zip(*(key.to_list() for key in keys), strict=True)), None
    if len(keys[0]) < _MANY:
        return keys[0].to_list(), None
    found: Any = keys[0].to_arrow(compat_level=pl.CompatLevel.oldest())
    coded = found.dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy()


class ViewMemory:
    """The recently used entities of one view, by source partition. Others are loaded from the store when asked for.

    A slot is one entity of one partition.
    """

    def __init__(self, spec: ViewSpec, store: OnlineStore) -> None:
        self.kernel = kernel(spec)
        self.view = spec.versioned_name
        self._store, self._shards = store, store.shards
        self._serialize = serializer(self.kernel.entity_keys)
        self._names = spec.key_names
        self.folded = FoldedView(self.kernel)
        self._table = SlotTable(store.shards)
        self._numbers: dict[SourcePartition, int] = {}  # a number for each source, from its first row on
        self._index: dict[SourcePartition, dict[Any, int]] = {}  # the slot of each name

    @property
    def nbytes(self) -> int:
        """The bytes that its entities take."""
        return self.folded.nbytes

    @property
    def entities(self) -> int:
        """The number of entities that it keeps. An entity with rows in two partitions counts twice."""
        return self.folded.slot_count - self.folded.abandoned

    def forget(self) -> None:
        """Drop the half of the entities that was used least recently. Do not call it between a fold and its writes."""
        self._keep(self.folded.forget(len(self._table) // 2))

    def drop(self, source: SourcePartition) -> None:
        """Forget a partition, because the store may have other fields of it, or another worker owns it."""
        index = self._index.pop(source, {})
        self.folded.abandon(np.fromiter(index.values(), np.int64, len(index)))
        if 2 * self.folded.abandoned > self.folded.slot_count:  # seldom, as it goes over all kept slots
            kept = self.folded.kept()
            self.folded.retain(kept)
            self._keep(kept)

    def _keep(self, slots: np.ndarray) -> None:
        kept = slots.tolist()
        now = dict(zip(kept, range(len(kept)), strict=True))
        for source, index in self._index.items():
            self._index[source] = {name: now[slot] for name, slot in index.items() if slot in now}
        self._table.keep(kept)

    # -- slots ------------------------------------------------------------------------------------------------------

    def slots(self, data: pl.DataFrame, partition: np.ndarray, bounds: Sequence[PartitionBounds]) -> NDArray[np.int64]:
        """Return each row's slot. Slots that are not in memory are loaded from the store.

        ``partition`` is the index of each row's partition in ``bounds``, ascending: the rows are those of one partition
        after the other.
        """
        keys = [data.get_column(name) for name in self._names]
        ends = np.searchsorted(partition, np.arange(len(bounds) + 1)).tolist()
        parts = [
            self._slots(of_partition, *_distinct([key.slice(begin, end - begin) for key in keys]))
            for of_partition, begin, end in zip(bounds, ends, ends[1:], strict=False)
        ]
        return np.concatenate(parts)

    def _slots(
        self, bounds: PartitionBounds, names: Sequence[Any], places: NDArray[np.int32] | None
    ) -> NDArray[np.int64]:
        """Return the slots of ``names``; or of rows, if ``places`` has the place of each row's name among them."""
        self._numbers.setdefault(bounds.source, len(self._numbers))
        index = self._index.setdefault(bounds.source, {})
        slots = _known(index, names)
        if (slots < 0).any():
            self._load(bounds, dict.fromkeys(names[row] for row in np.flatnonzero(slots < 0).tolist()))
            slots = _known(index, names)
        return slots if places is None else slots.take(places)

    def _load(self, bounds: PartitionBounds, names: Iterable[Any]) -> None:
        """Load fields. Rows count from the larger of the field's header and its shard's bound on."""
        source, index = bounds.source, self._index[bounds.source]
        is_one = len(self._names) == 1
        keys = {name: self._serialize((name,) if is_one else name) for name in names}
        stored = self._store.read(self.view, source, list(keys.values()))
        for (name, key), field in zip(keys.items(), stored, strict=True):
            slot, shard = self.folded.add(field), shard_of(key, self._shards)
            index[name] = slot
            self._table.add(key, self._numbers[source], shard)
            self.folded.next_offset[slot] = max(self.folded.next_offset[slot], bounds.next_offsets[shard])

    def homes(self, slots: np.ndarray, bounds: Sequence[PartitionBounds]) -> NDArray[np.int64]:
        """Return each slot's home: the index of its partition in ``bounds`` · the number of shards + its shard."""
        index = np.zeros(len(self._numbers), np.int64)
        index[[self._numbers[source] for source, _ in bounds]] = np.arange(len(bounds))
        number, shard = self._table.homes(slots)
        homes: NDArray[np.int64] = index[number] * self._shards + shard
        return homes

    def next_offsets(self, slots: np.ndarray) -> NDArray[np.int64]:
        """Return the offset of each slot below which it has all its rows."""
        found: NDArray[np.int64] = self.folded.next_offset[slots]
        return found

    # -- folding ----------------------------------------------------------------------------------------------------

    def fold(
        self, slots: np.ndarray, times_us: np.ndarray, partials: np.ndarray, clocks: np.ndarray
    ) -> NDArray[np.int64]:
        """Fold rows into their slots, each under its partition's clock after the batch. Return the slots, each once."""
        self.folded.fold(slots, times_us, partials, clocks)
        if self.folded.slot_count > _SPARSE * len(slots):
            return np.unique(slots)
        touched = np.zeros(self.folded.slot_count, bool)
        touched[slots] = True
        return np.flatnonzero(touched)

    def fields(
        self, slots: np.ndarray, next_offsets: np.ndarray, clocks: np.ndarray
    ) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Return the keys of these slots and the bytes of their fields, folded below their ``next_offsets``."""
        return self._table.keys(slots), self.folded.fields(slots, next_offsets, clocks)


class ShardHomes:
    """The homes of one fold: every shard of every partition that is folded, by ``bounds`` as they are before it."""

    def __init__(self, memory: ViewMemory, bounds: Sequence[PartitionBounds]) -> None:
        self._memory, self.bounds = memory, bounds
        self.next_offsets = np.array([of_partition.next_offsets for of_partition in bounds])
        """A row for each partition, a column for each shard."""

    def homes(self, slots: np.ndarray) -> NDArray[np.int64]:
        """Return each slot's home: the index of its partition · the number of shards + its shard."""
        return self._memory.homes(slots, self.bounds)

    def fields(self, touched: np.ndarray, next_offsets: np.ndarray, clocks: np.ndarray) -> FieldsByHome:
        """Return the fields of these slots by home. Next offset and clock are those of each partition."""
        homes = self.homes(touched)
        order = np.argsort(homes, kind="stable")
        touched, homes = touched[order], homes[order]
        partition, shards = homes // self.next_offsets.shape[1], self.next_offsets.shape[1]
        keys, fields = self._memory.fields(touched, next_offsets[partition], clocks[partition])
        ends = np.searchsorted(homes, np.arange(self.next_offsets.size + 1)).tolist()
        return FieldsByHome(keys, fields, ends, shards)


def bound_memory(memories: Collection[ViewMemory], most_bytes: int) -> None:
    """If the memories take more bytes together, let each forget the half of its entities that was used least recently.

    It is a half, so that the cost of forgetting is spread over as many new entities.
    """
    if sum(memory.nbytes for memory in memories) > most_bytes:
        for memory in memories:
            memory.forget()
