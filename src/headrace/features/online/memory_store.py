"""The in-memory double of the online store: ``headrace.testing.MemoryOnlineStore``."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headrace.base.times import Clock, duration_us, wall_clock
from headrace.features.online.cursor import FENCE, Cursor, merge_cursors
from headrace.features.online.store import FencedWrite, ShardSnapshot, StoredFields, shard_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import timedelta

    from headrace.bus.source_partition import SourcePartition
    from headrace.features.online.store import WantedKeys


class MemoryOnlineStore:
    """An :class:`~headrace.features.online.store.OnlineStore` in this process, for tests of applications.

    It passes the contract tests of the Redis store.

    >>> from headrace import FeatureClient
    >>> from headrace.testing import MemoryOnlineStore
    >>> store = MemoryOnlineStore()
    >>> store.put_document("service:nothing", {"service": "nothing", "views": []})
    >>> FeatureClient(store).get("nothing", [{"origin": "JFK"}]).to_dicts()
    [{}]
    """

    def __init__(self, clock: Clock = wall_clock, *, shards: int = 1) -> None:
        self.shards = shards
        self._clock = clock
        self._lock = threading.RLock()
        self._cursors: dict[tuple[str, int], dict[SourcePartition, Cursor]] = defaultdict(dict)
        self._fields: dict[tuple[str, bytes], dict[SourcePartition, bytes]] = defaultdict(dict)
        self._documents: dict[str, dict[str, Any]] = {}

    def acquire(self, view: str, source: SourcePartition, owner: bytes, partitions: int) -> Sequence[Cursor | None]:
        """Write all shards at one moment."""
        with self._lock:
            return [self._acquire(self._cursors[view, shard], source, owner, partitions) for shard in self._all()]

    @staticmethod
    def _acquire(
        cursors: dict[SourcePartition, Cursor], source: SourcePartition, owner: bytes, partitions: int
    ) -> Cursor | None:
        if source not in cursors:
            return None
        cursors[source] = replace(cursors[source], owner=owner, partitions=partitions)
        return cursors[source]

    def write(self, writes: Sequence[FencedWrite]) -> list[bool]:
        """Apply the writes in order, at one moment: no reader sees some of them without the others."""
        with self._lock:
            return [self._write(write) for write in writes]

    def _write(self, write: FencedWrite) -> bool:
        stored = self._cursors[write.view, write.shard].get(write.source)
        found = b"" if stored is None else stored.pack()[:FENCE]
        wanted = b"" if write.before.next_offset < 0 else write.before.fence
        if found != wanted:
            return found == write.after.fence
        for key, field in zip(write.keys, write.fields, strict=True):
            self._fields[write.view, key][write.source] = field
        self._cursors[write.view, write.shard][write.source] = replace(write.after, heartbeat_us=self._clock())
        return True

    def read(self, view: str, source: SourcePartition, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the fields as they were written."""
        with self._lock:
            return [self._fields[view, key].get(source) for key in keys]

    def look_up(self, wanted: WantedKeys) -> list[StoredFields]:
        """Read all views and all shards at one moment."""
        with self._lock:
            return [self._answer(view, keys) for view, keys in wanted]

    def look_up_with(
        self, documents: Sequence[str], wanted: WantedKeys
    ) -> tuple[list[dict[str, Any] | None], list[StoredFields]]:
        """Read documents, fields and cursors at one moment."""
        with self._lock:
            return self.get_documents(documents), self.look_up(wanted)

    def _answer(self, view: str, keys: Sequence[bytes]) -> StoredFields:
        shards = [shard_of(key, self.shards) for key in keys]
        snapshots = {shard: ShardSnapshot(self._clock(), self._packed(view, shard)) for shard in {*shards} or {0}}
        fields = [self._fields[view, key].items() for key in keys]
        return StoredFields(
            snapshots, shards, [[word for s, data in own for word in (s.field, data)] for own in fields]
        )

    def _packed(self, view: str, shard: int) -> list[bytes]:
        cursors = self._cursors[view, shard].items()
        return [word for source, cursor in cursors for word in (source.field, cursor.pack())]

    def cursors(self, views: Sequence[str]) -> list[Mapping[SourcePartition, Cursor]]:
        """Read all shards at one moment."""
        with self._lock:
            return [merge_cursors([dict(self._cursors[view, shard]) for shard in self._all()]) for view in views]

    def _all(self) -> range:
        return range(self.shards)

    def scavenge(self, reach: Mapping[str, timedelta], position: int) -> tuple[int, int]:  # noqa: ARG002 - one step does all
        """Do the whole round in one step: the next position is always 0."""
        with self._lock:
            gone = [
                (fields, source)
                for (view, key), fields in self._fields.items()
                if view in reach
                for horizon in self._horizon(view, key, duration_us(reach[view]))
                for source, field in fields.items()
                if _newest(field) <= horizon
            ]
            for fields, source in gone:
                del fields[source]
            return 0, len(gone)

    def _horizon(self, view: str, key: bytes, reach_us: int) -> list[int]:
        """Return a list with one time: fields without a newer event are removed. Without a cursor the list is empty."""
        cursors = self._cursors[view, shard_of(key, self.shards)]
        return [max(cursor.clock for cursor in cursors.values()) - reach_us] if cursors else []

    def put_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Keep a shallow copy of the document."""
        self._documents[name] = dict(document)

    def get_document(self, name: str) -> dict[str, Any] | None:
        """Return the kept dict itself: do not change it."""
        return self._documents.get(name)

    def get_documents(self, names: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the kept dicts themselves: do not change them."""
        return [self._documents.get(name) for name in names]

    def remove_documents(self, names: Sequence[str]) -> None:
        """Forget these documents. Absent ones are ignored."""
        for name in names:
            self._documents.pop(name, None)

    def forget(self, views: Sequence[str], source: SourcePartition, position: int) -> tuple[int, int]:  # noqa: ARG002 - one step does all
        """Do the whole round in one step: the next position is always 0."""
        with self._lock:
            fields = [own for (view, _), own in self._fields.items() if view in views and source in own]
            for own in fields:
                del own[source]
            for view in views:
                for shard in self._all():
                    self._cursors[view, shard].pop(source, None)
            return 0, len(fields)

    def drop(self, views: Collection[str], position: int) -> tuple[int, int]:  # noqa: ARG002 - one step does all
        """Do the whole round in one step: the next position is always 0."""
        with self._lock:
            cursors = [view for view in views for shard in self._all() if self._cursors.pop((view, shard), None)]
            fields = [key for key in self._fields if key[0] in views]
            removed = [key for key in fields if self._fields.pop(key)]
            return 0, len(cursors) + len(removed)

    def clear(self) -> None:
        """Lose everything, like a Redis that was emptied."""
        with self._lock:
            self._cursors.clear()
            self._fields.clear()
            self._documents.clear()


def _newest(field: bytes) -> int:
    """Return the newest event time of a field of any format: docs/reference/online-format.md."""
    return int.from_bytes(field[24:32], "little", signed=True)
