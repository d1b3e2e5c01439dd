"""What the store answered a moment ago, kept as it was: values are worked out anew, and go on ageing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from headrace.features.online.store import ShardSnapshot, StoredFields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    WantedKeys = Sequence[tuple[str, Sequence[bytes]]]
    """Views with the keys of entities."""


class _CachedFields(NamedTuple):
    """The fields of an entity in a view, the moment that they were read at, and when that was by the own clock."""

    fields: Sequence[bytes]
    moment: ShardSnapshot
    at_s: float


class AnswerCache:
    """The fields of at most ``entries`` entities of a view, each for ``keep_s`` seconds. Safe to share between threads.

    Times are the caller's, of a clock that never goes back.
    """

    def __init__(self, keep_s: float, entries: int) -> None:
        self._keep_s, self._entries = keep_s, entries
        self._kept: dict[tuple[str, bytes], _CachedFields] = {}  # the oldest first
        self._lock = threading.Lock()

    def recall(self, wanted: WantedKeys, now_s: float) -> Recalled:
        """What of a look-up is known."""
        oldest_s = now_s - self._keep_s
        with self._lock:
            found = [[self._kept.get((view, key)) for key in keys] for view, keys in wanted]
        known = [
            {key: kept for key, kept in zip(keys, of_view, strict=True) if kept is not None and kept.at_s > oldest_s}
            for (_, keys), of_view in zip(wanted, found, strict=True)
        ]
        return Recalled(wanted, known)

    def keep(self, wanted: WantedKeys, answers: Sequence[StoredFields], at_s: float) -> None:
        """Keep what was asked for at a time."""
        with self._lock:
            for (view, keys), answer in zip(wanted, answers, strict=True):
                for key, shard, fields in zip(keys, answer.shards, answer.packed, strict=True):
                    former = self._kept.pop((view, key), None)
                    if former is not None and former.at_s > at_s:  # who asked later was answered sooner
                        self._kept[view, key] = former
                        continue
                    self._kept[view, key] = _CachedFields(fields, answer.moments[shard], at_s)
            while len(self._kept) > self._entries:
                del self._kept[next(iter(self._kept))]


class Recalled:
    """What of a look-up is known, and what is yet to be asked for."""

    def __init__(self, wanted: WantedKeys, known: Sequence[Mapping[bytes, _CachedFields]]) -> None:
        self._wanted, self._known = wanted, known
        self._asked = [view for view, (_, keys) in enumerate(wanted) if len(known[view]) < len(keys) or not keys]
        self.missing: WantedKeys = [
            (wanted[view][0], [key for key in wanted[view][1] if key not in known[view]]) for view in self._asked
        ]
        """What to ask the store; a view without keys is asked for, as its cursors tell something too."""

    def whole(self, answers: Sequence[StoredFields], now_s: float) -> list[StoredFields]:
        """The answers to all of it, from those to what was missing; ``now_s``: when these had come."""
        fresh = dict(zip(self._asked, answers, strict=True))
        return [self._of_view(view, fresh.get(view), now_s) for view in range(len(self._wanted))]

    def _of_view(self, view: int, fresh: StoredFields | None, now_s: float) -> StoredFields:
        known = self._known[view]
        if fresh is not None and not known:
            return fresh
        told = iter(
            () if fresh is None else [(f, fresh.moments[s]) for f, s in zip(fresh.packed, fresh.shards, strict=True)]
        )
        places: dict[int, int] = {}
        moments: dict[int, ShardSnapshot] = {}
        which, packed = [], []
        for key in self._wanted[view][1]:
            kept = known.get(key)
            fields, moment = next(told) if kept is None else kept[:2]
            place = places.setdefault(id(moment), len(places))
            if place not in moments:
                moments[place] = moment if kept is None else _aged(kept, now_s)
            which.append(place)
            packed.append(fields)
        return StoredFields(moments, which, packed)


def _aged(kept: _CachedFields, now_s: float) -> ShardSnapshot:
    """As much later as it was kept: a heartbeat goes on ageing."""
    return ShardSnapshot(kept.moment.now_us + round((now_s - kept.at_s) * 1e6), kept.moment.packed)
