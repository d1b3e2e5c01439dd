"""A cache of the bytes that the store returned.

Each look-up computes its values from these bytes, so values, ages and heartbeats go on ageing.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from headrace.features.online.store import ShardSnapshot, StoredFields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.online.store import WantedKeys


class _CachedFields(NamedTuple):
    """The fields of one entity in one view, its shard's snapshot, and the time of the read by the client's clock."""

    fields: Sequence[bytes]
    snapshot: ShardSnapshot
    at_s: float


class AnswerCache:
    """The fields of entities, each kept for ``keep_s`` seconds. At most ``entries`` pairs of view and entity are kept.

    Safe to share between threads. All times are arguments, from a clock that never goes back.
    """

    def __init__(self, keep_s: float, entries: int) -> None:
        self._keep_s, self._entries = keep_s, entries
        self._kept: dict[tuple[str, bytes], _CachedFields] = {}  # the oldest first
        self._lock = threading.Lock()

    def recall(self, wanted: WantedKeys, now_s: float) -> RecalledFields:
        """Return the part of a look-up that is in the cache."""
        oldest_s = now_s - self._keep_s
        with self._lock:
            found = [[self._kept.get((view, key)) for key in keys] for view, keys in wanted]
        known = [
            {key: kept for key, kept in zip(keys, of_view, strict=True) if kept is not None and kept.at_s > oldest_s}
            for (_, keys), of_view in zip(wanted, found, strict=True)
        ]
        return RecalledFields(wanted, known)

    def keep(self, wanted: WantedKeys, stored: Sequence[StoredFields], at_s: float) -> None:
        """Keep the fields that a read returned. ``at_s`` is the time when the read was sent."""
        with self._lock:
            for (view, keys), of_view in zip(wanted, stored, strict=True):
                for key, shard, fields in zip(keys, of_view.shards, of_view.packed, strict=True):
                    former = self._kept.pop((view, key), None)
                    if former is not None and former.at_s > at_s:  # a later read was answered earlier
                        self._kept[view, key] = former
                        continue
                    self._kept[view, key] = _CachedFields(fields, of_view.snapshots[shard], at_s)
            while len(self._kept) > self._entries:
                del self._kept[next(iter(self._kept))]


class RecalledFields:
    """The part of one look-up that the cache has, and the part that must still be read."""

    def __init__(self, wanted: WantedKeys, known: Sequence[Mapping[bytes, _CachedFields]]) -> None:
        self._wanted, self._known = wanted, known
        self._to_read = [view for view, (_, keys) in enumerate(wanted) if len(known[view]) < len(keys) or not keys]
        self.missing: WantedKeys = [
            (wanted[view][0], [key for key in wanted[view][1] if key not in known[view]]) for view in self._to_read
        ]
        """The keys to read. A view without keys is read too, for its cursors."""

    def complete(self, stored: Sequence[StoredFields], now_s: float) -> list[StoredFields]:
        """Return the fields of the whole look-up. ``stored``: the fields of ``missing``, read at ``now_s``."""
        fresh = dict(zip(self._to_read, stored, strict=True))
        return [self._of_view(view, fresh.get(view), now_s) for view in range(len(self._wanted))]

    def _of_view(self, view: int, fresh: StoredFields | None, now_s: float) -> StoredFields:
        known = self._known[view]
        if fresh is not None and not known:
            return fresh
        was_read = iter(
            () if fresh is None else [(f, fresh.snapshots[s]) for f, s in zip(fresh.packed, fresh.shards, strict=True)]
        )
        places: dict[int, int] = {}
        snapshots: dict[int, ShardSnapshot] = {}
        shards, packed = [], []
        for key in self._wanted[view][1]:
            kept = known.get(key)
            fields, snapshot = next(was_read) if kept is None else kept[:2]
            place = places.setdefault(id(snapshot), len(places))
            if place not in snapshots:
                snapshots[place] = snapshot if kept is None else _aged(kept, now_s)
            shards.append(place)
            packed.append(fields)
        return StoredFields(snapshots, shards, packed)


def _aged(kept: _CachedFields, now_s: float) -> ShardSnapshot:
    """Return the snapshot, older by the time that it spent in the cache. So a heartbeat goes on ageing."""
    return ShardSnapshot(kept.snapshot.now_us + round((now_s - kept.at_s) * 1e6), kept.snapshot.packed)
