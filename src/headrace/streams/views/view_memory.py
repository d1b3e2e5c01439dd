"""What a worker has of one view in memory: the tiles of all its source partitions, so that one fold does for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from headrace.bus.source_partition import SourcePartition


import itertools
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.features.definitions.spec import view_name
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.online.entity_key import serializer
from headrace.features.online.store import OnlineStore, shard_of
from headrace.streams.views.folded_view import FoldedView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Bounds = tuple[SourcePartition, Sequence[int]]
    """A source partition, and the offset of each shard below which its rows were folded before."""


_MANY = 10_000
"""From so many rows on an entity mostly has several: as in a backfill."""
_SPARSE = 16
"""Where a batch touches fewer slots than one in so many, sorting it is quicker than looking at all."""


def _known(index: Mapping[Any, int], names: Sequence[Any]) -> NDArray[np.int64]:
    """The slot of each name, -1 where it has none."""
    return np.fromiter(map(index.get, names, itertools.repeat(-1)), np.int64, len(names))


def _distinct(keys: Sequence[pl.Series]) -> tuple[Sequence[Any], NDArray[np.int32] | None]:
    """The names of many rows, each once, and which each row has; of few, or of several keys, one a row, and None."""
    if len(keys) > 1:
        return list(zip(*(key.to_list() for key in keys), strict=True)), None
    if len(keys[0]) < _MANY:
        return keys[0].to_list(), None
    found: Any = keys[0].to_arrow(compat_level=pl.CompatLevel.oldest())
    coded = found.dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy()


class ViewMemory:
    """The entities of one view that are at hand, by source partition; others are loaded from the store when asked for.

    A slot is one entity of one partition. It knows the store's shard that it is in.
    """

    def __init__(self, spec: Mapping[str, Any], store: OnlineStore) -> None:
        self.kernel = kernel(spec)
        self.view = view_name(spec, self.kernel.version)
        self._store, self._shards = store, store.shards
        self._serialize = serializer(self.kernel.entity_keys)
        self._names = [name for name, _ in self.kernel.entity_keys]
        self._places: dict[SourcePartition, int] = {}  # a number for each source, from its first row on
        self._folded = FoldedView(self.kernel)
        self._index: dict[SourcePartition, dict[Any, int]] = {}  # the slot of each name
        self._keys = list[bytes]()  # of each slot
        self._homes = array("I")  # of each slot: its source's number times the shards, and its shard

    @property
    def nbytes(self) -> int:
        """The memory that its entities take."""
        return self._folded.nbytes

    def forget(self) -> None:
        """Drop the half of the entities that was used least recently. Not between a fold and its writes."""
        self._keep(self._folded.forget(len(self._keys) // 2))

    def drop(self, source: SourcePartition) -> None:
        """Forget a partition: the store may say something else of it, or another worker has it."""
        index = self._index.pop(source, {})
        self._folded.abandon(np.fromiter(index.values(), np.int64, len(index)))
        if 2 * self._folded.abandoned > self._folded.count:  # seldom: it goes over all that is kept
            kept = self._folded.kept()
            self._folded.retain(kept)
            self._keep(kept)

    def _keep(self, slots: np.ndarray) -> None:
        kept = slots.tolist()
        now = dict(zip(kept, range(len(kept)), strict=True))
        for source, index in self._index.items():
            self._index[source] = {name: now[slot] for name, slot in index.items() if slot in now}
        self._keys = [self._keys[slot] for slot in kept]
        self._homes = array("I", [self._homes[slot] for slot in kept])

    # -- slots ------------------------------------------------------------------------------------------------------

    def slots(self, data: pl.DataFrame, which: np.ndarray, sources: Sequence[Bounds]) -> NDArray[np.int64]:
        """Each row's slot; those not at hand are loaded from the store.

        ``which`` is the index of each row's source, ascending: the rows are those of one source after the other.
        """
        keys = [data.get_column(name) for name in self._names]
        ends = np.searchsorted(which, np.arange(len(sources) + 1)).tolist()
        parts = [
            self._slots(source, bounds, *_distinct([key.slice(begin, end - begin) for key in keys]))
            for (source, bounds), begin, end in zip(sources, ends, ends[1:], strict=False)
        ]
        return np.concatenate(parts)

    def _slots(
        self, source: SourcePartition, bounds: Sequence[int], names: Sequence[Any], places: NDArray[np.int32] | None
    ) -> NDArray[np.int64]:
        """The slots of ``names``; or of rows, each with the place of its name among them."""
        self._places.setdefault(source, len(self._places))
        index = self._index.setdefault(source, {})
        slots = _known(index, names)
        if (slots < 0).any():
            self._load(source, bounds, dict.fromkeys(names[row] for row in np.flatnonzero(slots < 0).tolist()))
            slots = _known(index, names)
        return slots if places is None else slots.take(places)

    def _load(self, source: SourcePartition, bounds: Sequence[int], names: Iterable[Any]) -> None:
        """Rows count from the larger of the field's header and the bound of its shard on; both move with the folds."""
        index, place = self._index[source], self._places[source]
        is_one = len(self._names) == 1
        keys = {name: self._serialize((name,) if is_one else name) for name in names}
        stored = self._store.read(self.view, source, list(keys.values()))
        for (name, key), field in zip(keys.items(), stored, strict=True):
            slot, shard = self._folded.add(field), shard_of(key, self._shards)
            index[name] = slot
            self._keys.append(key)
            self._homes.append(place * self._shards + shard)
            self._folded.next_offset[slot] = max(self._folded.next_offset[slot], bounds[shard])

    def homes(self, slots: np.ndarray, sources: Sequence[Bounds]) -> NDArray[np.int64]:
        """Where each slot belongs: the index of its source times the number of shards, plus its shard."""
        index = np.zeros(len(self._places), np.int64)
        index[[self._places[source] for source, _ in sources]] = np.arange(len(sources))
        place, shard = np.divmod(np.asarray(self._homes).take(slots).astype(np.int64), self._shards)
        homes: NDArray[np.int64] = index[place] * self._shards + shard
        return homes

    def next_offsets(self, slots: np.ndarray) -> NDArray[np.int64]:
        """The offset below which each slot has all its rows."""
        found: NDArray[np.int64] = self._folded.next_offset[slots]
        return found

    # -- folding ----------------------------------------------------------------------------------------------------

    def fold(
        self, slots: np.ndarray, times_us: np.ndarray, partials: np.ndarray, clocks: np.ndarray
    ) -> NDArray[np.int64]:
        """Fold rows into their slots, each under its partition's clock after the batch; the slots, each once."""
        self._folded.fold(slots, times_us, partials, clocks)
        if self._folded.count > _SPARSE * len(slots):
            return np.unique(slots)
        touched = np.zeros(self._folded.count, bool)
        touched[slots] = True
        return np.flatnonzero(touched)

    def fields(
        self, slots: np.ndarray, next_offsets: np.ndarray, clocks: np.ndarray
    ) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """The keys of these slots, and the bytes of their fields, folded below their ``next_offsets``."""
        return [self._keys[slot] for slot in slots.tolist()], self._folded.fields(slots, next_offsets, clocks)


def bound_memory(memories: Collection[ViewMemory], most_bytes: int) -> None:
    """Where they take more than that together, each forgets the half of its entities that was used least recently.

    By halves, so that the cost of forgetting is spread over as many entities as come.
    """
    if sum(memory.nbytes for memory in memories) > most_bytes:
        for memory in memories:
            memory.forget()
