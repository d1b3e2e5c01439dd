"""The tiles of one view in memory: rings that batches fold into and fields are written from.

A slot is one (source partition, entity). Each tile size has a ring of R places for each slot. R is large enough that
all tiles that may live at one time have places of their own::

    slot 7 ──┬── ring of 1 min tiles:  k mod R ──> tile k: count, sum, … of [k min, k + 1 min)
             └── ring of 30 min tiles: k mod R ──> tile k
    field of slot 7 = header (next_offset, clock, newest) + the living tiles of each ring, oldest first

Where R is large, because the view has a long history or its stream a long tolerance, most places would be empty. Such
tiles are on pages instead, which exist where tiles do. The rows of a window of the newest rows are in neither.
"""

from __future__ import annotations

import numpy as np

from headrace.features.definitions.windows import ROW_US
from headrace.features.kernel.field import fronts, unpack
from headrace.features.kernel.sorting import stable_order
from headrace.features.kernel.states import NEVER
from headrace.features.kernel.tile_kernel import TileKernel, run_starts
from headrace.streams.views.newest_rows import NewestRows
from headrace.streams.views.tile_pages import TilePages
from headrace.streams.views.tile_ring import TileRing
from headrace.streams.views.tile_storage import grow

MOST_PLACES = 192
"""The largest number of places for each slot in a ring: three times the largest number of tiles of a window."""
_FIRST_SLOTS, _ABANDONED = 64, -1
_GROWTH = 8
"""A full view grows by one slot in this number. By that share it may be above a bound on its memory."""
_NAME_BYTES = 300
"""Roughly what the owner of a slot keeps for it: a name, its place in a dict, the bytes of an entity key."""


class FoldedView:
    """The tiles that one worker holds of one view. It knows nothing of Kafka and Redis: rows go in, fields come out."""

    def __init__(self, kernel: TileKernel) -> None:
        self.kernel = kernel
        spec = kernel.spec
        self._history = spec.history_us
        slack = spec.history_us + spec.tolerance_us
        self._tiles = kernel.reaches
        self.rings = [
            self._room(size, tiles + -(-slack // size) + 3)
            for size, tiles in zip(kernel.sizes, self._tiles, strict=True)
        ]
        self.next_offset = np.zeros(_FIRST_SLOTS, np.int64)
        self.newest = np.full(_FIRST_SLOTS, NEVER)
        self._used = np.zeros(_FIRST_SLOTS, np.int64)  # the number of the last fold that each slot was in
        self._folds = 0
        self.slot_count = self.abandoned = 0
        """The number of slots, which are the first ones; and how many of them nobody asks for any more."""

    def _room(self, size: int, places: int) -> TileRing | TilePages | NewestRows:
        """Return room for the first slots, in which this number of tiles of one size may live at one time."""
        if size == ROW_US:
            return NewestRows(self.kernel, _FIRST_SLOTS)
        if places > MOST_PLACES:
            return TilePages(self.kernel, _FIRST_SLOTS)
        return TileRing(self.kernel, _FIRST_SLOTS, places)

    def add(self, field: bytes | None = None) -> int:
        """Return a new slot with the tiles of a field of the store. Raises CodecError for bytes of another layout."""
        slot = self.slot_count
        if slot == len(self.newest):
            self._grow()
        if field is not None:
            self._load(slot, field)
        self.slot_count += 1
        return slot

    def _load(self, slot: int, field: bytes) -> None:
        header, tiles = unpack(field, self.kernel.layout)
        self.next_offset[slot], self.newest[slot] = header.next_offset, header.newest
        for resolution, of_size in enumerate(tiles):
            self._make_room(resolution, of_size["k"], header.clock)
            self.rings[resolution].load(np.full(len(of_size), slot), of_size)

    def _grow(self) -> None:
        slots = len(self.newest) + max(len(self.newest) // _GROWTH, _FIRST_SLOTS)
        for ring in self.rings:
            ring.grow(slots)
        for values, empty in ((self.next_offset, 0), (self.newest, NEVER), (self._used, 0)):
            grow(values, slots, empty)

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it holds. The bytes of names are a guess."""
        own = self.next_offset.nbytes + self.newest.nbytes + self._used.nbytes
        return sum(ring.nbytes for ring in self.rings) + own + _NAME_BYTES * self.slot_count

    def forget(self, keep: int) -> np.ndarray:
        """Drop all but the ``keep`` slots that were used last. Return their former numbers; they are counted anew."""
        count = self.slot_count
        if keep >= count:
            return np.arange(count)
        kept = np.sort(np.argpartition(self._used[:count], count - keep)[count - keep :]) if keep else np.arange(0)
        self.retain(kept)
        return kept

    def abandon(self, slots: np.ndarray) -> None:
        """Mark slots that nobody asks for any more. They are the first to be forgotten."""
        self._used[slots] = _ABANDONED
        self.abandoned += len(slots)

    def kept(self) -> np.ndarray:
        """Return the slots that are not abandoned."""
        return np.flatnonzero(self._used[: self.slot_count] != _ABANDONED)

    def retain(self, kept: np.ndarray) -> None:
        """Keep these slots alone, given in ascending order. They are counted anew."""
        capacity = max(len(kept), _FIRST_SLOTS)
        for ring in self.rings:
            ring.keep(kept, capacity)
        self.next_offset = _kept(self.next_offset, kept, capacity, 0)
        self.newest = _kept(self.newest, kept, capacity, NEVER)
        self._used = _kept(self._used, kept, capacity, 0)
        self.slot_count = len(kept)
        self.abandoned = int(np.count_nonzero(self._used[: self.slot_count] == _ABANDONED))

    def _make_room(self, resolution: int, k: np.ndarray, clock: np.ndarray | int) -> None:
        """Make places for all tiles from the oldest that may live under a clock to the newest of these."""
        oldest = np.floor_divide(clock - self._history, self.kernel.sizes[resolution]) - self._tiles[resolution]
        ring, places = self.rings[resolution], int((k - oldest).max(initial=0))
        if not isinstance(ring, TileRing):
            return
        if places <= MOST_PLACES:
            ring.make_room(places)
        else:
            self.rings[resolution] = self._to_pages(ring)

    def _to_pages(self, ring: TileRing) -> TilePages:
        """Return pages with the tiles of a ring."""
        pages = TilePages(self.kernel, len(self.newest))
        at, slots = ring.filled()
        pages.load(slots, ring.tiles_at(at))
        return pages

    def fold(self, slots: np.ndarray, time_us: np.ndarray, partials: np.ndarray, clock: np.ndarray) -> None:
        """Fold rows into their slots.

        ``clock`` is the clock of each row's partition after the batch. Tiles that have expired by then stay out.
        """
        for resolution, size in enumerate(self.kernel.sizes):
            k = np.floor_divide(time_us, size)
            alive = (k + self._tiles[resolution]) * size > clock - self._history
            self._make_room(resolution, k, clock)
            if alive.all():
                self._fold_size(resolution, slots, k, partials)
            else:
                self._fold_size(resolution, slots[alive], k[alive], partials[alive])
        np.maximum.at(self.newest, slots, time_us)
        self._folds += 1
        self._used[slots] = self._folds

    def _fold_size(self, resolution: int, slots: np.ndarray, k: np.ndarray, partials: np.ndarray) -> None:
        if not len(slots):
            return
        order = stable_order(slots, k)
        slots, k = slots[order], k[order]
        if self.kernel.sizes[resolution] == ROW_US:
            rows = partials.take(order)
            rows["k"] = k
            self.rings[resolution].fold(slots, rows)
            return
        starts = run_starts(slots, k)
        merged = self.kernel.reduce(partials.take(order), starts)
        merged["k"] = k[starts]
        self.rings[resolution].fold(slots[starts], merged)

    def fields(self, slots: np.ndarray, next_offset: np.ndarray, clock: np.ndarray) -> list[bytes]:
        """Return the bytes of these slots' fields. ``next_offset`` and ``clock`` have one value for each slot."""
        self.next_offset[slots] = next_offset
        counts, pieces = [], []
        for ring, tiles, size in zip(self.rings, self._tiles, self.kernel.sizes, strict=True):
            live, count = ring.live(slots, np.floor_divide(clock - self._history, size) - tiles)
            counts.append(count)
            pieces += self.kernel.layout.split(live, count)
        headers = next_offset, clock, self.newest[slots]
        begins = fronts(headers, np.stack(counts, axis=1), self.kernel.layout.form)
        return list(map(b"".join, zip(begins, *pieces, strict=True)))


def _kept(values: np.ndarray, kept: np.ndarray, capacity: int, empty: int) -> np.ndarray:
    found = np.full(capacity, empty, np.int64)
    found[: len(kept)] = values[kept]
    return found
