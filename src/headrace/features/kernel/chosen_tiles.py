"""The tiles of windows whose rows choose what is in them: the newest rows, and sessions.

::

    rows of an entity   ·  ·· ·        · ··  ·      now
    Rows(3)                              ▮▮  ▮
    Session("30m")                     ▮ ▮▮  ▮
    Session("30m", ago=1)  ▮▮ ▮

Tiles of all source partitions of a query are looked at together. So the answer does not depend on how rows are cut into
batches, nor on the order in which partitions are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from headrace.features.definitions.windows import SessionSpec


def newest_rows(time_us: np.ndarray, query: np.ndarray, rank: np.ndarray, most: int) -> np.ndarray:
    """Return the places of the ``most`` newest rows of each query, by query and from the oldest on.

    Rows are in the order of their queries; those of one source partition and one time are in the order of their
    offsets. ``rank`` orders the source partitions.
    """
    order = np.lexsort((rank, time_us, query))  # stable: offsets keep their order
    from_end = np.searchsorted(query, query, side="right") - np.arange(len(query))
    return order[from_end <= most]  # queries ascend, so sorting by them first leaves them where they are


def session_tiles(
    k: np.ndarray, times_us: tuple[np.ndarray, np.ndarray], query: np.ndarray, at_us: np.ndarray, of: SessionSpec
) -> np.ndarray:
    """Return the places of the tiles of each query's session, by query and k. ``query`` ascends.

    ``times_us`` are those of the first and of the last row of each tile, and ``at_us`` has the t of each query.
    """
    if not len(k):
        return np.zeros(0, np.int64)
    order = np.lexsort((k, query))
    owner, place = query[order], k[order]
    changed = np.append([True], (owner[1:] != owner[:-1]) | (place[1:] != place[:-1]))
    starts, (first_us, last_us) = np.flatnonzero(changed), times_us
    begin, end = np.minimum.reduceat(first_us[order], starts), np.maximum.reduceat(last_us[order], starts)
    owner = owner[starts]
    is_new = np.append([True], (owner[1:] != owner[:-1]) | (begin[1:] - end[:-1] >= of.gap_us))
    number = np.cumsum(is_new)
    newest = np.searchsorted(owner, owner, side="right") - 1
    is_over = at_us[owner] - end[newest] >= of.gap_us
    chosen = number[newest] - number + is_over == of.ago
    found: np.ndarray = order[np.repeat(chosen, np.diff(starts, append=len(order)))]
    return found
