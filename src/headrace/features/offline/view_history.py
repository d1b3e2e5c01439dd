"""value(V, t) from the event log, for many (entity, t, V) at once: training sets, audits and tests.

The rows of whole source partitions decide what V contains. The values come from tiles of the rows that the queries may
use, of some entities at a time if there are many. The kernel is the one of look-ups, and the memory is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.bus.source_partition import NO_CLOCK
from headrace.event_log.by_source import source_codes
from headrace.event_log.columns import ACCEPTED
from headrace.features.kernel.role_rows import SIGN, view_rows
from headrace.features.kernel.sorting import stable_order
from headrace.features.kernel.states import FOREVER
from headrace.features.kernel.tile_kernel import TileKernel, kernel
from headrace.features.offline.tile_index import TileIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.kernel.states import Values

_PLACES = ["__source", "__offset", "__available_at"]
INDEX_ROWS = 2_000_000
"""The number of rows from which tiles are made at once. A row takes a few hundred bytes.

If there are more rows, the tiles of a part of the entities are made at a time.
"""


@dataclass(frozen=True)
class PointInTimeQueries:
    """Queries: entity keys (one column a join key), t in us, and V with one offset a query and source partition.

    ``left_out`` has the shape of ``offsets``: the offset of a record below V that does not count, -1 for none.
    """

    keys: pl.DataFrame
    at_us: np.ndarray
    offsets: np.ndarray
    sources: Sequence[SourcePartition]
    left_out: np.ndarray | None = None


class ViewHistory:
    """The rows of a view's streams, for point-in-time queries. ``ends`` are the offsets up to which they were read.

    ``rows`` are those of the view's only stream, or by topic those of each of its streams.
    A source partition with an end may have no rows here: then no row that matters was read.
    """

    def __init__(
        self,
        spec: ViewSpec,
        rows: pl.DataFrame | Mapping[str, pl.DataFrame],
        ends: Mapping[SourcePartition, int] | None = None,
    ) -> None:
        self.kernel: TileKernel = kernel(spec)
        self._ends = ends or {}
        by_topic = {spec.stream.topic: rows} if isinstance(rows, pl.DataFrame) else rows
        found = {topic: source_codes(each, self._ends) for topic, each in by_topic.items()}
        self.sources = sorted({source for own, _ in found.values() for source in own})
        coded = {
            topic: each.with_columns(pl.Series("__source", self._among_all(*found[topic])))
            for topic, each in by_topic.items()
        }
        accepted = pl.concat([_accepted(spec, topic, each) for topic, each in coded.items()])
        self._available = self._by_source(_joined(coded.values()), "__available_at")
        self._clocks = self._available if spec.clock == "wall" else self._event_clocks(accepted)
        self._names = spec.key_names
        self._measured = [*spec.measured_fields, *([SIGN] if spec.takes_back else [])]
        used = list(dict.fromkeys([*self._names, "__time", "__source", "__row_offset", *self._measured]))
        self._kept = self.kernel.keep(accepted).select(used)

    def _among_all(self, own: Sequence[SourcePartition], codes: np.ndarray) -> np.ndarray:
        """Return the place of each row's source partition among all of the view's."""
        if list(own) == self.sources:
            return codes
        places: np.ndarray = np.array([self.sources.index(source) for source in own], np.int64)[codes]
        return places

    def _by_source(self, rows: pl.DataFrame, time: str) -> dict[SourcePartition, tuple[np.ndarray, np.ndarray]]:
        """Return a time in us and the offset of the rows of each source partition, by offset."""
        times, offsets = rows.get_column(time).cast(pl.Int64).to_numpy(), rows.get_column("__offset").to_numpy()
        codes = rows.get_column("__source").to_numpy()
        order = stable_order(codes, offsets)
        if (order[1:] < order[:-1]).any():
            times, offsets, codes = times[order], offsets[order], codes[order]
        ends = np.searchsorted(codes, np.arange(len(self.sources) + 1)).tolist()
        return {
            source: (times[begin:end], offsets[begin:end])
            for source, (begin, end) in zip(self.sources, pairwise(ends), strict=True)
        }

    def _event_clocks(self, accepted: pl.DataFrame) -> dict[SourcePartition, tuple[np.ndarray, np.ndarray]]:
        """Return the running maximum of the event time and the offset of each source partition's accepted rows."""
        own = self._by_source(accepted, "__time")
        return {source: (np.maximum.accumulate(times), offsets) for source, (times, offsets) in own.items()}

    def known_at(self, t_us: np.ndarray, delay_us: int) -> np.ndarray:
        """Return V by availability, for each query and source partition.

        It is the offset after the last row with ``available_at <= t - delay``.
        """
        columns = []
        order = np.argsort(t_us)  # in order the search is five times as fast
        known_us, count = t_us[order] - delay_us, np.empty(len(t_us), np.int64)
        for source in self.sources:
            available, offsets = self._available[source]
            count[order] = np.searchsorted(available, known_us, side="right")
            end = int(offsets[-1]) + 1 if len(offsets) else self._ends.get(source, 0)
            columns.append(np.append(offsets, end)[count])
        return np.stack(columns, axis=1) if columns else np.zeros((len(t_us), 0), np.int64)

    def out_of_range(self, at_us: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return True for each t that is older than the view's clock at V minus its history. Such a t has no value.

        ``offsets`` is V, with one row for each query and one column for each source partition.
        """
        clock = np.full(len(at_us), NO_CLOCK)
        for column, source in enumerate(self.sources):
            clocks, below = self._clocks[source]
            count = np.searchsorted(below, offsets[:, column], side="left")
            clock = np.maximum(clock, np.append([NO_CLOCK], clocks)[count])
        outside: np.ndarray = at_us < clock - self.kernel.spec.history_us
        return outside

    def values(self, queries: PointInTimeQueries) -> list[Values]:
        """Return the values of each column of the kernel, with one row for each query.

        If a query does not name a source partition, the records of this partition do not count for it.
        """
        keys, offsets = queries.keys.select(self._names), self._align(queries, queries.offsets, absent=0)
        left_out = None if queries.left_out is None else self._align(queries, queries.left_out, absent=-1)
        if self._kept.height <= INDEX_ROWS:
            return self._whole.values(keys, queries.at_us, offsets, left_out)
        places, parts = [], []
        for index, chosen in self._pieces(keys, queries.at_us):
            places.append(chosen)
            own = None if left_out is None else left_out[chosen]
            parts.append(index.values(keys[chosen], queries.at_us[chosen], offsets[chosen], own))
        back = np.empty(len(offsets), np.int64)
        back[np.concatenate(places)] = np.arange(len(back))
        return [
            (
                np.concatenate([values for values, _ in column])[back],
                np.concatenate([there for _, there in column])[back],
            )
            for column in zip(*parts, strict=True)
        ]

    @cached_property
    def _whole(self) -> TileIndex:
        return TileIndex(self.kernel, self._kept, len(self.sources), self._measured)

    def _pieces(self, keys: pl.DataFrame, at_us: np.ndarray) -> Iterator[tuple[TileIndex, np.ndarray]]:
        """Yield an index of some entities' rows at a time, and the queries that it answers."""
        in_time = self._kept.select(pl.col("__time").is_between(*self._times(at_us))).to_series()
        number = max(1, -(-int(in_time.sum()) // INDEX_ROWS))
        of_rows, of_queries = (_bucket(frame.select(self._names), number) for frame in (self._kept, keys))
        for bucket in of_queries.unique().to_list() or [0]:
            chosen = np.flatnonzero(of_queries.to_numpy() == bucket)
            rows = self._kept.filter(in_time & (of_rows == bucket))
            rows = rows.join(keys[chosen].unique(), on=self._names, how="semi", maintain_order="left")
            yield TileIndex(self.kernel, rows, len(self.sources), self._measured), chosen

    def _times(self, at_us: np.ndarray) -> tuple[int, int]:
        """The first and the last event time that a query may use."""
        first = int(at_us.min(initial=-NO_CLOCK)) - self.kernel.spec.longest_reach_us
        if self.kernel.most_rows:  # they may be newer than t
            return first, FOREVER
        return first, int(at_us.max(initial=NO_CLOCK)) + max(self.kernel.sizes)

    def _align(self, queries: PointInTimeQueries, offsets: np.ndarray, *, absent: int) -> np.ndarray:
        """Return offsets with one column for each source of this view; ``absent`` for a source without a column."""
        aligned = np.full((len(queries.at_us), len(self.sources)), absent, np.int64)
        for column, source in enumerate(queries.sources):
            if source in self.sources:
                aligned[:, self.sources.index(source)] = offsets[:, column]
        return aligned


def _bucket(keys: pl.DataFrame, number: int) -> pl.Series:
    """Return the bucket of each entity."""
    return (keys.hash_rows() % number).cast(pl.UInt32)


def _accepted(spec: ViewSpec, topic: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the view that a stream's accepted rows are."""
    return view_rows(_where(rows, pl.col("__verdict") == ACCEPTED), spec, topic)


def _joined(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return the places and the times of the rows of all streams. Those of one stream are not copied."""
    found = list(frames)
    return found[0] if len(found) == 1 else pl.concat([rows.select(_PLACES) for rows in found])


def _where(rows: pl.DataFrame, condition: pl.Expr) -> pl.DataFrame:
    """Return the rows on which a condition is true. If it is true on all, they are not copied."""
    chosen = rows.select(condition).to_series()
    return rows if chosen.all() else rows.filter(chosen)
