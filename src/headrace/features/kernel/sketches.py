"""Sketches: a tile keeps many values in entries, whose number is not fixed.

The entries of one owner collapse to the same entries in any order and any grouping, exactly. An entry is computed with
whole numbers and bits only, so every machine and version gives the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from headrace.features.kernel.category_sketch import CATEGORY_TEXT, CategorySketch
from headrace.features.kernel.hyperloglog import estimate
from headrace.features.kernel.text_sketch import TextSketch
from headrace.features.kernel.unique_sketch import UniqueSketch
from headrace.features.kernel.vector_sketch import OneVectorSketch, VectorSumSketch

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.features.kernel.states import Component, Values


class Sketch(Protocol):
    """The content of one component next to a tile."""

    @property
    def dtype(self) -> np.dtype:
        """The dtype of an entry."""
        ...

    def lift(self, values: np.ndarray, time_us: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Return the entry of each row."""
        ...

    def collapse(self, entries: np.ndarray, owner: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Merge the entries of each owner (ascending from 0). ``rank`` orders the source partitions of the entries."""
        ...

    def value(self, entries: np.ndarray, count: np.ndarray, item: int) -> Values:
        """Return the value of each owner from its ``count`` collapsed entries; ``item`` chooses one of several."""
        ...


class ValueSketch(Sketch, Protocol):
    """A sketch that keeps values as they are."""

    def newest(self, entries: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all values, owner after owner, the newest first, and the number of values of each owner."""
        ...


_RANK_BITS = 6


@dataclass(frozen=True)
class RegisterSketch:
    """HyperLogLog with 2^precision registers; an entry is ``register << 6 | rank``. Its values are 64-bit hashes."""

    precision: int

    @property
    def dtype(self) -> np.dtype:
        """Two bytes up to precision 10, four bytes beyond."""
        return np.dtype("<u2" if self.precision + _RANK_BITS <= 16 else "<u4")  # noqa: PLR2004 - bits

    def lift(self, values: np.ndarray, time_us: np.ndarray, offset: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """The low bits of the hash choose the register. The zeros at the end of the other bits make the rank."""
        register = values & np.uint64(2**self.precision - 1)
        rest = values >> np.uint64(self.precision)
        zeros = np.bitwise_count((rest & (~rest + np.uint64(1))) - np.uint64(1))
        rank = np.minimum(zeros, 64 - self.precision) + 1
        entry: np.ndarray = (register << np.uint64(_RANK_BITS)) | rank.astype(np.uint64)
        return entry.astype(self.dtype)

    def collapse(self, entries: np.ndarray, owner: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002
        """The largest rank of each register."""
        keys = np.sort((owner << 32) | entries)
        register = keys >> _RANK_BITS
        keys = keys[np.append(register[1:] != register[:-1], np.ones(min(len(keys), 1), bool))]
        return (keys & (2**32 - 1)).astype(self.dtype), keys >> 32

    def value(self, entries: np.ndarray, count: np.ndarray, item: int) -> Values:  # noqa: ARG002
        """The estimated number of distinct values; 0 over none."""
        ranks = 66 - self.precision
        owner = np.repeat(np.arange(len(count)), count)
        found = np.bincount(owner * ranks + (entries & (2**_RANK_BITS - 1)), minlength=len(count) * ranks)
        occurrences = found.reshape(len(count), ranks)
        occurrences[:, 0] = 2**self.precision - count
        return np.rint(estimate(occurrences)).astype(np.int64), np.ones(len(count), bool)


_COUNT_BITS = 42
_ZERO_BUCKET = 2**20
MILLION = 1_000_000


@dataclass(frozen=True)
class BucketSketch:
    """Counts in log-linear buckets: a power of two is cut into 2^bits equal ones; entry ``bucket << 42 | count``.

    The bucket is the sign, the exponent and the first bits of a double: cut off, never computed.
    """

    bits: int

    @property
    def dtype(self) -> np.dtype:
        """Eight bytes: the bucket in the high bits, the count in the low 42 bits."""
        return np.dtype("<i8")

    def lift(self, values: np.ndarray, time_us: np.ndarray, offset: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """One bucket a row."""
        size = np.abs(values).view(np.int64) >> (52 - self.bits)
        bucket = np.where(values < 0, -size, size) + _ZERO_BUCKET
        entry: np.ndarray = (bucket << _COUNT_BITS) | 1
        return entry

    def collapse(self, entries: np.ndarray, owner: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002
        """The sum of the counts of each bucket."""
        if not len(entries):
            return entries, owner
        bucket = (owner << 21) | (entries >> _COUNT_BITS)
        order = np.argsort(bucket, kind="stable")
        bucket = bucket[order]
        starts = np.flatnonzero(np.append([True], bucket[1:] != bucket[:-1]))
        count = np.add.reduceat(entries[order] & (2**_COUNT_BITS - 1), starts)
        bucket = bucket[starts]
        return ((bucket & (2**21 - 1)) << _COUNT_BITS) | count, bucket >> 21

    def value(self, entries: np.ndarray, count: np.ndarray, item: int) -> Values:
        """The middle of the bucket that holds the smallest value with at least ``item`` millionths at or below it."""
        there = count > 0
        if not there.any():
            return np.zeros(len(count)), there
        ends = np.cumsum(count)
        below = np.append([0], np.cumsum(entries & (2**_COUNT_BITS - 1)))
        rows = below[ends] - below[ends - count]
        wanted = np.maximum(-(-item * rows // MILLION), 1)
        place = np.searchsorted(below[1:], below[ends - count] + wanted)
        return np.where(there, self._middle(entries[np.minimum(place, len(entries) - 1)]), 0.0), there

    def _middle(self, entries: np.ndarray) -> np.ndarray:
        bucket = (entries >> _COUNT_BITS) - _ZERO_BUCKET
        shift = 52 - self.bits
        middle = ((np.abs(bucket) << shift) + (1 << (shift - 1))).view(np.float64)
        return np.where(bucket == 0, 0.0, np.copysign(middle, bucket))


@dataclass(frozen=True)
class NewestSketch:
    """The n values with the latest (event time, partition, offset)."""

    n: int
    kind: str

    @property
    def dtype(self) -> np.dtype:
        """A record of event time, offset and value."""
        return np.dtype([("time", "<i8"), ("offset", "<i8"), ("value", self.kind)])

    def lift(self, values: np.ndarray, time_us: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """One entry a row."""
        entries = np.empty(len(values), self.dtype)
        entries["time"], entries["offset"], entries["value"] = time_us, offset, values
        return entries

    def collapse(self, entries: np.ndarray, owner: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The newest n of each owner, oldest first."""
        order = np.lexsort((entries["offset"], rank, entries["time"], owner))
        from_end = np.searchsorted(owner, owner, side="right") - np.arange(len(owner))
        kept = from_end <= self.n  # owners ascend, so sorting by them first leaves them where they are
        return entries.take(order[kept]), owner[kept]

    def value(self, entries: np.ndarray, count: np.ndarray, item: int) -> Values:
        """The newest value (item 0), the one before it (item 1), and so on."""
        there = count > item
        values = np.zeros(len(count), self.kind)
        values[there] = entries["value"][(np.cumsum(count) - 1 - item)[there]]
        return values, there

    def newest(self, entries: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All values of each owner, the newest first."""
        ends = np.cumsum(count)
        place = np.arange(len(entries)) - np.repeat(ends - count, count)
        return entries["value"][np.repeat(ends, count) - 1 - place], count


_SKETCHES: dict[str, Callable[[Component], Sketch]] = {
    "registers": lambda c: RegisterSketch(c.argument),
    "buckets": lambda c: BucketSketch(c.argument),
    "newest": lambda c: NewestSketch(c.argument, c.dtype),
    "categories": lambda c: CategorySketch(c.argument, c.dtype),
    "unique": lambda c: UniqueSketch(c.argument, c.dtype),
}
_OF_TEXTS: dict[str, Callable[[Component], Sketch]] = {
    "first": lambda _: TextSketch(earliest=True),
    "last": lambda _: TextSketch(),
    "newest": lambda c: TextSketch(c.argument),
    "categories": lambda c: CategorySketch(c.argument, CATEGORY_TEXT),
    "unique": lambda c: UniqueSketch(c.argument, CATEGORY_TEXT),
    "row_value": lambda _: TextSketch(keeps_rows=True),
}


_OF_VECTORS: dict[str, Callable[[Component], Sketch]] = {
    "add": lambda c: VectorSumSketch(c.argument),
    "first": lambda c: OneVectorSketch(c.argument, earliest=True),
    "last": lambda c: OneVectorSketch(c.argument),
    "row_value": lambda c: OneVectorSketch(c.argument, keeps_rows=True),
}


def sketch_of(component: Component) -> Sketch | None:
    """Return the sketch of a component, or None for a component of a fixed size."""
    make = _SKETCHES.get(component.op)
    if component.dtype == "text":
        make = _OF_TEXTS.get(component.op, make)
    if component.dtype == "vector":
        make = _OF_VECTORS[component.op]
    return None if make is None else make(component)
