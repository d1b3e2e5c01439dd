"""Every online store, and what tests send to them."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis, RedisCluster

from headrace.bus.source_partition import SourcePartition
from headrace.features.online.cursor import Cursor, merge_cursors
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.features.online.redis.url import of_node
from headrace.features.online.store import FencedWrite, OnlineStore, shard_of

if TYPE_CHECKING:
    from collections.abc import Iterator

VIEW, OTHER_VIEW = "shop@1", "till@1"
ME, OTHER = b"m" * 16, b"o" * 16
ZERO, ONE = SourcePartition(0, bytes(range(16))), SourcePartition(1, bytes(range(16)))
FIRST = FencedWrite(
    VIEW, ZERO, Cursor(ME, -1), Cursor(ME, 10, rows_total=9, clock=77, partitions=2), [b"a", b"b"], [b"A", b"B"]
)


SERVERS = [pytest.param(name, marks=pytest.mark.integration) for name in ("redis", "cluster")]
KINDS = ["memory", "memory in 64 shards", *SERVERS]


def opened(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    """The store of a fixture's parameter."""
    if "memory" in request.param:
        yield MemoryOnlineStore(shards=64 if "64" in request.param else 1)
        return
    store = RedisOnlineStore(url_of(request), request.getfixturevalue("namespace"))
    yield store
    store.close()


def url_of(request: pytest.FixtureRequest) -> str:
    """Where the server of a fixture's parameter is."""
    is_cluster = request.param == "cluster"
    return str(
        request.getfixturevalue("redis_cluster").url if is_cluster else request.getfixturevalue("services").redis_url
    )


def redis_client(url: str) -> Any:
    """redis-py's own client of a server."""
    return Redis.from_url(url) if of_node(url) == url else RedisCluster.from_url(of_node(url))


def send(store: OnlineStore, *writes: FencedWrite) -> list[bool]:
    """Each write is sent to every shard with the keys that are there; whether it was applied, by all or by none."""
    applied = store.write([part for write in writes for part in shares(write, store.shards)])
    parts = [applied[n : n + store.shards] for n in range(0, len(applied), store.shards)]
    assert all(len(set(part)) == 1 for part in parts)
    return [part[0] for part in parts]


def shares(write: FencedWrite, shards: int) -> list[FencedWrite]:
    """The part of each shard; the rows are counted in shard 0."""
    own: list[list[int]] = [[] for _ in range(shards)]
    for n, key in enumerate(write.keys):
        own[shard_of(key, shards)].append(n)
    return [share(write, shard, numbers) for shard, numbers in enumerate(own)]


def share(write: FencedWrite, shard: int, numbers: list[int]) -> FencedWrite:
    """The write of one shard, with the keys of these numbers."""
    after = replace(write.after, rows_total=write.after.rows_total if shard == 0 else 0)
    keys, fields = [write.keys[n] for n in numbers], [write.fields[n] for n in numbers]
    return replace(write, shard=shard, keys=keys, fields=fields, after=after)


def take_over(store: OnlineStore, source: SourcePartition, owner: bytes, partitions: int) -> Cursor | None:
    """What all shards say together when their cursors are acquired."""
    found = store.acquire(VIEW, source, owner, partitions)
    assert len(found) == store.shards
    return merge_cursors([{} if cursor is None else {source: cursor} for cursor in found]).get(source)


def cursor_of(store: OnlineStore, source: SourcePartition = ZERO, view: str = VIEW) -> Cursor | None:
    """The stored cursor without its heartbeat, which is the store's own."""
    found = store.cursors([view])[0].get(source)
    return None if found is None else replace(found, heartbeat_us=0)


def following(write: FencedWrite, next_offset: int, **changes: object) -> FencedWrite:
    """A write of the same owner from where ``write`` ended."""
    after = write.after.moved(next_offset, 1, 99)
    return replace(write, before=write.after, after=after, **changes)  # type: ignore[arg-type]


def field(newest: int) -> bytes:
    """A field without tiles, whose newest event is of that time."""
    return struct.pack("<BBHIqqqI4x", 1, 0, 1, 0, 10, 77, newest, 0)


def at_clock(clock: int) -> Cursor:
    return replace(FIRST.after, clock=clock)
