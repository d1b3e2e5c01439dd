"""The tiles of one size in memory, at numbered places, and the entries of the tiles' sketches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.features.kernel.sketched_tiles import entries_of, gather, references, sketched
from headrace.features.kernel.states import NEVER

if TYPE_CHECKING:
    from headrace.features.kernel.tile_kernel import TileKernel

_SPARE_ENTRIES = 4_096


def grow(values: np.ndarray, size: int, empty: object) -> None:
    """Make an array longer in place, without a copy. No numpy view of it may be in use."""
    former = len(values)
    values.resize(size, refcheck=False)
    values[former:] = empty


class TileStorage:
    """Tiles at places. A place without a tile has k = NEVER."""

    def __init__(self, kernel: TileKernel, places: int) -> None:
        self.kernel = kernel
        self.k = np.full(places, NEVER)
        self.tiles = np.full(places, self.empty)
        self.entries = [_SketchEntries(sketch.dtype) for sketch in kernel.sketches]

    @property
    def empty(self) -> np.void:
        """The tile without rows."""
        empty: np.void = np.asarray(self.kernel.empty)[0]
        return empty

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it holds."""
        return self.k.nbytes + self.tiles.nbytes + sum(entries.nbytes for entries in self.entries)

    def grow(self, places: int) -> None:
        """Make room for this number of places."""
        grow(self.k, places, NEVER)
        grow(self.tiles, places, self.empty)

    def replace(self, k: np.ndarray, tiles: np.ndarray) -> None:
        """Have these places in place of all others. The tiles are some of those that were here."""
        self.k, self.tiles = k, tiles
        for sketch, entries in enumerate(self.entries):
            entries.live = int(tiles[references(sketch)[1]].sum())
            self._compact(sketch, entries)

    def fold(self, at: np.ndarray, tiles: np.ndarray) -> None:
        """Merge tiles into the tiles at these places, each named once. A tile of another k there is replaced."""
        same = self.k[at] == tiles["k"]
        merged = self.kernel.merge(self.at(at[same]), tiles[same])
        if not self.entries:
            tiles[same] = merged
        else:
            tiles = self.kernel.join([tiles[~same], merged])
            at = np.concatenate([at[~same], at[same]])
        self.put(at, tiles)

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return the tiles at these places."""
        tiles = self.tiles.take(places)
        return sketched(tiles, [entries.content for entries in self.entries]) if self.entries else tiles

    def put(self, at: np.ndarray, tiles: np.ndarray) -> None:
        """Put tiles at these places, in place of those that are there."""
        records = np.asarray(tiles)
        for sketch, entries in enumerate(self.entries):
            start, count = references(sketch)
            content, numbers = entries_of(tiles, sketch)
            records[start] = entries.add(content) + np.cumsum(numbers) - numbers
            entries.live += len(content) - int(self.tiles[count][at].sum())
        self.tiles[at], self.k[at] = records, records["k"]
        for sketch, entries in enumerate(self.entries):
            if entries.used > 2 * entries.live + _SPARE_ENTRIES:
                self._compact(sketch, entries)

    def clear(self, at: np.ndarray) -> None:
        """Remove the tiles at these places."""
        for sketch, entries in enumerate(self.entries):
            entries.live -= int(self.tiles[references(sketch)[1]][at].sum())
        self.tiles[at], self.k[at] = self.empty, NEVER

    def _compact(self, sketch: int, entries: _SketchEntries) -> None:
        start, count = references(sketch)
        numbers = self.tiles[count]
        entries.keep(gather(entries.content, self.tiles[start], numbers))
        self.tiles[start] = np.cumsum(numbers) - numbers


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
