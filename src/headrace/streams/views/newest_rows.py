"""The newest rows of each slot in memory, for windows of rows: those of a slot lie next to each other, oldest first.

::

    slot 7 ──> places 40 … 44: five rows, by event time and then by offset
    a row comes: the slot's rows move to the end, and the places that they had are free until all rows move together

So memory is taken for the rows that exist, and at most twice as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.features.kernel.sketched_tiles import SketchedTiles, with_own_entries
from headrace.features.kernel.states import NEVER
from headrace.streams.views.tile_storage import TileStorage, grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headrace.features.kernel.tile_kernel import TileKernel

_FIRST_PLACES = 256


class NewestRows:
    """At most ``kernel.most_rows`` rows of each slot. A row is a tile with its event time as k."""

    def __init__(self, kernel: TileKernel, slots: int) -> None:
        self._kernel, self._most = kernel, kernel.most_rows
        self.stored = TileStorage(kernel, _FIRST_PLACES)
        self._start, self._count = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
        self._used = 0

    def grow(self, slots: int) -> None:
        """Make room for this number of slots."""
        grow(self._start, slots, 0)
        grow(self._count, slots, 0)

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it holds."""
        return self.stored.nbytes + self._start.nbytes + self._count.nbytes

    def keep(self, slots: np.ndarray, capacity: int) -> None:
        """Keep these slots alone, in this order, with room for ``capacity`` slots."""
        places, count = self._places(slots), self._count[slots]
        self._start, self._count = np.zeros(capacity, np.int64), np.zeros(capacity, np.int64)
        self._count[: len(slots)], self._start[: len(slots)] = count, np.cumsum(count) - count
        self._move_together(places, len(places))

    def fold(self, slots: np.ndarray, rows: np.ndarray) -> None:
        """Take rows into their slots, and keep the newest ones. ``slots`` ascend, and rows of a slot are by offset."""
        touched = np.unique(slots)
        places = self._places(touched)
        owner = np.concatenate([np.repeat(touched, self._count[touched]), slots])
        both = self._joined(self.stored.at(places), rows)
        order = np.lexsort((np.asarray(both["k"]), owner))  # stable: rows that were here have smaller offsets
        owner = owner[order]
        kept = np.searchsorted(owner, owner, side="right") - np.arange(len(owner)) <= self._most
        self.stored.clear(places)
        self._count[touched] = 0
        self._append(owner[kept], both.take(order[kept]))

    def load(self, slots: np.ndarray, rows: np.ndarray) -> None:
        """Put the rows of one field into their slot, which has none. They are in order."""
        self._append(slots, rows)

    def live(self, slots: np.ndarray, oldest: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]]:
        """Return the rows of each slot that are newer than ``oldest``, in order, and the number of rows of each."""
        places, owner = self._places(slots), np.repeat(np.arange(len(slots)), self._count[slots])
        lives = self.stored.k[places] > oldest[owner]
        return self.stored.at(places[lives]), np.bincount(owner[lives], minlength=len(slots))

    def _joined(self, old: np.ndarray, new: np.ndarray) -> np.ndarray:
        own = with_own_entries(old) if isinstance(old, SketchedTiles) else old
        return self._kernel.join([own, new])

    def _places(self, slots: np.ndarray) -> NDArray[np.int64]:
        """Return the places of all rows of these slots, slot by slot."""
        count = self._count[slots]
        shift = np.repeat(self._start[slots] - (np.cumsum(count) - count), count)
        places: NDArray[np.int64] = np.arange(len(shift)) + shift
        return places

    def _append(self, owner: np.ndarray, rows: np.ndarray) -> None:
        """Put rows at the end, slot by slot. These slots have none."""
        if self._used + len(rows) > len(self.stored.k):
            self._make_room(len(rows))
        slots, count = np.unique(owner, return_counts=True)
        self._count[slots], self._start[slots] = count, self._used + np.cumsum(count) - count
        self.stored.put(np.arange(self._used, self._used + len(rows)), rows)
        self._used += len(rows)

    def _make_room(self, more: int) -> None:
        """Move all rows together, and have as many free places as there are rows."""
        slots = np.flatnonzero(self._count)
        places, count = self._places(slots), self._count[slots]
        self._start[slots] = np.cumsum(count) - count
        self._move_together(places, 2 * (len(places) + more))

    def _move_together(self, places: np.ndarray, room: int) -> None:
        room = max(room, _FIRST_PLACES)
        k, tiles = np.full(room, NEVER), np.full(room, self.stored.empty)
        k[: len(places)], tiles[: len(places)] = self.stored.k[places], self.stored.tiles[places]
        self.stored.replace(k, tiles)
        self._used = len(places)
