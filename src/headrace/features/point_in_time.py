"""value(V, t) over the event log, for many (entity, t, V) at once: training sets, audits and tests.

The rows of a view become tiles by (source partition, entity, k). A tile whose rows all lie below a query's V counts as
a whole; one that V cuts is rebuilt from its rows. So the same kernel answers as answered online.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.features.kernel import Kernel, kernel, run_starts
from headrace.features.log import ACCEPTED
from headrace.features.online import NO_CLOCK, Source
from headrace.features.sketched import spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.states import Values

_CHUNK = 4_000_000
"""Pairs of query and tile, or entry of a sketch, held at once: bounds the memory."""
_MOST = 2**62


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
        low = np.searchsorted(self._places, self._place(group, first_k))
        return low, np.searchsorted(self._places, self._place(group, last_k + 1))


class ViewHistory:
    """The accepted rows of one view's stream, indexed for point-in-time queries."""

    def __init__(self, spec: Mapping[str, Any], rows: pl.DataFrame) -> None:
        self.kernel: Kernel = kernel(spec)
        accepted = rows.filter(pl.col("__verdict") == ACCEPTED)
        kept = self.kernel.keep(with_time(accepted, spec["source"]["event_time"]))
        self.sources = _sources(rows)
        self._names = [key for key, _ in self.kernel.entity_keys]
        self._entities = kept.select(self._names).unique(maintain_order=True).with_row_index("__entity")
        self._time = kept.get_column("__time").to_numpy()
        self._offset = kept.get_column("offset").to_numpy()
        self._group = self._groups(kept)
        self._partials = self.kernel.lift(kept)
        self._available = {s: _available(rows, s) for s in self.sources}
        self._clocks = self._available if spec["clock"] == "wall" else self._event_clocks(accepted)
        self._tiles = [self._tile(size) for size in self.kernel.sizes]

    def _event_clocks(self, accepted: pl.DataFrame) -> dict[Source, tuple[np.ndarray, np.ndarray]]:
        """The running maximum of the event time and the offset of each source partition's accepted rows."""
        timed = with_time(accepted, self.kernel.spec["source"]["event_time"])
        own = {source: timed.filter(_is(source)).sort("offset") for source in self.sources}
        return {
            source: (np.maximum.accumulate(rows["__time"].to_numpy()), rows["offset"].to_numpy())
            for source, rows in own.items()
        }

    def _groups(self, kept: pl.DataFrame) -> np.ndarray:
        """Entity code times number of sources plus source code, a row."""
        entity = kept.join(self._entities, on=self._names, how="left", maintain_order="left").get_column("__entity")
        source = np.zeros(kept.height, np.int64)
        for code, one in enumerate(self.sources):
            source[(kept.select(_is(one)).to_series()).to_numpy()] = code
        return entity.to_numpy().astype(np.int64) * max(len(self.sources), 1) + source

    def _tile(self, size: int) -> _Tiles:
        k = np.floor_divide(self._time, size)
        order = np.lexsort((self._offset, k, self._group))
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
        asked = np.column_stack([entity_codes, queries.at_us, offsets])
        distinct, back = np.unique(asked, axis=0, return_inverse=True)
        answers = self._distinct(distinct[:, 0], distinct[:, 1], distinct[:, 2:])
        back = back.reshape(-1)
        return [(values[back], present[back]) for values, present in answers]

    def _align(self, queries: Queries) -> np.ndarray:
        aligned = np.zeros((len(queries.at_us), len(self.sources)), np.int64)
        for column, source in enumerate(queries.sources):
            if source in self.sources:
                aligned[:, self.sources.index(source)] = queries.offsets[:, column]
        return aligned

    def _distinct(self, entity: np.ndarray, at_us: np.ndarray, offsets: np.ndarray) -> list[Values]:
        parts: list[list[Values]] = []
        most = max((window.tiles for window in self.kernel.windows), default=1) * max(len(self.sources), 1)
        step = max(1, _CHUNK // (most * max(spread(of.tiles) for of in self._tiles)))
        for start in range(0, len(at_us), step):
            chunk = slice(start, start + step)
            parts.append(self._chunk(entity[chunk], at_us[chunk], offsets[chunk]))
        if not parts:
            parts.append(self._chunk(entity, at_us, offsets))
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


def _is(source: Source) -> pl.Expr:
    return (pl.col("__partition") == source.partition) & (pl.col("__topic_id") == source.topic_id)


def _sources(rows: pl.DataFrame) -> list[Source]:
    pairs = rows.select("__partition", "__topic_id").unique()
    return sorted(Source(partition, topic_id) for partition, topic_id in pairs.iter_rows())


def _available(rows: pl.DataFrame, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """The available_at (us) and offset of a source partition's rows, both ascending."""
    own = rows.filter(_is(source)).sort("__offset")
    return own.get_column("__available_at").dt.epoch("us").to_numpy(), own.get_column("__offset").to_numpy()
