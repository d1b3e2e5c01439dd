"""The newest rows of an entity below V, for windows of rows at a point in time.

Rows of an entity are in order of (event time, source partition, offset). Those below V are mostly the ones up to some
time, because a row comes soon after its event. So rows are looked at from the latest time of V back, a few first, and
more of them for the queries that have not found enough.
"""

from __future__ import annotations

import numpy as np

from headrace.features.kernel.sorting import stable_order

_GROWTH = 4


class NewestBelow:
    """Rows with their event times, offsets and source partitions (numbers below ``sources``)."""

    def __init__(self, time_us: np.ndarray, offset: np.ndarray, source: np.ndarray, sources: int) -> None:
        self._offset, self._source = offset, source
        self._of_sources = [self._latest(time_us, np.flatnonzero(source == each)) for each in range(sources)]

    def _latest(self, time_us: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the offsets of the rows of one source, and the latest time up to each."""
        rows = rows[np.argsort(self._offset[rows], kind="stable")]
        return self._offset[rows], np.maximum.accumulate(time_us[rows])

    def latest_us(self, offsets: np.ndarray) -> np.ndarray:
        """Return the latest time of a row below V for each query, before all times if there is none."""
        found = np.full(len(offsets), -(2**61))
        for source, (ascending, latest) in enumerate(self._of_sources[: offsets.shape[1]]):
            below = np.searchsorted(ascending, offsets[:, source])
            np.maximum(found, np.append([-(2**61)], latest)[below], out=found)
        return found

    def choose(  # noqa: PLR0917 - columns of one table
        self,
        order: np.ndarray,
        begin: np.ndarray,
        end: np.ndarray,
        offsets: np.ndarray,
        left_out: np.ndarray | None,
        most: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return at most ``most`` of the newest rows of each query below its V, by query, and the query of each.

        The rows of query i are ``order[begin[i] : end[i]]``, in order. ``left_out`` is as in the tile index.
        """
        parts, queries, size = [], [], most + 1
        asked = np.flatnonzero(end > begin)
        while len(asked):
            low = np.maximum(begin[asked], end[asked] - size)
            place, which = expanded(low, end[asked])
            row, query = order[place], asked[which]
            source = self._source[row]
            seen = self._offset[row] < offsets[query, source]
            if left_out is not None:
                seen &= self._offset[row] != left_out[query, source]
            found = np.bincount(which[seen], minlength=len(asked))
            is_done = (found >= most) | (low == begin[asked])
            from_end = np.cumsum(found)[which] - np.cumsum(seen)  # the rows of the query that are newer
            chosen = seen & is_done[which] & (from_end < most)
            parts.append(row[chosen])
            queries.append(query[chosen])
            asked, size = asked[~is_done], size * _GROWTH
        if not parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        rows, of = np.concatenate(parts), np.concatenate(queries)
        back = stable_order(of, np.zeros_like(of))
        return rows[back], of[back]


def expanded(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all positions of the ranges [low, high), and the index of the range of each position."""
    length = np.maximum(high - low, 0)
    owner = np.repeat(np.arange(len(low)), length)
    first = np.repeat(np.cumsum(length) - length, length)
    return np.arange(len(owner)) - first + low[owner], owner
