"""The distinct values that came last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from headrace.features.kernel.states import Values


@dataclass(frozen=True)
class UniqueSketch:
    """The n distinct values whose newest rows have the latest (event time, partition, offset).

    A value that is one of the n newest in a window is one of the n newest in the tile of its newest row. So nothing is
    lost when tiles merge. Texts are bytes of a fixed length.
    """

    n: int
    kind: str

    @property
    def dtype(self) -> np.dtype:
        """A record of the newest event time, its offset, and the value."""
        return np.dtype([("time", "<i8"), ("offset", "<i8"), ("content", self.kind)])

    def lift(self, values: np.ndarray, time_us: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """One entry a row."""
        entries = np.empty(len(values), self.dtype)
        entries["time"], entries["offset"], entries["content"] = time_us, offset, values
        return entries

    def collapse(self, entries: np.ndarray, owner: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The newest row of each value, and of these the newest n of each owner, oldest first.

        Rows of one record, such as the items of its list, have one offset. They keep the order that they come in.
        """
        if not len(entries):
            return entries, owner
        order = np.lexsort((entries["offset"], rank, entries["time"], entries["content"], owner))
        value, of = entries["content"][order], owner[order]
        ends = np.append((of[1:] != of[:-1]) | (value[1:] != value[:-1]), [True])
        newest = order[ends]
        entries, owner = entries[newest], owner[newest]
        order = np.lexsort((newest, entries["offset"], rank[newest], entries["time"], owner))
        from_end = np.searchsorted(owner, owner, side="right") - np.arange(len(owner))
        kept = from_end <= self.n  # owners ascend, so sorting by them first leaves them where they are
        return entries[order[kept]], owner[kept]

    def value(self, entries: np.ndarray, count: np.ndarray, item: int) -> Values:
        """The newest value (item 0), the one before it (item 1), and so on."""
        flat, number = self.newest(entries, count)
        there = number > item
        values = np.zeros(len(count), flat.dtype)
        values[there] = flat[(np.cumsum(number) - number + item)[there]]
        return values, there

    def newest(self, entries: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All values of each owner, the newest first."""
        ends = np.cumsum(count)
        place = np.arange(len(entries)) - np.repeat(ends - count, count)
        found = entries["content"][np.repeat(ends, count) - 1 - place]
        if found.dtype.kind != "S":
            return found, count
        return np.fromiter((text.decode() for text in found.tolist()), object, len(found)), count
