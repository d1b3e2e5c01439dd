"""The online store in Redis or Valkey, one node or a cluster. docs/reference/online-format.md has keys and bytes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import msgspec

from headrace.base.times import duration_us
from headrace.features.online.cursor import Cursor, merge_cursors
from headrace.features.online.redis.key_names import KeyNames
from headrace.features.online.redis.lookup_commands import (
    ReadRequest,
    get_documents,
    look_up,
    look_up_with,
    typed_errors,
)
from headrace.features.online.redis.lua import ACQUIRE, DROP, LOOK_UP, SCAVENGE, WRITE
from headrace.features.online.redis.node_client import NodeClient, StoreClient
from headrace.features.online.redis.store_options import CallLimits, StoreOptions
from headrace.features.online.redis.url import check_url, of_node
from headrace.features.online.store import FencedWrite, ShardSnapshot, StoredFields, shard_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import timedelta

    from headrace.bus.source_partition import SourcePartition
    from headrace.features.online.redis.retrying_call import ShardCommand
    from headrace.features.online.store import WantedKeys

T = TypeVar("T")
_SCAN_COUNT = 1_000


class RedisOnlineStore:
    """An :class:`~headrace.features.online.store.OnlineStore` over redis-py. Safe to share between threads.

    A URL with ``redis://`` or ``rediss://`` names a single node; ``redis+cluster://`` or ``rediss+cluster://`` names
    any node of a cluster; ``redis+sentinel://`` or ``rediss+sentinel://`` names sentinels and their primary. A URL that
    cannot be read raises SettingsError at once; a server of the other kind raises it at the first call. A call that
    finds all connections of the pool in use waits as if the node were away.
    """

    def __init__(self, url: str, namespace: str = "headrace", **options: Unpack[StoreOptions]) -> None:
        check_url(url)
        self._client = _client_of(url, CallLimits.from_options(**options))
        self._url = url
        self.shards = self._client.shards
        self._keys = KeyNames(namespace, self.shards)

    def acquire(self, view: str, source: SourcePartition, owner: bytes, partitions: int) -> Sequence[Cursor | None]:
        """Write the owner by one script for each shard, all in one round trip."""
        arguments = [source.field, owner, partitions.to_bytes(4, "little")]
        commands = [(shard, ACQUIRE.call([self._keys.cursors(shard, view)], arguments)) for shard in self._all()]
        return [None if taken is None else Cursor.unpack(taken) for taken in self._run(commands)]

    def _all(self) -> range:
        return range(self.shards)

    def write(self, writes: Sequence[FencedWrite]) -> list[bool]:
        """Send one script for each write, all in one round trip."""
        return [bool(result) for result in self._run([self._write(write) for write in writes])]

    def _write(self, write: FencedWrite) -> ShardCommand:
        fence = b"" if write.before.next_offset < 0 else write.before.fence
        names = [self._keys.cursors(write.shard, write.view), *self._keys.entities(write.shard, write.view, write.keys)]
        return write.shard, WRITE.call(names, [write.source.field, fence, write.after.pack(), *write.fields])

    def read(self, view: str, source: SourcePartition, keys: Sequence[bytes]) -> list[bytes | None]:
        """Send one HGET for each key, all in one round trip."""
        shards = [shard_of(key, self.shards) for key in keys]
        prefixes = [self._keys.entity_prefix(shard, view) for shard in self._all()]
        placed = zip(shards, keys, strict=True)
        return self._run([(shard, ("HGET", prefixes[shard] + key, source.field)) for shard, key in placed])

    def look_up(self, wanted: WantedKeys) -> list[StoredFields]:
        """Read a single node in a transaction, and each shard of a cluster by a script.

        While it reads, about 2 us a key, the node answers nobody else.
        """
        return self._read(look_up(self._keys, wanted))

    def look_up_with(
        self, documents: Sequence[str], wanted: WantedKeys
    ) -> tuple[list[dict[str, Any] | None], list[StoredFields]]:
        """Send the documents' GETs together with the reads of :meth:`look_up`."""
        return self._read(look_up_with(self._keys, documents, wanted))

    def cursors(self, views: Sequence[str]) -> list[Mapping[SourcePartition, Cursor]]:
        """Read the cursors of all views by one script for each shard."""
        names = [[self._keys.cursors(shard, view) for view in views] for shard in self._all()]
        found = self._run([(shard, LOOK_UP.call(own)) for shard, own in enumerate(names)]) if views else []
        by_shard = [[ShardSnapshot(0, reply).cursors for reply in replies] for _, *replies in found]
        return [merge_cursors(of_view) for of_view in zip(*by_shard, strict=True)]

    def scavenge(self, reach: Mapping[str, timedelta], position: int) -> tuple[int, int]:
        """Look at about a thousand keys in each step."""
        position, by_place = self._scan(position)
        commands = [
            (shard, SCAVENGE.call([self._keys.cursors(shard, view), *keys], [duration_us(reach[view])]))
            for (shard, view), keys in by_place.items()
            if view in reach
        ]
        return position, sum(self._run(commands))

    def _scan(self, position: int) -> tuple[int, Mapping[tuple[int, str], Sequence[bytes]]]:
        """Scan about a thousand keys. Return the next position, and the keys that have fields, by shard and view."""
        with typed_errors(self._url):
            position, keys = self._client.scan(position, self._keys.fields, _SCAN_COUNT)
        by_place: dict[tuple[int, str], list[bytes]] = defaultdict(list)
        for key in keys:
            place = self._keys.place(key)
            if place is not None:
                by_place[place].append(key)
        return position, by_place

    def put_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Write its JSON by SET, to the node of shard 0."""
        self._run([(0, ("SET", self._keys.document(name), msgspec.json.encode(document)))])

    def get_document(self, name: str) -> dict[str, Any] | None:
        """Send one GET to the node of shard 0."""
        return self.get_documents([name])[0]

    def get_documents(self, names: Sequence[str]) -> list[dict[str, Any] | None]:
        """Send one GET for each name to the node of shard 0, all in one round trip."""
        return self._read(get_documents(self._keys, names))

    def remove_documents(self, names: Sequence[str]) -> None:
        """Send one UNLINK for all names. Without names nothing is sent."""
        if names:
            self._run([(0, ("UNLINK", *map(self._keys.document, names)))])

    def forget(self, views: Sequence[str], source: SourcePartition, position: int) -> tuple[int, int]:
        """Look at about a thousand keys in each step."""
        position, by_place = self._scan(position)
        commands: list[ShardCommand] = [
            (shard, ("HDEL", key, source.field))
            for (shard, view), keys in by_place.items()
            if view in views
            for key in keys
        ]
        removed = sum(self._run(commands))
        if position == 0:
            self._run([(n, ("HDEL", self._keys.cursors(n, view), source.field)) for n in self._all() for view in views])
        return position, removed

    def drop(self, views: Collection[str], position: int) -> tuple[int, int]:
        """Look at about a thousand keys in each step."""
        commands: list[ShardCommand] = []
        if position == 0 and views:
            commands = [(n, ("UNLINK", *(self._keys.cursors(n, view) for view in views))) for n in self._all()]
        removed = sum(self._run(commands))
        position, by_place = self._scan(position)
        commands = [
            (shard, DROP.call([self._keys.cursors(shard, view), *keys]))
            for (shard, view), keys in by_place.items()
            if view in views
        ]
        return position, removed + sum(self._run(commands))

    @property
    def _redis(self) -> Any:
        return self._client.redis

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def _read(self, request: ReadRequest[T]) -> T:
        return request.parse(self._run(request.commands))

    def _run(self, commands: Sequence[ShardCommand]) -> list[Any]:
        if not commands:
            return []
        with typed_errors(self._url):
            return self._client.run(commands)


def _client_of(url: str, limits: CallLimits) -> StoreClient:
    """Return the client that a URL needs: a single node's, or a cluster's."""
    if of_node(url) == url:
        return NodeClient(url, limits)
    from headrace.features.online.redis.cluster_client import ClusterClient  # noqa: PLC0415 - few need it

    return ClusterClient(url, limits)
