"""value(V, t) over the event log, for many (entity, t, V) at once: training sets, audits and tests.

The rows of a view become tiles by (source partition, entity, k). A tile whose rows all lie below a query's V counts as
a whole; one that V cuts is rebuilt from its rows. So the same kernel answers as answered online.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

from headrace.features.expression import columns
from headrace.features.kernel import Kernel, inline, kernel, run_starts
from headrace.features.log import ACCEPTED
from headrace.features.online import NO_CLOCK
from headrace.features.order import source_codes, stable_order
from headrace.features.sketched import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.features.online import Source
    from headrace.features.states import Values

_CHUNK = 2_000_000
"""Pairs of query and tile, or entry of a sketch, that a thread holds at once: bounds the memory."""
_THREADS = 2
_MOST = 2**62
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Queries:
    """What is asked: entity keys (one column a join key), t in us, and V: one offset a query and source partition."""

    keys: pl.DataFrame
    at_us: np.ndarray
    offsets: np.ndarray
    sources: Sequence[Source]


@dataclass
class _Tiles:
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
    def _span(self) -> int:
        return int(self.tiles["k"].max()) - int(self.tiles["k"].min()) + 1

    @cached_property
    def _places(self) -> np.ndarray:
        """Ascending with (group, k)."""
        return self._place(self.group, self.tiles["k"])

    def _place(self, group: np.ndarray, k: np.ndarray) -> np.ndarray:
        """The place of the first tile that a group may have from k on."""
        if self._ks is None:
            rank, width = np.clip(k - self.tiles["k"].min(), 0, self._span), self._span
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


class ViewHistory:
    """The accepted rows of one view's stream, indexed for point-in-time queries."""

    def __init__(self, spec: Mapping[str, Any], rows: pl.DataFrame) -> None:
        self.kernel: Kernel = kernel(spec)
        self.sources, codes = source_codes(rows)
        coded = rows.with_columns(pl.Series("__source", codes))
        accepted = with_time(_where(coded, pl.col("__verdict") == ACCEPTED), spec["source"]["event_time"])
        self._available = self._by_source(coded, "__available_at")
        self._clocks = self._available if spec["clock"] == "wall" else self._event_clocks(accepted)
        self._names = [key for key, _ in self.kernel.entity_keys]
        self._index(self.kernel.keep(accepted))

    def _index(self, kept: pl.DataFrame) -> None:
        """Put the rows of each entity and source together, by offset, and make tiles of them."""
        self._entities = kept.select(self._names).unique(maintain_order=True).with_row_index("__entity")
        group = self._groups(kept)
        order = stable_order(group, kept.get_column("offset").to_numpy())
        kept = kept.select("__time", "offset", *measured_columns(self.kernel.spec))[order]
        self._group = group[order]
        self._time = kept.get_column("__time").to_numpy()
        self._offset = kept.get_column("offset").to_numpy()
        self._partials = self.kernel.lift(kept)
        self._tiles = _at_once(self._tile, self.kernel.sizes)

    def _by_source(self, rows: pl.DataFrame, time: str) -> dict[Source, tuple[np.ndarray, np.ndarray]]:
        """A time in us, and the offset, of the rows of each source partition, by offset."""
        times, offsets = rows.get_column(time).cast(pl.Int64).to_numpy(), rows.get_column("__offset").to_numpy()
        codes = rows.get_column("__source").to_numpy()
        found = {}
        for code, source in enumerate(self.sources):
            own = np.flatnonzero(codes == code)
            own = own[stable_order(np.zeros(len(own), np.int64), offsets[own])]
            found[source] = times[own], offsets[own]
        return found

    def _event_clocks(self, accepted: pl.DataFrame) -> dict[Source, tuple[np.ndarray, np.ndarray]]:
        """The running maximum of the event time and the offset of each source partition's accepted rows."""
        own = self._by_source(accepted, "__time")
        return {source: (np.maximum.accumulate(times), offsets) for source, (times, offsets) in own.items()}

    def _groups(self, kept: pl.DataFrame) -> np.ndarray:
        """Entity code times number of sources plus source code, a row."""
        entity = kept.join(self._entities, on=self._names, how="left", maintain_order="left").get_column("__entity")
        source = kept.get_column("__source").to_numpy()
        group: np.ndarray = entity.to_numpy().astype(np.int64) * max(len(self.sources), 1) + source
        return group

    def _tile(self, size: int) -> _Tiles:
        k = np.floor_divide(self._time, size)
        order = stable_order(self._group, k)
        group, k = self._group[order], k[order]
        if not len(order):
            none = np.zeros(0, np.int64)
            return _Tiles(self.kernel.empty[:0], order, none, none, none, none, none)
        starts = run_starts(group, k)
        ends = np.append(starts[1:], len(order))
        tiles = self.kernel.reduce(self._partials.take(order), starts)
        tiles["k"] = k[starts]
        offset = self._offset[order]
        return _Tiles(tiles, order, starts, ends, offset[starts], offset[ends - 1], group[starts])

    def known_at(self, t_us: np.ndarray, delay_us: int) -> np.ndarray:
        """V by availability: per query and source, the offset after the last row with ``available_at <= t - delay``."""
        columns = []
        for source in self.sources:
            available, offsets = self._available[source]
            count = np.searchsorted(available, t_us - delay_us, side="right")
            columns.append(
                np.append(offsets, offsets[-1:] + 1)[count] if len(offsets) else np.zeros(len(t_us), np.int64)
            )
        return np.stack(columns, axis=1) if columns else np.zeros((len(t_us), 0), np.int64)

    def out_of_range(self, at_us: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Whether each t is older than the view's clock at V minus its history, so that there is no value.

        ``offsets`` is V: a row a query, a column a source.
        """
        clock = np.full(len(at_us), NO_CLOCK)
        for column, source in enumerate(self.sources):
            clocks, below = self._clocks[source]
            count = np.searchsorted(below, offsets[:, column], side="left")
            clock = np.maximum(clock, np.append([NO_CLOCK], clocks)[count])
        outside: np.ndarray = at_us < clock - self.kernel.spec["history_us"]
        return outside

    def values(self, queries: Queries) -> list[Values]:
        """One Values a column of the kernel, a row a query. A source that a query does not name counts as not read."""
        offsets = self._align(queries)
        entity = queries.keys.select(self._names).join(
            self._entities, on=self._names, how="left", maintain_order="left"
        )
        entity_codes = entity.get_column("__entity").cast(pl.Int64).fill_null(-1).to_numpy()
        order = np.lexsort((queries.at_us, entity_codes))  # neighbours find their tiles side by side
        asked = np.column_stack([entity_codes, queries.at_us, offsets])[order]
        first = np.ones(len(asked), bool)
        first[1:] = (asked[1:] != asked[:-1]).any(axis=1)  # what is asked several times is answered once
        distinct, back = asked[first], np.empty(len(asked), np.int64)
        back[order] = np.cumsum(first) - 1
        answers = self._distinct(distinct[:, 0], distinct[:, 1], distinct[:, 2:])
        return [(values[back], present[back]) for values, present in answers]

    def _align(self, queries: Queries) -> np.ndarray:
        aligned = np.zeros((len(queries.at_us), len(self.sources)), np.int64)
        for column, source in enumerate(queries.sources):
            if source in self.sources:
                aligned[:, self.sources.index(source)] = queries.offsets[:, column]
        return aligned

    def _distinct(self, entity: np.ndarray, at_us: np.ndarray, offsets: np.ndarray) -> list[Values]:
        most = max((window.tiles for window in self.kernel.windows), default=1) * max(len(self.sources), 1)
        step = max(1, _CHUNK // (most * max(spread(of.tiles) for of in self._tiles)))
        chunks = [slice(start, start + step) for start in range(0, max(len(at_us), 1), step)]
        parts = _at_once(lambda chunk: self._chunk(entity[chunk], at_us[chunk], offsets[chunk]), chunks)
        return [
            (np.concatenate([part[c][0] for part in parts]), np.concatenate([part[c][1] for part in parts]))
            for c in range(len(self.kernel.columns))
        ]

    def _chunk(self, entity: np.ndarray, at_us: np.ndarray, offsets: np.ndarray) -> list[Values]:
        found = [self._select(resolution, entity, at_us, offsets) for resolution in range(len(self.kernel.sizes))]
        tiles, query, rank = ([one[part] for one in found] for part in range(3))
        return self.kernel.evaluate(tiles, query, rank, at_us)

    def _select(
        self, resolution: int, entity: np.ndarray, at_us: np.ndarray, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tiles of one size that each query may see below its V, sorted by query."""
        of = self._tiles[resolution]
        newest = np.floor_divide(at_us, self.kernel.sizes[resolution])
        tiles_back = max(w.tiles for w in self.kernel.windows if w.resolution == resolution)
        tiles, query, rank = [], [], []
        for code in range(len(self.sources)):
            low, high = of.ranges(entity * len(self.sources) + code, newest - tiles_back + 1, newest)
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
            return self.kernel.join(tiles), owners, np.concatenate(rank)
        order = np.argsort(owners, kind="stable")
        return self.kernel.join(tiles).take(order), owners[order], np.concatenate(rank)[order]

    def _rebuild(
        self, of: _Tiles, which: np.ndarray, pair: np.ndarray, below: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tiles that V cuts, from their rows below it."""
        position, tile = _expand(of.starts[which], of.ends[which])
        rows = of.order[position]
        seen = self._offset[rows] < below[tile]
        rows, tile = rows[seen], tile[seen]
        if not len(rows):
            return of.tiles[:0], pair[:0]
        starts = run_starts(tile)
        tiles = self.kernel.reduce(self._partials.take(rows), starts)
        tiles["k"] = of.tiles["k"][which[tile[starts]]]
        return tiles, pair[tile[starts]]


def _expand(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All positions of the ranges [low, high), and the index of the range that each belongs to."""
    length = np.maximum(high - low, 0)
    owner = np.repeat(np.arange(len(low)), length)
    first = np.repeat(np.cumsum(length) - length, length)
    return np.arange(len(owner)) - first + low[owner], owner


def with_time(frame: pl.DataFrame, event_time: str) -> pl.DataFrame:
    """The frame with ``__time`` (event time in us) and ``offset``, as the kernel wants it."""
    time, offset = frame.get_column(event_time).cast(pl.Int64), frame.get_column("__offset")
    return frame.hstack([time.alias("__time"), offset.alias("offset")])


def _at_once(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """The result of each part, in order; a few at once, as numpy lets threads run side by side."""
    if len(parts) == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(_THREADS, "headrace-history") as threads:
        return list(threads.map(work, parts))


def measured_columns(spec: Mapping[str, Any]) -> list[str]:
    """The fields that the expressions of a view name."""
    derived = derived_columns(spec)
    trees = [spec["where"], *(feature[part] for feature in spec["features"] for part in ("value", "where"))]
    return sorted({column for tree in trees if tree is not None for column in columns(inline(tree, derived))})


def derived_columns(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What each derived column of a view stands for, by its fields alone."""
    derived: dict[str, Any] = {}
    for name, tree in spec["derived"]:
        derived[name] = inline(tree, derived)
    return derived


def _where(rows: pl.DataFrame, condition: pl.Expr) -> pl.DataFrame:
    """The rows on which a condition is true; not copied where that is all of them."""
    chosen = rows.select(condition).to_series()
    return rows if chosen.all() else rows.filter(chosen)
