"""Look-ups and documents: what a store that is read answers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from headrace.features.online.cursor import is_live
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.features.online.store import OnlineStore, shard_of
from tests.support.online_stores import (
    FIRST,
    ONE,
    OTHER,
    OTHER_VIEW,
    VIEW,
    ZERO,
    send,
    shares,
)

# -- look-ups ---------------------------------------------------------------------------------------------------------


def test_a_look_up_answers_in_the_order_asked_with_the_cursors_of_each_keys_shard(store: OnlineStore) -> None:
    one = replace(FIRST, source=ONE, keys=[b"b"], fields=[b"B-one"])
    send(store, FIRST, one)
    asked = [b"b", b"zz", b"a", b"b"]
    second, first, empty = store.look_up([(VIEW, asked), (VIEW, []), (OTHER_VIEW, [b"a"])])
    both = {ZERO: b"B", ONE: b"B-one"}
    assert second.fields == [both, {}, {ZERO: b"A"}, both]
    assert second.shards == [shard_of(key, store.shards) for key in asked]
    assert set(second.snapshots) == set(second.shards)
    assert (first.fields, first.shards, set(first.snapshots)) == ([], [], {0})
    assert [set(moment.cursors) for moment in first.snapshots.values()] == [{ZERO, ONE}]
    assert [dict(moment.cursors) for moment in empty.snapshots.values()] == [{}]
    assert empty.fields == [{}]
    for moment in second.snapshots.values():
        assert set(moment.cursors) == {ZERO, ONE}
        assert all(
            moment.now_us - 60_000_000 < cursor.heartbeat_us <= moment.now_us for cursor in moment.cursors.values()
        )
    assert store.look_up([]) == []


def test_every_shard_has_a_cursor_of_its_own(store: OnlineStore) -> None:
    """One that a shard lacks, or that is behind, tells for the view; a look-up tells what its own shard says."""
    keys = [b"k%d" % n for n in range(300)]
    everywhere = replace(FIRST, keys=keys, fields=keys)
    parts = shares(everywhere, store.shards)
    assert store.write(parts[:-1]) == [True] * (store.shards - 1)
    assert store.acquire(VIEW, ZERO, OTHER, 2)[-1] is None
    found = store.cursors([VIEW])[0]
    assert [cursor.next_offset for cursor in found.values()] == [0] * len(found)
    assert not is_live(found)
    (answer,) = store.look_up([(VIEW, keys)])
    last = store.shards - 1
    for shard, fields, key in zip(answer.shards, answer.fields, keys, strict=True):
        assert fields == ({} if shard == last else {ZERO: key})
        assert set(answer.snapshots[shard].cursors) == (set() if shard == last else {ZERO})


def test_keys_are_bytes_of_any_kind(store: OnlineStore) -> None:
    keys = [b"", b"\x00\xff:{}*", "süß".encode(), b"a\r\nb"]
    send(store, replace(FIRST, keys=keys, fields=[b"0", b"1", b"2", b""]))
    assert store.read(VIEW, ZERO, keys) == [b"0", b"1", b"2", b""]


def test_documents_are_kept_by_name(store: OnlineStore) -> None:
    assert store.get_document("service:delay") is None
    store.put_document("service:delay", {"views": [["a", "1"]], "größe": 1.5})
    store.put_document("service:other", {})
    assert store.get_document("service:delay") == {"views": [["a", "1"]], "größe": 1.5}
    store.put_document("service:delay", {"views": []})
    assert store.get_document("service:delay") == {"views": []}


# -- a look-up is one moment ------------------------------------------------------------------------------------------


def empty(store: OnlineStore) -> None:
    """What FLUSHALL does, to this namespace alone."""
    if isinstance(store, MemoryOnlineStore):
        store.clear()
    elif isinstance(store, RedisOnlineStore):
        keys = list(store._redis.scan_iter(match=b"hr:*", count=10_000))
        own = [(n, [key for key in keys if key.startswith(prefix)]) for n, prefix in enumerate(store._keys.prefixes)]
        store._run([(shard, ("DEL", *of_shard)) for shard, of_shard in own if of_shard])


def empty_after(seconds: float, store: OnlineStore) -> None:
    time.sleep(seconds)
    empty(store)


def test_a_shard_that_is_emptied_meanwhile_is_found_full_or_empty_and_never_half(store: OnlineStore) -> None:
    keys = [b"k%d" % n for n in range(4_000)]
    full = replace(FIRST, keys=keys, fields=keys)
    send(store, full)
    started = time.perf_counter()
    store.look_up([(VIEW, keys)])
    took = time.perf_counter() - started
    seen = set()
    for attempt in range(6):
        send(store, full)
        with ThreadPoolExecutor(1) as other:
            emptied = other.submit(empty_after, took * attempt / 4, store)
            while not emptied.done():
                (answer,) = store.look_up([(VIEW, keys)])
                cursors = {shard: len(snapshot.cursors) for shard, snapshot in answer.snapshots.items()}
                seen |= set(zip([cursors[shard] for shard in answer.shards], map(len, answer.fields), strict=True))
            emptied.result()
    assert seen <= {(0, 0), (1, 1)}
    assert (1, 1) in seen
