"""The tiles of a view's rows, sorted so that many (entity, t, V) find theirs at once.

A tile whose rows all lie below a query's V counts as a whole; one that V cuts is rebuilt from its rows.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl

from headrace.features.kernel import Kernel, run_starts
from headrace.features.order import stable_order
from headrace.features.sketched import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.features.states import Values

_CHUNK = 2_000_000
"""Pairs of query and tile, or entry of a sketch, that a thread holds at once: bounds the memory."""
_THREADS = 2
_MOST = 2**62
T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Tiles:
    """The tiles of one size: sorted by (entity, source, k), with the runs of sorted rows that they were made of."""

    tiles: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    group: np.ndarray

    @cached_property
    def _ks(self) -> np.ndarray | None:
        """The distinct k, for k to count by its rank among them: only where group and k do not fit into 63 bits."""
        return None if (int(self.group[-1]) + 1) * self._span < _MOST else np.unique(self.tiles["k"])

    @cached_property
    def _first_k(self) -> int:
        return int(self.tiles["k"].min())

    @cached_property
    def _span(self) -> int:
        return int(self.tiles["k"].max()) - self._first_k + 1

    @cached_property
    def _places(self) -> np.ndarray:
        """Ascending with (group, k)."""
        return self._place(self.group, self.tiles["k"])

    def _place(self, group: np.ndarray, k: np.ndarray) -> np.ndarray:
        """The place of the first tile that a group may have from k on."""
        if self._ks is None:
            rank, width = np.clip(k - self._first_k, 0, self._span), self._span
        else:
            rank, width = np.searchsorted(self._ks, k), len(self._ks)
        place: np.ndarray = group * width + rank
        return place

    def ranges(self, group: np.ndarray, first_k: np.ndarray, last_k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The range of tiles of each query's group with first_k <= k <= last_k."""
        if not len(self.tiles):
            return np.zeros_like(group), np.zeros_like(group)
        first, last = self._place(group, first_k), self._place(group, last_k + 1)
        begin, end = np.searchsorted(self._places, [first.min(initial=0), last.max(initial=0)])
        near = self._places[begin:end]  # queries come in order: their tiles lie side by side
        return begin + np.searchsorted(near, first), begin + np.searchsorted(near, last)


class TileIndex:
    """Some rows of a view as tiles, for queries of these rows' entities.

    ``rows`` have the join keys, ``__time`` (event, us), ``__source`` (the place of the source partition among
    ``sources``), ``offset``, and what the view's expressions name.
    """

    def __init__(self, of: Kernel, rows: pl.DataFrame, sources: int, measured: Sequence[str]) -> None:
        self._kernel, self._sources = of, sources
        self._names = [key for key, _ in of.entity_keys]
        self._entities, codes = _entities(rows.select(self._names))
        group = codes * max(sources, 1) + rows.get_column("__source").to_numpy()
        order = stable_order(group, rows.get_column("offset").to_numpy())
        rows = rows.select("__time", "offset", *measured)[order]
        self._group = group[order]
        self._time = rows.get_column("__time").to_numpy()
        self._offset = rows.get_column("offset").to_numpy()
        self._partials = of.lift(rows)
        self._tiles = at_once(self._tile, of.sizes)

    def _entity_codes(self, keys: pl.DataFrame) -> np.ndarray:
        """The code of each query's entity; -1 where it has none here."""
        found = keys.select(self._names).join(self._entities, on=self._names, how="left", maintain_order="left")
        codes: np.ndarray = found.get_column("__entity").cast(pl.Int64).fill_null(-1).to_numpy()
        return codes

    def _tile(self, size: int) -> Tiles:
        k = np.floor_divide(self._time, size)
        order = stable_order(self._group, k)
        group, k = self._group[order], k[order]
        if not len(order):
            none = np.zeros(0, np.int64)
            return Tiles(self._kernel.empty[:0], order, none, none, none, none, none)
        starts = run_starts(group, k)
        ends = np.append(starts[1:], len(order))
        tiles = self._merged(order, starts, ends)
        tiles["k"] = k[starts]
        offset = self._offset[order]
        return Tiles(tiles, order, starts, ends, offset[starts], offset[ends - 1], group[starts])

    def _merged(self, order: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Each run of rows in that order as one partial; a row alone, as most are in fine tiles, is one already."""
        several = np.flatnonzero(ends - starts > 1)
        if self._kernel.sketches or 2 * len(several) > len(starts):
            return self._kernel.reduce(self._partials.take(order), starts)
        merged: np.ndarray = self._partials.take(order[starts])
        if len(several):
            position, run = _expand(starts[several], ends[several])
            merged[several] = self._kernel.reduce(self._partials.take(order[position]), run_starts(run))
        return merged

    def values(self, keys: pl.DataFrame, at_us: np.ndarray, offsets: np.ndarray) -> list[Values]:
        """One Values a column of the kernel, a row a query; ``offsets`` is V, a row a query, a column a source."""
        codes = self._entity_codes(keys)
        order = np.lexsort((at_us, codes))  # neighbours find their tiles side by side
        asked = np.column_stack([codes, at_us, offsets])[order]
        first = np.ones(len(asked), bool)
        first[1:] = (asked[1:] != asked[:-1]).any(axis=1)  # what is asked several times is answered once
        distinct, back = asked[first], np.empty(len(asked), np.int64)
        back[order] = np.cumsum(first) - 1
        answers = self._distinct(distinct[:, 0], distinct[:, 1], distinct[:, 2:])
        return [(values[back], present[back]) for values, present in answers]

    def _distinct(self, entity: np.ndarray, at_us: np.ndarray, offsets: np.ndarray) -> list[Values]:
        most = max((window.tiles for window in self._kernel.windows), default=1) * max(self._sources, 1)
        step = max(1, _CHUNK // (most * max(spread(of.tiles) for of in self._tiles)))
        chunks = [slice(start, start + step) for start in range(0, max(len(at_us), 1), step)]
        parts = at_once(lambda chunk: self._chunk(entity[chunk], at_us[chunk], offsets[chunk]), chunks)
        return [
            (np.concatenate([part[c][0] for part in parts]), np.concatenate([part[c][1] for part in parts]))
            for c in range(len(self._kernel.columns))
        ]

    def _chunk(self, entity: np.ndarray, at_us: np.ndarray, offsets: np.ndarray) -> list[Values]:
        found = [self._select(resolution, entity, at_us, offsets) for resolution in range(len(self._kernel.sizes))]
        tiles, query, rank = ([one[part] for one in found] for part in range(3))
        return self._kernel.evaluate(tiles, query, rank, at_us)

    def _select(
        self, resolution: int, entity: np.ndarray, at_us: np.ndarray, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tiles of one size that each query may see below its V, sorted by query."""
        of = self._tiles[resolution]
        newest = np.floor_divide(at_us, self._kernel.sizes[resolution])
        tiles_back = max(w.tiles for w in self._kernel.windows if w.resolution == resolution)
        tiles, query, rank = [], [], []
        for code in range(self._sources):
            low, high = of.ranges(entity * self._sources + code, newest - tiles_back + 1, newest)
            which, pair = _expand(low, high)
            below = offsets[pair, code]
            whole = of.highest[which] < below
            cut = ~whole & (of.lowest[which] < below)
            tiles.append(of.tiles.take(which[whole]))  # five times as quick as indexing records
            query.append(pair[whole])
            rebuilt, its_query = self._rebuild(of, which[cut], pair[cut], below[cut])
            tiles.append(rebuilt)
            query.append(its_query)
            rank.append(np.full(len(tiles[-2]) + len(rebuilt), code, np.int64))
        if not tiles:
            return of.tiles[:0], np.zeros(0, np.int64), np.zeros(0, np.int64)
        owners = np.concatenate(query)
        if (owners[1:] >= owners[:-1]).all():  # one source, no tile cut: in order as it is
            return self._kernel.join(tiles), owners, np.concatenate(rank)
        order = np.argsort(owners, kind="stable")
        return self._kernel.join(tiles).take(order), owners[order], np.concatenate(rank)[order]

    def _rebuild(
        self, of: Tiles, which: np.ndarray, pair: np.ndarray, below: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tiles that V cuts, from their rows below it."""
        position, tile = _expand(of.starts[which], of.ends[which])
        rows = of.order[position]
        seen = self._offset[rows] < below[tile]
        rows, tile = rows[seen], tile[seen]
        if not len(rows):
            return of.tiles[:0], pair[:0]
        starts = run_starts(tile)
        tiles = self._kernel.reduce(self._partials.take(rows), starts)
        tiles["k"] = of.tiles["k"][which[tile[starts]]]
        return tiles, pair[tile[starts]]


def _entities(keys: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """The entities with their codes ``__entity``, and the code of each row's."""
    rows_of = keys.with_row_index("__row").group_by(keys.columns).agg("__row").with_row_index("__entity")
    rows = rows_of.get_column("__row")
    codes = np.empty(keys.height, np.int64)
    codes[rows.explode(empty_as_null=False).to_numpy()] = np.repeat(np.arange(len(rows)), rows.list.len().to_numpy())
    return rows_of.drop("__row"), codes


def _expand(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All positions of the ranges [low, high), and the index of the range that each belongs to."""
    length = np.maximum(high - low, 0)
    owner = np.repeat(np.arange(len(low)), length)
    first = np.repeat(np.cumsum(length) - length, length)
    return np.arange(len(owner)) - first + low[owner], owner


def at_once(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """The result of each part, in order; a few at once, as numpy lets threads run side by side."""
    if len(parts) == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(_THREADS, "headrace-history") as threads:
        return list(threads.map(work, parts))
