"""Vectors in tiles: their sum and number, or the first or the last one. A tile without vectors has no entry.

::

    Sum, Mean    ──> one entry: number of vectors · sum of each number
    First, Last  ──> one entry: time · offset · 1 · the numbers
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from headrace.features.kernel.states import Values

NUMBERS = "numbers"
"""The field of an entry that has the numbers of a vector. No other sketch has a field of this name."""
MEAN = 1
"""The item of a sum that is the mean."""


@dataclass(frozen=True)
class VectorSumSketch:
    """The sum of vectors, number by number, and how many they are."""

    dim: int
    keeps_rows = False

    @property
    def dtype(self) -> np.dtype:
        """The number of vectors, and their sum."""
        return np.dtype([("count", "<i8"), (NUMBERS, "<f8", (self.dim,))])

    def lift(self, values: np.ndarray, time_us: np.ndarray, offset: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """One entry a row: the row's vector."""
        entries = np.empty(len(values), self.dtype)
        entries["count"], entries[NUMBERS] = 1, values
        return entries

    def collapse(self, entries: np.ndarray, owner: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002
        """The sum of each owner."""
        if not len(entries):
            return entries, owner
        starts = np.flatnonzero(np.append([True], owner[1:] != owner[:-1]))
        if len(starts) == len(entries):
            return entries, owner
        merged = np.empty(len(starts), self.dtype)
        merged["count"] = np.add.reduceat(entries["count"], starts)
        with np.errstate(over="ignore", invalid="ignore"):  # a sum that is not finite becomes null in the end
            merged[NUMBERS] = np.add.reduceat(entries[NUMBERS], starts, axis=0)
        return merged, owner[starts]

    def value(self, entries: np.ndarray, count: np.ndarray, item: int) -> Values:
        """The sums (zeros over no rows), or the means if ``item`` is MEAN."""
        has = count > 0
        found = np.zeros((len(count), self.dim))
        found[has] = entries[NUMBERS]
        if item == MEAN:
            found[has] /= entries["count"][:, None]
        there = np.logical_and.reduce(np.isfinite(found), axis=1)
        return _lists(found, there), there & has if item == MEAN else there


@dataclass(frozen=True)
class OneVectorSketch:
    """The vector with the latest (event time, partition, offset), or the earliest one.

    ``keeps_rows``: a row without a vector counts too, and takes the vector of an earlier row back.
    """

    dim: int
    earliest: bool = False
    keeps_rows: bool = False

    @property
    def dtype(self) -> np.dtype:
        """The place of the row, whether it has a vector (1 or 0), and the vector."""
        return np.dtype([("time", "<i8"), ("offset", "<i8"), ("there", "<i8"), (NUMBERS, "<f8", (self.dim,))])

    def lift(self, values: np.ndarray, time_us: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """One entry a row, as if each had a vector."""
        entries = np.empty(len(values), self.dtype)
        entries["time"], entries["offset"], entries["there"], entries[NUMBERS] = time_us, offset, 1, values
        return entries

    def collapse(self, entries: np.ndarray, owner: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The one entry of each owner."""
        if not len(entries):
            return entries, owner
        order = np.lexsort((entries["offset"], rank, entries["time"], owner))
        ends = np.flatnonzero(np.append([True], owner[1:] != owner[:-1]))
        if not self.earliest:
            ends = np.append(ends[1:], len(owner)) - 1
        return entries.take(order[ends]), owner[ends]  # owners ascend, so sorting by them leaves them where they are

    def value(self, entries: np.ndarray, count: np.ndarray, item: int) -> Values:  # noqa: ARG002
        """The vector of each owner."""
        there, found = np.zeros(len(count), bool), np.zeros((len(count), self.dim))
        has = count > 0
        there[has], found[has] = entries["there"] > 0, entries[NUMBERS]
        return _lists(found, there), there


VectorSketch = VectorSumSketch | OneVectorSketch


def _lists(found: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return a list for each row; None for one that is not there."""
    lists = np.fromiter(found.tolist(), object, len(found))
    lists[~there] = None
    return lists
