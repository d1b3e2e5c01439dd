"""The unique values that a source partition has had within a stream's time: which records are duplicates.

::

    record ──> id: 128 bits, made of its unique fields ──> IdTable of the span of its clock: (id, clock when seen last)

A span is an eighth of the time, so a whole table is dropped once the partition's clock has left it behind. A table has
at most seven ids in ten places, and a place takes 24 bytes: an id takes between 34 and 69 bytes.

A record with a timestamp far ahead holds the clock for a long time. The records after it are *overtaken*: the clock is
beyond their own timestamps by more than the stream's time. The clock never leaves them behind, so they have tables by
the block of their offsets. Those of the present block and of the one before are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
from msgspec import UNSET

from headrace.bus.nested_columns import column_of
from headrace.bus.source_partition import NO_CLOCK
from headrace.event_log.columns import REJECTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream
    from headrace.event_log.readable_log import ReadableLog

_SPANS = 8
_SEEDS = (1, 2)
_PLACES = 1 << 8
_FULL = 0.7
BLOCK = 1 << 19
"""The offsets of a block. The ids of overtaken records are kept to the end of the next block: at most 72 MB."""


class RecordIds:
    """The ids of records, as two arrays of 64 bits, with the clock of each record."""

    def __init__(self, first: NDArray[np.uint64], second: NDArray[np.uint64], clocks: NDArray[np.int64]) -> None:
        self.first, self.second, self.clocks = first, second, clocks

    @staticmethod
    def of(values: pl.DataFrame, clocks: np.ndarray) -> RecordIds:
        """Return the ids of rows by their unique values. Two values have one id with a chance of about 2^-128."""
        first, second = (values.hash_rows(seed).to_numpy() for seed in _SEEDS)
        return RecordIds(first, second, clocks)

    def __len__(self) -> int:
        return len(self.clocks)

    def take(self, which: np.ndarray) -> RecordIds:
        """Return the ids at these places."""
        return RecordIds(self.first[which], self.second[which], self.clocks[which])

    def in_order(self) -> np.ndarray:
        """Return the order that brings equal ids together. Those of one id stay as they are."""
        return np.lexsort((self.second, self.first))

    def repeats(self) -> NDArray[np.bool_]:
        """Return for each but the first whether the one before it has the same id."""
        same: NDArray[np.bool_] = (self.first[1:] == self.first[:-1]) & (self.second[1:] == self.second[:-1])
        return same


@dataclass(frozen=True)
class OffsetBlocks:
    """The block of offsets of each record, and whether the record is overtaken."""

    blocks: NDArray[np.int64]
    is_overtaken: NDArray[np.bool_]

    @staticmethod
    def of(
        offsets: NDArray[np.int64], clocks: NDArray[np.int64], timestamps_us: NDArray[np.int64], within_us: int
    ) -> OffsetBlocks:
        """Return the places of records. ``clocks`` are the partition's clock at each of them."""
        return OffsetBlocks(offsets // BLOCK, clocks - timestamps_us > within_us)

    def take(self, which: np.ndarray) -> OffsetBlocks:
        """Return the places of these records."""
        return OffsetBlocks(self.blocks[which], self.is_overtaken[which])


class IdTable:
    """A hash table of ids in arrays: for each id the largest clock at which it was seen."""

    def __init__(self, places: int = _PLACES) -> None:
        self._ids = RecordIds(np.zeros(places, np.uint64), np.zeros(places, np.uint64), np.full(places, NO_CLOCK))
        self._count = 0

    @property
    def nbytes(self) -> int:
        """The bytes that it takes."""
        return self._ids.first.nbytes + self._ids.second.nbytes + self._ids.clocks.nbytes

    def __len__(self) -> int:
        return self._count

    def clocks(self, ids: RecordIds) -> NDArray[np.int64]:
        """Return the clock of each id, NO_CLOCK for an id that it does not have."""
        found, left, place = np.full(len(ids), NO_CLOCK), np.arange(len(ids)), self._first_places(ids)
        while len(left):
            clocks = self._ids.clocks[place]
            is_taken = clocks != NO_CLOCK
            is_own = is_taken & self._holds(place, ids.take(left))
            found[left[is_own]] = clocks[is_own]
            goes_on = is_taken & ~is_own
            left, place = left[goes_on], self._next(place[goes_on])
        return found

    def put(self, ids: RecordIds) -> None:
        """Add ids, each once among them. An id that is there already takes the larger clock."""
        self._grow(self._count + len(ids))
        left, place, clocks = ids, self._first_places(ids), self._ids.clocks
        while len(left):
            free = np.flatnonzero(clocks[place] == NO_CLOCK)
            self._ids.first[place[free]], self._ids.second[place[free]] = left.first[free], left.second[free]
            is_own = self._holds(place, left)  # of several ids that took one place, the last has it
            self._count += int(np.count_nonzero(is_own[free]))
            own = place[is_own]
            clocks[own] = np.maximum(clocks[own], left.clocks[is_own])
            left, place = left.take(~is_own), self._next(place[~is_own])

    def _grow(self, count: int) -> None:
        places = len(self._ids)
        if count <= places * _FULL:
            return
        while count > places * _FULL:
            places *= 2
        larger, here = IdTable(places), self._ids.clocks != NO_CLOCK
        larger.put(self._ids.take(here))
        self._ids = larger._ids

    def _first_places(self, ids: RecordIds) -> NDArray[np.int64]:
        return (ids.first & np.uint64(len(self._ids) - 1)).astype(np.int64)

    def _next(self, place: np.ndarray) -> NDArray[np.int64]:
        following: NDArray[np.int64] = (place + 1) & (len(self._ids) - 1)
        return following

    def _holds(self, place: np.ndarray, ids: RecordIds) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = (self._ids.first[place] == ids.first) & (self._ids.second[place] == ids.second)
        return same


class SeenIds:
    """The ids that one source partition has had within a time before its clock."""

    def __init__(self, within_us: int) -> None:
        self._within_us = within_us
        self._span_us = -(-within_us // _SPANS)
        self._tables: dict[int, IdTable] = {}
        self._overtaken: dict[int, IdTable] = {}

    @property
    def nbytes(self) -> int:
        """The bytes that its ids take."""
        return sum(table.nbytes for table in self._all())

    def __len__(self) -> int:
        return sum(map(len, self._all()))

    def duplicates(self, ids: RecordIds, places: OffsetBlocks | None = None) -> NDArray[np.bool_]:
        """Return for each record, in order, whether its id was seen within the time before. Remember them all.

        Without ``places`` no record is overtaken. The id of an overtaken record is not seen any more from the second
        next block on.
        """
        if not len(ids):
            return np.zeros(0, bool)
        if places is None or not (self._overtaken or places.is_overtaken.any()):
            return self._duplicates(ids)
        found = np.zeros(len(ids), bool)
        for block in np.unique(places.blocks).tolist():
            self._forget_before(block - 1)
            own = places.blocks == block
            found[own] = self._duplicates(ids.take(own), places.take(own))
        return found

    def _duplicates(self, ids: RecordIds, places: OffsetBlocks | None = None) -> NDArray[np.bool_]:
        """Return the same for records of one block."""
        order = ids.in_order()
        ordered = ids.take(order)
        before = np.append(NO_CLOCK, np.where(ordered.repeats(), ordered.clocks[:-1], NO_CLOCK))
        heads = np.flatnonzero(before == NO_CLOCK)
        before[heads] = self._clocks(ordered.take(heads))
        found = np.empty(len(ids), bool)
        found[order] = ordered.clocks - before <= self._within_us
        self.remember(ids, places)
        return found

    def remember(self, ids: RecordIds, places: OffsetBlocks | None = None) -> None:
        """Remember ids, in any order. Forget what no later record can be a duplicate of."""
        if places is not None:
            for block in np.unique(places.blocks[places.is_overtaken]).tolist():
                own = ids.take(places.is_overtaken & (places.blocks == block))
                self._overtaken.setdefault(block, IdTable()).put(_newest(own))
            ids = ids.take(~places.is_overtaken)
        if not len(ids):
            return
        ids = ids.take(ids.clocks >= ids.clocks.max() - self._within_us)
        spans = ids.clocks // self._span_us
        for span in np.unique(spans).tolist():
            self._tables.setdefault(span, IdTable()).put(_newest(ids.take(spans == span)))
        self._forget()

    def _all(self) -> list[IdTable]:
        return [*self._tables.values(), *self._overtaken.values()]

    def _clocks(self, ids: RecordIds) -> NDArray[np.int64]:
        newest = np.full(len(ids), NO_CLOCK)
        for table in self._all():
            np.maximum(newest, table.clocks(ids), out=newest)
        return newest

    def _forget(self) -> None:
        """Drop the hash tables whose newest id is older than the time to remember."""
        reach = max(self._tables) * self._span_us - self._within_us
        for span in [span for span in self._tables if (span + 1) * self._span_us <= reach]:
            del self._tables[span]

    def _forget_before(self, first: int) -> None:
        """Drop the hash tables of overtaken records of blocks before this one."""
        for block in [block for block in self._overtaken if block < first]:
            del self._overtaken[block]


def _newest(ids: RecordIds) -> RecordIds:
    """Return each id once, with its largest clock."""
    ordered = ids.take(np.lexsort((ids.clocks, ids.second, ids.first)))
    return ordered.take(np.append(~ordered.repeats(), True))


def unique_values(stream: Stream, rows: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Return the columns of a stream's unique fields, and for each row whether none of them is null."""
    columns = [column_of(rows, name) for name in stream.unique_fields]
    is_whole = np.ones(rows.height, bool)
    for column in columns:
        if column.null_count():
            is_whole &= column.is_not_null().to_numpy()
    return pl.DataFrame(columns), is_whole


def seen_before(
    log: ReadableLog, stream: Stream, source: SourcePartition, position: int, clock_us: int
) -> SeenIds | None:
    """Return the ids that a partition has had below a position, from its rows in the log; None without ``unique=``.

    ``clock_us`` is the partition's clock there. Raises OfflineStoreUnavailableError.
    """
    import pyarrow.dataset as ds  # noqa: PLC0415 - it imports pandas, which takes a second

    within_us = stream.spec.within_us
    if within_us is UNSET:
        return None
    seen = SeenIds(within_us)
    if clock_us > NO_CLOCK:
        first = position // BLOCK - 1
        in_blocks = ds.field("__offset") >= first * BLOCK
        keep = (
            (ds.field("__partition") == source.partition)
            & (ds.field("__offset") < position)
            & (ds.field("__available_at") >= _moment(clock_us - within_us))
            & (ds.field("__verdict") != REJECTED)
            & (in_blocks | (ds.field("__record_timestamp") >= _moment(clock_us - 2 * within_us)))  # else overtaken
        )
        for rows in log.scan(stream.topic, ["__available_at", "__record_timestamp", *stream.unique_fields], keep):
            own = rows.filter(pl.col("__topic_id") == source.topic_id)
            values, is_whole = unique_values(stream, own)
            clocks, timestamps, offsets = (own.get_column(name).to_numpy().astype(np.int64) for name in _PLACED_BY)
            places = OffsetBlocks.of(offsets, clocks, timestamps, within_us)
            is_kept = is_whole & (~places.is_overtaken | (places.blocks >= first))
            seen.remember(RecordIds.of(values, clocks).take(is_kept), places.take(is_kept))
    return seen


_PLACED_BY = ("__available_at", "__record_timestamp", "__offset")


def _moment(time_us: int) -> pa.Scalar:
    return pa.scalar(time_us, pa.timestamp("us", "UTC"))
