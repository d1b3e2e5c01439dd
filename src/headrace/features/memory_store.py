"""The in-memory double of the online store: public, for tests of applications; it passes the same contract suite."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headrace.bus.clock import Clock, wall_clock
from headrace.features.online import FENCE, Answer, Cursor, Source, Write

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


class MemoryOnlineStore:
    """An :class:`~headrace.features.online.OnlineStore` in this process."""

    def __init__(self, clock: Clock = wall_clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._cursors: dict[str, dict[Source, Cursor]] = defaultdict(dict)
        self._fields: dict[tuple[str, bytes], dict[Source, bytes]] = defaultdict(dict)
        self._documents: dict[str, dict[str, Any]] = {}

    def acquire(self, view: str, source: Source, owner: bytes, partitions: int) -> Cursor | None:
        """See the port."""
        with self._lock:
            stored = self._cursors[view].get(source)
            if stored is None:
                return None
            taken = replace(stored, owner=owner, partitions=partitions)
            self._cursors[view][source] = taken
            return taken

    def write(self, writes: Sequence[Write]) -> list[bool]:
        """See the port."""
        with self._lock:
            return [self._write(write) for write in writes]

    def _write(self, write: Write) -> bool:
        stored = self._cursors[write.view].get(write.source)
        found = b"" if stored is None else stored.pack()[:FENCE]
        wanted = b"" if write.before.next_offset < 0 else write.before.fence
        if found != wanted:
            return found == write.after.fence
        for key, field in zip(write.keys, write.fields, strict=True):
            self._fields[write.view, key][write.source] = field
        self._cursors[write.view][write.source] = replace(write.after, heartbeat_us=self._clock())
        return True

    def read(self, view: str, source: Source, keys: Sequence[bytes]) -> list[bytes | None]:
        """See the port."""
        with self._lock:
            return [self._fields[view, key].get(source) for key in keys]

    def look_up(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> tuple[int, list[Answer]]:
        """See the port."""
        with self._lock:
            answers = [
                Answer(dict(self._cursors[view]), [dict(self._fields[view, key]) for key in keys])
                for view, keys in wanted
            ]
            return self._clock(), answers

    def cursors(self, views: Sequence[str]) -> list[Mapping[Source, Cursor]]:
        """See the port."""
        with self._lock:
            return [dict(self._cursors[view]) for view in views]

    def scavenge(self, reach_us: Mapping[str, int], position: int) -> tuple[int, int]:  # noqa: ARG002 - one step does all
        """See the port."""
        with self._lock:
            gone = [
                (fields, source)
                for (view, _), fields in self._fields.items()
                if view in reach_us and self._cursors[view]
                for horizon in [max(cursor.clock for cursor in self._cursors[view].values()) - reach_us[view]]
                for source, field in fields.items()
                if _newest(field) <= horizon
            ]
            for fields, source in gone:
                del fields[source]
            return 0, len(gone)

    def put_document(self, name: str, document: Mapping[str, Any]) -> None:
        """See the port."""
        self._documents[name] = dict(document)

    def get_document(self, name: str) -> dict[str, Any] | None:
        """See the port."""
        return self._documents.get(name)

    def remove_documents(self, names: Sequence[str]) -> None:
        """See the port."""
        for name in names:
            self._documents.pop(name, None)

    def drop(self, views: Collection[str], position: int) -> tuple[int, int]:  # noqa: ARG002 - one step does all
        """See the port."""
        with self._lock:
            cursors = [view for view in views if self._cursors.pop(view, None)]
            fields = [key for key in self._fields if key[0] in views]
            removed = [key for key in fields if self._fields.pop(key)]
            return 0, len(cursors) + len(removed)

    def clear(self) -> None:
        """Lose everything, as a Redis that was emptied."""
        with self._lock:
            self._cursors.clear()
            self._fields.clear()
            self._documents.clear()


def _newest(field: bytes) -> int:
    """The newest event of a field, whatever its format: docs/reference/online-format.md."""
    return int.from_bytes(field[24:32], "little", signed=True)
