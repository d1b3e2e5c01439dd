"""The online store: the port, and the types that its adapters share.

The store is a fenced materialisation of the event log. It holds one *field* per (view version, entity, source
partition). Entities are spread over its *shards*, and of each it holds one *cursor* per (view version, source
partition). A write is a compare-and-set on a cursor.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from headrace.bus.source_partition import SourcePartition, by_source
from headrace.features.online.cursor import (
    Cursor,
    CursorSummary,
    decoded_cursors,
    summarized,
    summarized_together,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import timedelta


WantedKeys = Sequence[tuple[str, Sequence[bytes]]]
"""Views, ``name@version``, each with the entity keys to read."""


def shard_of(key: bytes, shards: int) -> int:
    """Return the shard of an entity: CRC-32 (zlib) of its key, modulo the number of shards."""
    return zlib.crc32(key) % shards if shards > 1 else 0


@dataclass(frozen=True)
class FencedWrite:
    """A compare-and-set: from the cursor written last to the next one, with the fields that change with it.

    All keys are of the cursor's shard.
    """

    view: str
    source: SourcePartition
    before: Cursor
    after: Cursor
    keys: Sequence[bytes] = ()
    fields: Sequence[bytes] = ()
    shard: int = 0


@dataclass(frozen=True)
class ShardSnapshot:
    """One view's cursors in one shard, and when they were read: ``now_us`` by the shard's own clock.

    ``packed`` holds the names of the source partitions and their cursors' bytes, alternating.
    """

    now_us: int
    packed: Sequence[bytes]

    @cached_property
    def cursors(self) -> Mapping[SourcePartition, Cursor]:
        """The cursors by source. Raises CodecError."""
        return decoded_cursors(self.packed)

    @cached_property
    def offsets(self) -> Mapping[str, int]:
        """The next offset of each source, by its text."""
        return {source.text: cursor.next_offset for source, cursor in self.cursors.items()}

    @cached_property
    def summary(self) -> CursorSummary:
        """The summary of the cursors of a view with one topic. Raises CodecError."""
        return summarized(tuple(self.packed))

    def summary_of(self, topics: int) -> CursorSummary:
        """Return the summary of the cursors of a view with that many topics. Raises CodecError."""
        return self.summary if topics == 1 else summarized_together(tuple(self.packed), topics)


@dataclass(frozen=True)
class StoredFields:
    """One view's bytes in one look-up: each key's shard and fields, and a snapshot of each shard that was read.

    ``packed`` has one item for each key: the names of the source partitions and their fields, alternating. A look-up
    without keys reads shard 0.
    """

    snapshots: Mapping[int, ShardSnapshot]
    shards: Sequence[int]
    packed: Sequence[Sequence[bytes]]

    @property
    def clock(self) -> int:
        """The largest partition clock among the cursors."""
        return max([snapshot.summary.clock for snapshot in self.snapshots.values()])

    @cached_property
    def fields(self) -> Sequence[Mapping[SourcePartition, bytes]]:
        """The fields of each key by source. Raises CodecError."""
        return [by_source(of_key) for of_key in self.packed]


class OnlineStore(Protocol):
    """The port of the online store, for workers and applications.

    ``view`` is always ``name@version``. All methods raise OnlineStoreUnavailableError when the store does not answer.
    """

    @property
    def shards(self) -> int:
        """The number of shards over which the entities are spread: see :func:`shard_of`."""
        ...

    def acquire(self, view: str, source: SourcePartition, owner: bytes, partitions: int) -> Sequence[Cursor | None]:
        """Write the new owner into each shard's cursor. Return the cursors with this owner, None for a missing one.

        A missing cursor is not written: the owner's first write, with ``before.next_offset`` < 0, creates it.
        """
        ...

    def write(self, writes: Sequence[FencedWrite]) -> list[bool]:
        """Apply each write if, and only if, the stored cursor has the fence of ``before``.

        Return for each write whether it is applied, now or by an earlier call. A write with a negative
        ``before.next_offset`` expects that there is no cursor. Each write is atomic. If an error is raised, some writes
        may be applied; it is safe to send all of them again.
        """
        ...

    def read(self, view: str, source: SourcePartition, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the fields of one source partition, for a worker that does not have them in memory."""
        ...

    def look_up(self, wanted: WantedKeys) -> list[StoredFields]:
        """Return the fields and cursors of each view, in one round trip. One shard is read at one moment.

        So cursors and fields belong together: a shard that is being emptied is found full or empty, never half.
        """
        ...

    def look_up_with(
        self, documents: Sequence[str], wanted: WantedKeys
    ) -> tuple[list[dict[str, Any] | None], list[StoredFields]]:
        """Do :meth:`get_documents` and :meth:`look_up` in one round trip. The documents are read first."""
        ...

    def cursors(self, views: Sequence[str]) -> list[Mapping[SourcePartition, Cursor]]:
        """Return the cursors of each view, merged over all shards."""
        ...

    def scavenge(self, reach: Mapping[str, timedelta], position: int) -> tuple[int, int]:
        """Do one step of removing the fields that no look-up can see.

        Return the next position (0: the round is complete), and the number of fields removed.

        ``reach`` maps a view to the sum of its longest window and its history. A field is removed if, and only if,
        its newest event is at least that far behind the largest clock of the view's cursors in the field's shard.
        Without a cursor nothing is removed.
        """
        ...

    def put_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Keep a JSON document.

        A view's spec is ``view:<name>@<version>``, a service's spec ``service:<name>``. ``view:<name>`` names the
        version of a view that look-ups by the view's name read.
        """
        ...

    def get_document(self, name: str) -> dict[str, Any] | None:
        """Return the JSON document of that name, or None."""
        ...

    def get_documents(self, names: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the documents of these names in one round trip, None for each that is absent."""
        ...

    def remove_documents(self, names: Sequence[str]) -> None:
        """Remove these documents. Absent ones are ignored."""
        ...

    def forget(self, views: Sequence[str], source: SourcePartition, position: int) -> tuple[int, int]:
        """Do one step of removing one source partition from some views, after its last owner was fenced.

        Returns the next position (0: the round is complete), and the number of fields removed. At the end of the round
        the partition's cursors are removed.
        """
        ...

    def drop(self, views: Collection[str], position: int) -> tuple[int, int]:
        """Do one step of removing everything of some views.

        Returns the next position (0: the round is complete), and the number of keys removed.

        Cursors are removed when a round begins, at position 0. Fields are removed only if the view has no cursor in
        their shard: a worker that folds the view again writes a cursor first.
        """
        ...
