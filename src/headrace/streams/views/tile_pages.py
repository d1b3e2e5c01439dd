"""The tiles of one size in memory, where many may live at one time, and few of them exist: pages of neighbours.

A view with a long history or a stream with a long tolerance may have 100,000 living tiles for each entity, of which an
entity that is seldom seen has five. So memory is taken for the tiles that exist, a page at a time::

    slot 7 ──┬── page 5021: tiles 80336 … 80351
             └── page 5088: tiles 81408 … 81423
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.features.kernel.states import NEVER
from headrace.streams.views.tile_storage import TileStorage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from headrace.features.kernel.tile_kernel import TileKernel

_PAGE = 16
"""The tiles of a page."""
_FIRST_PAGES, _GROWTH = 64, 8
_OWN_BYTES = 150
"""Roughly what Python keeps for a page and for a slot: a number, and its place in a dict."""


class TilePages:
    """Tile k of a slot is on the slot's page ``k // 16``, if the slot has a tile there."""

    def __init__(self, kernel: TileKernel, slots: int) -> None:
        self.stored = TileStorage(kernel, _FIRST_PAGES * _PAGE)
        self._pages: list[dict[int, int]] = [{} for _ in range(slots)]  # for each slot: page → where it is stored
        self._free = list(range(_FIRST_PAGES))

    def grow(self, slots: int) -> None:
        """Make room for this number of slots."""
        self._pages += [{} for _ in range(slots - len(self._pages))]

    @property
    def nbytes(self) -> int:
        """The bytes of memory that it holds. The bytes of Python's own objects are a guess."""
        return self.stored.nbytes + _OWN_BYTES * (len(self.stored.k) // _PAGE + len(self._pages))

    def keep(self, slots: np.ndarray, capacity: int) -> None:
        """Keep these slots alone, in this order, with room for ``capacity`` slots."""
        self._pages = [self._pages[slot] for slot in slots.tolist()]
        self.grow(capacity)
        kept = np.array([stored for own in self._pages for stored in own.values()], np.int64)
        numbers = iter(range(len(kept)))
        self._pages = [{page: next(numbers) for page in own} for own in self._pages]
        places = max(len(kept), _FIRST_PAGES) * _PAGE
        k, tiles = np.full(places, NEVER), np.full(places, self.stored.empty)
        at = _places(kept)
        k[: len(at)], tiles[: len(at)] = self.stored.k[at], self.stored.tiles[at]
        self.stored.replace(k, tiles)
        self._free = list(range(len(kept), places // _PAGE))

    def fold(self, slots: np.ndarray, tiles: np.ndarray) -> None:
        """Merge tiles, at most one for each slot and k, into those of their slots."""
        self.stored.fold(self._at(slots, tiles["k"]), tiles)

    def load(self, slots: np.ndarray, tiles: np.ndarray) -> None:
        """Put tiles at their places without merging them."""
        self.stored.put(self._at(slots, tiles["k"]), tiles)

    def live(self, slots: np.ndarray, oldest: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]]:
        """Return the tiles of each slot with k > oldest, by slot and k, and the number of tiles of each slot.

        Pages whose tiles are all older are freed.
        """
        pages = [self._pages[slot] for slot in slots.tolist()]
        self._drop([(own, limit) for own, limit in zip(pages, oldest.tolist(), strict=True)])
        stored = np.array([own[page] for own in pages for page in sorted(own)], np.int64)
        owner = np.repeat(np.arange(len(slots)), np.fromiter(map(len, pages), np.int64, len(pages)) * _PAGE)
        at = _places(stored)
        lives = self.stored.k[at] > oldest[owner]
        return self.stored.at(at[lives]), np.bincount(owner[lives], minlength=len(slots))

    def _drop(self, pages: Iterable[tuple[dict[int, int], int]]) -> None:
        """Free the pages of slots that have only tiles with k <= oldest."""
        dropped = [
            own.pop(page)
            for own, oldest in pages
            for page in [page for page in own if (page + 1) * _PAGE <= oldest + 1]
        ]
        if dropped:
            self.stored.clear(_places(np.array(dropped, np.int64)))
            self._free += dropped

    def _at(self, slots: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Return the place of each tile. A page that a slot lacks is added."""
        page, place = np.divmod(k, _PAGE)
        stored = [self._stored_page(*each) for each in zip(slots.tolist(), page.tolist(), strict=True)]
        at: np.ndarray = np.array(stored, np.int64) * _PAGE + place
        return at

    def _stored_page(self, slot: int, page: int) -> int:
        own = self._pages[slot]
        found = own.get(page)
        if found is None:
            if not self._free:
                self._more_pages()
            found = own[page] = self._free.pop()
        return found

    def _more_pages(self) -> None:
        former = len(self.stored.k) // _PAGE
        pages = former + max(former // _GROWTH, _FIRST_PAGES)
        self.stored.grow(pages * _PAGE)
        self._free = list(range(former, pages))


def _places(stored: np.ndarray) -> np.ndarray:
    """Return the places of all tiles of these pages, page by page."""
    places: np.ndarray = (stored[:, None] * _PAGE + np.arange(_PAGE)).reshape(-1)
    return places
