"""The tiles of a view's rows, sorted so that many queries (entity, t, V) find their tiles together.

If all rows of a tile lie below a query's V, the tile is used whole; otherwise it is computed again from the rows below
V. A tile with a row that the query leaves out is computed again too. Tiles are merged only when a query uses them: of a
million rows in tiles of a minute, an hour's window uses few.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.definitions.windows import ROW_US
from headrace.features.kernel.sketched_tiles import spread
from headrace.features.kernel.sorting import in_order, stable_order
from headrace.features.kernel.tile_kernel import TileKernel, run_starts
from headrace.features.offline.newest_below import NewestBelow, expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.features.kernel.states import Values

_CHUNK = 200_000
"""The number of pairs (query, tile), or of entries of a sketch, that a thread works on at once. It fits the cache."""
_THREADS = 2
_MOST = 2**62
T = TypeVar("T")
R = TypeVar("R")


class SortedTiles:
    """The tiles of one size. They are runs of ``order``, which lists the rows by (entity, k, source).

    Tile i is ``order[starts[i] : starts[i + 1]]``.
    """

    def __init__(self, entity: np.ndarray, k: np.ndarray, source: np.ndarray, sources: int) -> None:
        self._sources = max(sources, 1)
        self._first_k = int(k.min(initial=_MOST)) if len(k) else 0
        self._width = int(k.max()) - self._first_k + 1 if len(k) else 1
        self._ks: np.ndarray | None = None
        if (int(entity.max(initial=0)) + 1) * self._width * self._sources >= _MOST:
            self._ks = np.unique(k)  # the rank of k, so that entity and k fit into one number
            self._width = len(self._ks)
        places, self.order = in_order(self._place(entity, k) + source)
        begins = run_starts(places)
        self._places = places[begins]
        self.starts = np.append(begins, len(places))

    def _place(self, entity: np.ndarray, k: np.ndarray) -> np.ndarray:
        """The place of the first tile of an entity from k on."""
        rank = np.clip(k - self._first_k, 0, self._width) if self._ks is None else np.searchsorted(self._ks, k)
        place: np.ndarray = (entity * self._width + rank) * self._sources
        return place

    def ranges(self, entity: np.ndarray, first_k: np.ndarray, last_k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the range of tiles of each query's entity with first_k <= k <= last_k."""
        low, high = (np.searchsorted(self._places, self._place(entity, k)) for k in (first_k, last_k + 1))
        return low, high


class TileIndex:
    """Rows of a view as tiles, for queries about the entities of these rows.

    ``rows`` have the join keys, ``__time`` (event time, us), ``__source`` (the place of the source partition among
    ``sources``), ``__row_offset``, and the fields that the view's expressions use.
    """

    def __init__(self, of: TileKernel, rows: pl.DataFrame, sources: int, measured: Sequence[str]) -> None:
        self._kernel, self._sources = of, max(sources, 1)
        rows = _by_offset(rows)
        with ThreadPoolExecutor(_THREADS, "headrace-tiles") as threads:
            lifted = threads.submit(of.lift, rows.select("__time", "__row_offset", *measured))
            self._entities, codes = EntityNumbers.number(rows.select([key for key, _ in of.entity_keys]))
            entity, order = in_order(codes)  # rows of one tile lie next to each other
            self._time, self._offset, self._source = (
                rows.get_column(name).to_numpy().take(order) for name in ("__time", "__row_offset", "__source")
            )
            self._tiles = list(threads.map(lambda size: self._tiles_of(entity, size), of.sizes))
            self._partials = lifted.result().take(order)
        self._merged = (
            [self._all_merged(tiles, size) for tiles, size in zip(self._tiles, of.sizes, strict=True)]
            if of.sketches
            else []
        )
        self._rows = NewestBelow(self._time, self._offset, self._source, self._sources) if of.most_rows else None

    def _tiles_of(self, entity: np.ndarray, size: int) -> SortedTiles:
        return SortedTiles(entity, np.floor_divide(self._time, size), self._source, self._sources)

    def _all_merged(self, of: SortedTiles, size: int) -> np.ndarray:
        """Every tile of one size, merged once: then the sizes of their sketches are known. Rows are not merged."""
        if size == ROW_US:
            return self._partials[:0]
        return self._kernel.reduce(self._partials.take(of.order), of.starts[:-1]) if len(of.order) else self._partials

    def values(
        self, keys: pl.DataFrame, at_us: np.ndarray, offsets: np.ndarray, left_out: np.ndarray | None = None
    ) -> list[Values]:
        """Return the values of each column, a row a query. ``offsets`` is V: a row a query, a column a source.

        ``left_out`` has the offset of the row that does not count, in the shape of ``offsets``; -1 for none.
        """
        entity = self._entities.find(keys)
        order = stable_order(entity + 1, at_us)  # so that queries of neighbours use tiles that are close in memory
        entity, at_us, offsets = entity[order], at_us[order], offsets[order]
        first = np.ones(len(order), bool)  # equal queries are answered once
        first[1:] = (entity[1:] != entity[:-1]) | (at_us[1:] != at_us[:-1]) | (offsets[1:] != offsets[:-1]).any(axis=1)
        if left_out is not None:
            left_out = left_out[order]
            first[1:] |= (left_out[1:] != left_out[:-1]).any(axis=1)
            left_out = left_out[first]
        back = np.empty(len(order), np.int64)
        back[order] = np.cumsum(first) - 1
        answers = self._distinct(entity[first], at_us[first], offsets[first], left_out)
        return [(values[back], present[back]) for values, present in answers]

    def _distinct(
        self, entity: np.ndarray, at_us: np.ndarray, offsets: np.ndarray, left_out: np.ndarray | None
    ) -> list[Values]:
        ranges = [self._ranges(resolution, entity, at_us, offsets) for resolution in range(len(self._tiles))]
        held = sum((self._most_held(size, *each) for size, each in enumerate(ranges)), np.zeros(len(at_us), np.int64))
        chunks = _pieces(held * max(map(spread, self._merged), default=1) + 1)
        parts = map_in_threads(
            lambda chunk: self._chunk(
                [(low[chunk], high[chunk]) for low, high in ranges],
                at_us[chunk],
                offsets[chunk],
                None if left_out is None else left_out[chunk],
            ),
            chunks,
        )
        return [
            (np.concatenate([part[c][0] for part in parts]), np.concatenate([part[c][1] for part in parts]))
            for c in range(len(self._kernel.columns))
        ]

    def _ranges(
        self, resolution: int, entity: np.ndarray, at_us: np.ndarray, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the range of tiles of one size that the windows of each query reach; of rows, those up to V."""
        newest = np.floor_divide(at_us, self._kernel.sizes[resolution])
        first = newest - self._kernel.reaches[resolution] + 1
        if self._of_rows(resolution):
            newest = self._newest.latest_us(offsets)
        return self._tiles[resolution].ranges(entity, first, newest)

    def _of_rows(self, resolution: int) -> bool:
        return self._kernel.sizes[resolution] == ROW_US

    @property
    def _newest(self) -> NewestBelow:
        assert self._rows is not None  # noqa: S101 - a view with a window of rows
        return self._rows

    def _most_held(self, resolution: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The largest number of tiles of one size that each query is computed from."""
        held: np.ndarray = np.maximum(high - low, 0)
        return np.minimum(held, self._kernel.most_rows) if self._of_rows(resolution) else held

    def _chunk(
        self,
        ranges: Sequence[tuple[np.ndarray, np.ndarray]],
        at_us: np.ndarray,
        offsets: np.ndarray,
        left_out: np.ndarray | None,
    ) -> list[Values]:
        found = [self._select(resolution, *of_size, offsets, left_out) for resolution, of_size in enumerate(ranges)]
        tiles, query, rank = ([one[part] for one in found] for part in range(3))
        return self._kernel.evaluate(tiles, query, rank, at_us)

    def _select(
        self,
        resolution: int,
        low: np.ndarray,
        high: np.ndarray,
        offsets: np.ndarray,
        left_out: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the tiles of one size that each query may use below its V: by query, source, whole or cut, and k."""
        of = self._tiles[resolution]
        if self._of_rows(resolution):
            begin, end = of.starts[low], of.starts[high]
            row, query = self._newest.choose(of.order, begin, end, offsets, left_out, self._kernel.most_rows)
            rows = self._partials.take(row)
            rows["k"] = self._time[row]
            return rows, query, self._source[row]
        which, query = expanded(low, high)
        row = of.order[of.starts[which]]  # the first of each tile
        source = self._source[row]
        below = offsets[query, source]
        is_cut = self._offset[of.order[of.starts[which + 1] - 1]] >= below
        is_used, own = self._offset[row] < below, None
        if left_out is not None:
            own = left_out[query, source]
            holds_own, holds_others = self._with_row(of, which, below, own)
            is_cut, is_used = is_cut | holds_own, is_used & holds_others
        chosen = np.flatnonzero(is_used)
        chosen = chosen[in_order(((query * self._sources + source) * 2 + is_cut)[chosen])[1]]
        which, is_cut = which[chosen], is_cut[chosen]
        whole, cut = np.flatnonzero(~is_cut), np.flatnonzero(is_cut)
        tiles = self._whole(resolution, which[whole])
        if len(cut):
            rebuilt = self._rebuild(of, which[cut], below[chosen[cut]], None if own is None else own[chosen[cut]])
            back = np.empty(len(which), np.int64)
            back[np.concatenate([whole, cut])] = np.arange(len(which))
            tiles = self._kernel.join([tiles, rebuilt]).take(back)
        tiles["k"] = np.floor_divide(self._time[row[chosen]], self._kernel.sizes[resolution])
        return tiles, query[chosen], source[chosen]

    def _with_row(
        self, of: SortedTiles, which: np.ndarray, below: np.ndarray, own: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return whether each tile may hold the row ``own``, and whether it has other rows below V.

        The rows of a tile are in the order of their offsets.
        """
        first, last = of.starts[which], of.starts[which + 1] - 1
        first_offset, last_offset = self._offset[of.order[first]], self._offset[of.order[last]]
        second_offset = self._offset[of.order[np.minimum(first + 1, last)]]
        is_alone = (first_offset == own) & ((first == last) | (second_offset >= below))
        return (first_offset <= own) & (own <= last_offset), ~is_alone

    def _whole(self, resolution: int, which: np.ndarray) -> np.ndarray:
        """Return these tiles, each merged once even if it is named more often. A tile of one row is that row."""
        if self._merged:
            return self._merged[resolution].take(which)
        if not len(which):
            return self._partials[:0]
        of, first = self._tiles[resolution], int(which.min())
        named = np.zeros(int(which.max()) - first + 1, bool)
        named[which - first] = True
        distinct = np.flatnonzero(named) + first
        starts, ends = of.starts[distinct], of.starts[distinct + 1]
        merged: np.ndarray = self._partials.take(of.order[starts])
        several = np.flatnonzero(ends - starts > 1)
        if len(several):
            position, run = expanded(starts[several], ends[several])
            merged[several] = self._kernel.reduce(self._partials.take(of.order[position]), run_starts(run))
        found: np.ndarray = merged.take((np.cumsum(named) - 1)[which - first])
        return found

    def _rebuild(self, of: SortedTiles, which: np.ndarray, below: np.ndarray, own: np.ndarray | None) -> np.ndarray:
        """Return tiles from their rows below V, without the row ``own``. Each has at least one such row."""
        pieces = _pieces(of.starts[which + 1] - of.starts[which])
        parts = [self._cut(of, which[piece], below[piece], None if own is None else own[piece]) for piece in pieces]
        return self._kernel.join(parts)

    def _cut(self, of: SortedTiles, which: np.ndarray, below: np.ndarray, own: np.ndarray | None) -> np.ndarray:
        position, tile = expanded(of.starts[which], of.starts[which + 1])
        rows = of.order[position]
        seen = self._offset[rows] < below[tile]
        if own is not None:
            seen &= self._offset[rows] != own[tile]
        return self._kernel.reduce(self._partials.take(rows[seen]), run_starts(tile[seen]))


class EntityNumbers:
    """Entities, numbered from 0 by their join keys."""

    def __init__(self) -> None:
        self._known: list[tuple[pa.Array, pa.Array]] = []

    @staticmethod
    def number(keys: pl.DataFrame) -> tuple[EntityNumbers, np.ndarray]:
        """Number the entities of some rows. Return them and each row's number."""
        entities, numbers = EntityNumbers(), np.zeros(keys.height, np.int64)
        for column in keys.get_columns():
            values, own = _numbered(_arrow(column))
            pairs = values
            if entities._known:  # with several join keys, a pair (number so far, next key) is numbered
                pairs, own = _numbered(pa.array(numbers * len(values) + own))
            entities._known.append((values, pairs))
            numbers = own
        return entities, numbers

    def find(self, keys: pl.DataFrame) -> np.ndarray:
        """Return the number of each of these entities; -1 if it has no rows."""
        found = np.zeros(keys.height, np.int64)
        for place, ((values, pairs), column) in enumerate(zip(self._known, keys.get_columns(), strict=True)):
            own = _index(_arrow(column), values)
            if place:
                none = (found < 0) | (own < 0)
                own = _index(pa.array(np.where(none, -1, found * len(values) + own)), pairs)
            found = own
        return found


def _arrow(column: pl.Series) -> pa.Array:
    return column.to_arrow(compat_level=pl.CompatLevel.oldest())


def _numbered(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Return the distinct values and the place of each value among them."""
    found = values.dictionary_encode("encode")
    return found.dictionary, found.indices.to_numpy().astype(np.int64)


def _index(asked: pa.Array, values: pa.Array) -> np.ndarray:
    """Return the place of each value among others; -1 if it is not one of them or is null."""
    places = pc.call_function("index_in", [asked], pc.SetLookupOptions(values, skip_nulls=True)).fill_null(-1)
    found: np.ndarray = places.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _by_offset(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows by source and offset. Most often they are in this order already."""
    source, offset = (rows.get_column(name).to_numpy() for name in ("__source", "__row_offset"))
    ascends = (source[1:] > source[:-1]) | ((source[1:] == source[:-1]) & (offset[1:] >= offset[:-1]))
    return rows if ascends.all() else rows.sort("__source", "__row_offset", maintain_order=True)


def _pieces(held: np.ndarray) -> list[slice]:
    """Split a sequence into slices that a thread may hold at once. ``held`` is the size of each member."""
    ends = run_starts(np.cumsum(held) // _CHUNK)[1:].tolist()
    return [slice(*piece) for piece in pairwise([0, *ends, len(held)])]


def map_in_threads(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """Return the result of each part, in order. A few threads work at the same time, because numpy lets them."""
    if len(parts) == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(_THREADS, "headrace-history") as threads:
        return list(threads.map(work, parts))
