"""The tiles of one size in memory, where few may live at one time: a ring of places for each slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.features.kernel.states import NEVER
from headrace.streams.views.tile_storage import TileStorage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headrace.features.kernel.tile_kernel import TileKernel


class TileRing:
    """Tile k of a slot is at place ``k mod places``. There are places for all tiles that live at one time."""

    def __init__(self, kernel: TileKernel, slots: int, places: int) -> None:
        self.places = places
        self.stored = TileStorage(kernel, slots * places)

    def grow(self, slots: int) -> None:
        """Make room for this number of slots."""
        self.stored.grow(slots * self.places)

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it holds."""
        return self.stored.nbytes

    def keep(self, slots: np.ndarray, capacity: int) -> None:
        """Keep these slots alone, in this order, with room for ``capacity`` slots."""
        self.stored.replace(
            self._taken(self.stored.k, slots, capacity, NEVER),
            self._taken(self.stored.tiles, slots, capacity, self.stored.empty),
        )

    def _taken(self, values: np.ndarray, slots: np.ndarray, capacity: int, empty: object) -> np.ndarray:
        found = np.empty(capacity * self.places, values.dtype)
        by_slot = found.reshape(-1, self.places)[: len(slots)]
        values.reshape(-1, self.places).take(slots, axis=0, out=by_slot, mode="clip")  # other modes make a copy
        found[by_slot.size :] = empty
        return found

    def make_room(self, places: int) -> None:
        """Make at least this number of places. The tolerance of a stream may have grown since the view was defined."""
        if places <= self.places:
            return
        slots, (at, slot) = len(self.stored.k) // self.places, self.filled()
        k, tiles = self.stored.k[at], self.stored.tiles[at]
        at = slot * places + k % places
        self.places = places
        self.stored.k = np.full(slots * places, NEVER)
        self.stored.tiles = np.full(slots * places, self.stored.empty)
        self.stored.k[at], self.stored.tiles[at] = k, tiles

    def filled(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the places that have a tile, and their slots. Places with older tiles come first."""
        at = np.flatnonzero(self.stored.k != NEVER)
        at = at[np.argsort(self.stored.k[at], kind="stable")]
        return at, at // self.places

    def tiles_at(self, places: np.ndarray) -> np.ndarray:
        """Return the tiles at these places."""
        return self.stored.at(places)

    def fold(self, slots: np.ndarray, tiles: np.ndarray) -> None:
        """Merge tiles, at most one for each slot and k, into the ring. A tile of another k at its place is replaced."""
        self.stored.fold(slots * self.places + tiles["k"] % self.places, tiles)

    def load(self, slots: np.ndarray, tiles: np.ndarray) -> None:
        """Put tiles into the ring without merging them."""
        self.stored.put(slots * self.places + tiles["k"] % self.places, tiles)

    def live(self, slots: np.ndarray, oldest: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]]:
        """Return the tiles of each slot with k > oldest, by slot and k, and the number of tiles of each slot."""
        there = self.stored.k.reshape(-1, self.places).take(slots, axis=0) > oldest[:, None]
        slot, place = np.divmod(np.flatnonzero(there), self.places)
        ascending = np.argsort(slot * self.places + (place - oldest[slot] - 1) % self.places, kind="stable")
        places = slots[slot] * self.places + place
        return self.stored.at(places[ascending]), there.sum(axis=1)
