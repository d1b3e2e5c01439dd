"""The tiles of one size in memory: a ring of places for each slot, and the entries of the tiles' sketches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.features.kernel.sketched_tiles import entries_of, gather, references, sketched
from headrace.features.kernel.states import NEVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headrace.features.kernel.tile_kernel import TileKernel

_SPARE_ENTRIES = 4_096


def grow(values: np.ndarray, size: int, empty: object) -> None:
    """Make an array longer in place, without a copy. No numpy view of it may be in use."""
    former = len(values)
    values.resize(size, refcheck=False)
    values[former:] = empty


class TileRing:
    """Tile k of a slot is at place ``k mod places``. There are places for all tiles that live at one time."""

    def __init__(self, kernel: TileKernel, slots: int, places: int) -> None:
        self._kernel = kernel
        self._places = places
        self._k = np.full(slots * places, NEVER)
        self._tiles = np.full(slots * places, np.asarray(kernel.empty)[0])
        self._entries = [_SketchEntries(sketch.dtype) for sketch in kernel.sketches]

    def grow(self, slots: int) -> None:
        """Make room for this number of slots."""
        grow(self._k, slots * self._places, NEVER)
        grow(self._tiles, slots * self._places, np.asarray(self._kernel.empty)[0])

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it holds."""
        return self._k.nbytes + self._tiles.nbytes + sum(entries.nbytes for entries in self._entries)

    def keep(self, slots: np.ndarray, capacity: int) -> None:
        """Keep these slots alone, in this order, with room for ``capacity`` slots."""
        self._k = self._taken(self._k, slots, capacity, NEVER)
        self._tiles = self._taken(self._tiles, slots, capacity, np.asarray(self._kernel.empty)[0])
        for sketch, entries in enumerate(self._entries):
            entries.live = int(self._tiles[references(sketch)[1]].sum())
            self._compact(sketch, entries)

    def _taken(self, values: np.ndarray, slots: np.ndarray, capacity: int, empty: object) -> np.ndarray:
        found = np.empty(capacity * self._places, values.dtype)
        by_slot = found.reshape(-1, self._places)[: len(slots)]
        values.reshape(-1, self._places).take(slots, axis=0, out=by_slot, mode="clip")  # other modes make a copy
        found[by_slot.size :] = empty
        return found

    def make_room(self, places: int) -> None:
        """Make at least this number of places. The tolerance of a stream may have grown since the view was defined."""
        if places <= self._places:
            return
        slots = len(self._k) // self._places
        former, filled = self._places, np.flatnonzero(self._k != NEVER)
        filled = filled[np.argsort(self._k[filled], kind="stable")]  # if two have the same place, the newer one stays
        k, tiles = self._k[filled], self._tiles[filled]
        at = filled // former * places + k % places
        self._places = places
        self._k = np.full(slots * places, NEVER)
        self._tiles = np.full(slots * places, np.asarray(self._kernel.empty)[0])
        self._k[at], self._tiles[at] = k, tiles

    def fold(self, slots: np.ndarray, tiles: np.ndarray) -> None:
        """Merge tiles, at most one for each slot and k, into the ring. A tile of another k at its place is replaced."""
        at = slots * self._places + tiles["k"] % self._places
        same = self._k[at] == tiles["k"]
        merged = self._kernel.merge(self._at(at[same]), tiles[same])
        if not self._entries:
            tiles[same] = merged
        else:
            tiles = self._kernel.join([tiles[~same], merged])
            at = np.concatenate([at[~same], at[same]])
        self._put(at, tiles)

    def load(self, slot: int, tiles: np.ndarray) -> None:
        """Put tiles of a slot into the ring without merging them."""
        self._put(slot * self._places + tiles["k"] % self._places, tiles)

    def live(self, slots: np.ndarray, oldest: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]]:
        """Return the tiles of each slot with k > oldest, by slot and k, and the number of tiles of each slot."""
        there = self._k.reshape(-1, self._places).take(slots, axis=0) > oldest[:, None]
        slot, place = np.divmod(np.flatnonzero(there), self._places)
        ascending = np.argsort(slot * self._places + (place - oldest[slot] - 1) % self._places, kind="stable")
        places = slots[slot] * self._places + place
        return self._at(places[ascending]), there.sum(axis=1)

    def _at(self, places: np.ndarray) -> np.ndarray:
        tiles = self._tiles.take(places)
        return sketched(tiles, [entries.content for entries in self._entries]) if self._entries else tiles

    def _put(self, at: np.ndarray, tiles: np.ndarray) -> None:
        records = np.asarray(tiles)
        for sketch, entries in enumerate(self._entries):
            start, count = references(sketch)
            content, numbers = entries_of(tiles, sketch)
            records[start] = entries.add(content) + np.cumsum(numbers) - numbers
            entries.live += len(content) - int(self._tiles[count][at].sum())
        self._tiles[at], self._k[at] = records, records["k"]
        for sketch, entries in enumerate(self._entries):
            if entries.used > 2 * entries.live + _SPARE_ENTRIES:
                self._compact(sketch, entries)

    def _compact(self, sketch: int, entries: _SketchEntries) -> None:
        start, count = references(sketch)
        numbers = self._tiles[count]
        entries.keep(gather(entries.content, self._tiles[start], numbers))
        self._tiles[start] = np.cumsum(numbers) - numbers


class _SketchEntries:
    """The entries of one sketch: added at the end, and compacted when less than half of them are in use."""

    def __init__(self, dtype: np.dtype) -> None:
        self._buffer = np.empty(_SPARE_ENTRIES, dtype)
        self.used = self.live = 0

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes

    @property
    def content(self) -> np.ndarray:
        return self._buffer[: self.used]

    def add(self, entries: np.ndarray) -> int:
        """Put entries at the end, and return where they begin."""
        begin, self.used = self.used, self.used + len(entries)
        if self.used > len(self._buffer):
            grown = np.empty(2 * self.used, self._buffer.dtype)
            grown[:begin] = self._buffer[:begin]
            self._buffer = grown
        self._buffer[begin : self.used] = entries
        return begin

    def keep(self, entries: np.ndarray) -> None:
        """Keep these entries alone, with some room to grow."""
        self._buffer = np.empty(max(_SPARE_ENTRIES, 2 * len(entries)), self._buffer.dtype)
        self.used = 0
        self.add(entries)
