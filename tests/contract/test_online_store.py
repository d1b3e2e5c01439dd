"""One body on every online store: the double keeps the promises of Redis."""

from __future__ import annotations

import re
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from headrace.errors import CodecError, OnlineStoreUnavailableError, SettingsError
from headrace.features.memory_store import MemoryOnlineStore
from headrace.features.online import (
    NO_CLOCK,
    Cursor,
    CursorState,
    OnlineStore,
    Source,
    Write,
    is_live,
    merged,
    shard_of,
)
from headrace.features.redis_scripts import DROP
from headrace.features.redis_store import RedisOnlineStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.app.local.services import LocalServices
    from tests.redis_cluster import RedisCluster

VIEW, OTHER_VIEW = "shop@1", "till@1"
ME, OTHER = b"m" * 16, b"o" * 16
ZERO, ONE = Source(0, bytes(range(16))), Source(1, bytes(range(16)))
FIRST = Write(
    VIEW, ZERO, Cursor(ME, -1), Cursor(ME, 10, rows_total=9, clock=77, partitions=2), [b"a", b"b"], [b"A", b"B"]
)


SERVERS = [pytest.param(name, marks=pytest.mark.integration) for name in ("redis", "cluster")]


@pytest.fixture(params=["memory", "memory in 64 shards", *SERVERS])
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    if "memory" in request.param:
        yield MemoryOnlineStore(shards=64 if "64" in request.param else 1)
        return
    yield from opened(request)


@pytest.fixture(params=SERVERS)
def redis_store(request: pytest.FixtureRequest) -> Iterator[RedisOnlineStore]:
    yield from opened(request)


def opened(request: pytest.FixtureRequest) -> Iterator[RedisOnlineStore]:
    ask = request.getfixturevalue
    url = ask("services").redis_url if request.param == "redis" else ask("redis_cluster").url
    store = RedisOnlineStore(url, ask("namespace"))
    yield store
    store.close()


def send(store: OnlineStore, *writes: Write) -> list[bool]:
    """Each write is sent to every shard with the keys that are there; whether it was applied, by all or by none."""
    sent = [share(write, shard, store.shards) for write in writes for shard in range(store.shards)]
    applied = store.write(sent)
    parts = [applied[n : n + store.shards] for n in range(0, len(applied), store.shards)]
    assert all(len(set(part)) == 1 for part in parts)
    return [part[0] for part in parts]


def share(write: Write, shard: int, shards: int) -> Write:
    """One shard's part; the rows are counted in shard 0."""
    own = [n for n, key in enumerate(write.keys) if shard_of(key, shards) == shard]
    keys, fields = [write.keys[n] for n in own], [write.fields[n] for n in own]
    after = replace(write.after, rows_total=write.after.rows_total if shard == 0 else 0)
    return replace(write, shard=shard, keys=keys, fields=fields, after=after)


def take_over(store: OnlineStore, source: Source, owner: bytes, partitions: int) -> Cursor | None:
    """What all shards say together when their cursors are acquired."""
    found = store.acquire(VIEW, source, owner, partitions)
    assert len(found) == store.shards
    return merged([{} if cursor is None else {source: cursor} for cursor in found]).get(source)


def cursor_of(store: OnlineStore, source: Source = ZERO, view: str = VIEW) -> Cursor | None:
    """The stored cursor without its heartbeat, which is the store's own."""
    found = store.cursors([view])[0].get(source)
    return None if found is None else replace(found, heartbeat_us=0)


def following(write: Write, next_offset: int, **changes: object) -> Write:
    """A write of the same owner from where ``write`` ended."""
    after = write.after.moved(next_offset, 1, 99)
    return replace(write, before=write.after, after=after, **changes)  # type: ignore[arg-type]


# -- acquiring --------------------------------------------------------------------------------------------------------


def test_acquiring_what_is_absent_finds_nothing_and_writes_nothing(store: OnlineStore) -> None:
    assert take_over(store, ZERO, ME, 2) is None
    assert store.cursors([VIEW]) == [{}]


def test_acquiring_takes_the_position_under_the_new_owner(store: OnlineStore) -> None:
    assert send(store, FIRST) == [True]
    taken = take_over(store, ZERO, OTHER, 5)
    assert taken is not None
    assert replace(taken, heartbeat_us=0) == replace(FIRST.after, owner=OTHER, partitions=5)
    assert cursor_of(store) == replace(FIRST.after, owner=OTHER, partitions=5)
    assert store.cursors([VIEW])[0][ZERO].heartbeat_us == taken.heartbeat_us  # acquiring is no sign of life


def test_a_negative_clock_and_every_state_survive(store: OnlineStore) -> None:
    after = Cursor(ME, 0, clock=NO_CLOCK, state=CursorState.REBUILDING, partitions=2**32 - 1)
    assert send(store, replace(FIRST, after=after)) == [True]
    assert cursor_of(store) == after


# -- compare-and-set --------------------------------------------------------------------------------------------------


def test_a_write_follows_the_one_before_it(store: OnlineStore) -> None:
    second = following(FIRST, 12, keys=[b"b"], fields=[b"B2"])
    assert send(store, FIRST, second) == [True, True]
    assert cursor_of(store) == second.after
    assert store.read(VIEW, ZERO, [b"a", b"b", b"c"]) == [b"A", b"B2", None]


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(replace(FIRST.after, owner=OTHER), id="another owner"),
        pytest.param(replace(FIRST.after, next_offset=9), id="an earlier offset"),
        pytest.param(replace(FIRST.after, next_offset=11), id="a later offset"),
        pytest.param(Cursor(ME, -1), id="absent"),
    ],
)
def test_a_write_from_another_state_is_refused_whole(store: OnlineStore, before: Cursor) -> None:
    send(store, FIRST)
    refused = replace(FIRST, before=before, after=replace(before, next_offset=20), fields=[b"X", b"Y"])
    assert send(store, refused) == [False]
    assert cursor_of(store) == FIRST.after
    assert store.read(VIEW, ZERO, [b"a", b"b"]) == [b"A", b"B"]


def test_a_write_to_an_absent_cursor_is_refused_whole(store: OnlineStore) -> None:
    assert send(store, following(FIRST, 12)) == [False]
    assert store.cursors([VIEW]) == [{}]
    assert store.read(VIEW, ZERO, [b"a", b"b"]) == [None, None]


def test_the_same_write_again_was_applied_already_and_changes_nothing(store: OnlineStore) -> None:
    assert send(store, FIRST, FIRST) == [True, True]
    second = following(FIRST, 12, keys=[b"a"], fields=[b"A2"])
    assert send(store, second) == [True]
    assert send(store, replace(second, fields=[b"never"])) == [True]
    assert store.read(VIEW, ZERO, [b"a"]) == [b"A2"]
    assert send(store, FIRST) == [False]


def test_the_former_owner_is_refused_after_a_take_over(store: OnlineStore) -> None:
    send(store, FIRST)
    take_over(store, ZERO, OTHER, 2)
    assert send(store, following(FIRST, 12), replace(FIRST, before=FIRST.after)) == [False, False]


def test_writes_are_judged_one_by_one(store: OnlineStore) -> None:
    elsewhere = replace(FIRST, source=ONE, keys=[b"a"], fields=[b"one"])
    other_view = replace(FIRST, view=OTHER_VIEW)
    assert send(store, FIRST, following(elsewhere, 3), elsewhere, other_view) == [True, False, True, True]
    assert store.read(VIEW, ONE, [b"a"]) == [b"one"]
    assert send(store) == []


def test_a_heartbeat_is_an_empty_write_that_moves_the_time_only(store: OnlineStore) -> None:
    send(store, FIRST)
    before = store.cursors([VIEW])[0][ZERO].heartbeat_us
    time.sleep(0.002)
    assert send(store, Write(VIEW, ZERO, FIRST.after, FIRST.after)) == [True]
    assert store.cursors([VIEW])[0][ZERO].heartbeat_us > before
    assert cursor_of(store) == FIRST.after


# -- look-ups ---------------------------------------------------------------------------------------------------------


def test_a_look_up_answers_in_the_order_asked_with_the_cursors_of_each_keys_shard(store: OnlineStore) -> None:
    one = replace(FIRST, source=ONE, keys=[b"b"], fields=[b"B-one"])
    send(store, FIRST, one)
    asked = [b"b", b"zz", b"a", b"b"]
    second, first, empty = store.look_up([(VIEW, asked), (VIEW, []), (OTHER_VIEW, [b"a"])])
    both = {ZERO: b"B", ONE: b"B-one"}
    assert second.fields == [both, {}, {ZERO: b"A"}, both]
    assert second.shards == [shard_of(key, store.shards) for key in asked]
    assert set(second.moments) == set(second.shards)
    assert (first.fields, first.shards, set(first.moments)) == ([], [], {0})
    assert [set(moment.cursors) for moment in first.moments.values()] == [{ZERO, ONE}]
    assert [dict(moment.cursors) for moment in empty.moments.values()] == [{}]
    assert empty.fields == [{}]
    for moment in second.moments.values():
        assert set(moment.cursors) == {ZERO, ONE}
        assert all(
            moment.now_us - 60_000_000 < cursor.heartbeat_us <= moment.now_us for cursor in moment.cursors.values()
        )
    assert store.look_up([]) == []


def test_every_shard_has_a_cursor_of_its_own(store: OnlineStore) -> None:
    """One that a shard lacks, or that is behind, tells for the view; a look-up tells what its own shard says."""
    keys = [b"k%d" % n for n in range(300)]
    everywhere = replace(FIRST, keys=keys, fields=keys)
    parts = [share(everywhere, shard, store.shards) for shard in range(store.shards)]
    assert store.write(parts[:-1]) == [True] * (store.shards - 1)
    assert store.acquire(VIEW, ZERO, OTHER, 2)[-1] is None
    found = store.cursors([VIEW])[0]
    assert [cursor.next_offset for cursor in found.values()] == [0] * len(found)
    assert not is_live(found)
    (answer,) = store.look_up([(VIEW, keys)])
    last = store.shards - 1
    for shard, fields, key in zip(answer.shards, answer.fields, keys, strict=True):
        assert fields == ({} if shard == last else {ZERO: key})
        assert set(answer.moments[shard].cursors) == (set() if shard == last else {ZERO})


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
        own = [(n, [key for key in keys if key.startswith(prefix)]) for n, prefix in enumerate(store._prefixes)]
        store._run([(shard, ("DEL", *of_shard)) for shard, of_shard in own if of_shard])


def empty_after(seconds: float, store: OnlineStore) -> None:
    time.sleep(seconds)
    empty(store)


def test_a_shard_that_is_emptied_meanwhile_is_found_full_or_empty_and_never_half(store: OnlineStore) -> None:
    keys = [b"k%d" % n for n in range(10_000)]
    full = replace(FIRST, keys=keys, fields=keys)
    send(store, full)
    started = time.perf_counter()
    store.look_up([(VIEW, keys)])
    took = time.perf_counter() - started
    seen = set()
    for attempt in range(30):
        send(store, full)
        with ThreadPoolExecutor(1) as other:
            emptied = other.submit(empty_after, took * attempt / 20, store)
            while not emptied.done():
                (answer,) = store.look_up([(VIEW, keys)])
                seen |= {
                    (len(answer.moments[shard].cursors), len(fields))
                    for shard, fields in zip(answer.shards, answer.fields, strict=True)
                }
            emptied.result()
    assert seen <= {(0, 0), (1, 1)}
    assert (1, 1) in seen


# -- scavenging -------------------------------------------------------------------------------------------------------


def field(newest: int) -> bytes:
    """A field without tiles, whose newest event is of that time."""
    return struct.pack("<BBHIqqqI4x", 1, 0, 1, 0, 10, 77, newest, 0)


def at_clock(clock: int) -> Cursor:
    return replace(FIRST.after, clock=clock)


def test_a_field_goes_once_its_newest_event_is_out_of_reach_of_the_views_clock(store: OnlineStore) -> None:
    old, young = [b"a", b"b"], [field(600), field(601)]
    send(store, replace(FIRST, keys=old, fields=young, after=at_clock(999)))
    send(store, replace(FIRST, source=ONE, keys=old, fields=[field(605), field(1)], after=at_clock(500)))
    send(store, replace(FIRST, view=OTHER_VIEW, keys=old, fields=young, after=at_clock(5_000)))
    assert removed(store, {VIEW: 400}) == 1  # the newest clock of the view counts, for all its partitions
    assert store.read(VIEW, ZERO, old) == young
    assert store.read(VIEW, ONE, old) == [field(605), None]
    send(store, Write(VIEW, ZERO, at_clock(999), replace(at_clock(1_000), next_offset=11)))
    assert removed(store, {VIEW: 400}) == 1
    assert store.read(VIEW, ZERO, old) == [None, field(601)]
    assert store.read(OTHER_VIEW, ZERO, old) == young


def test_without_a_cursor_nothing_is_known_to_be_out_of_reach(store: OnlineStore) -> None:
    assert removed(store, {VIEW: 400}) == 0
    send(store, replace(FIRST, fields=[field(-(10**15)), field(0)], after=at_clock(NO_CLOCK)))
    assert removed(store, {VIEW: 400}) == 0
    assert None not in store.read(VIEW, ZERO, [b"a", b"b"])


def removed(store: OnlineStore, reach_us: dict[str, int]) -> int:
    """How many fields go in one turn through all keys."""
    position, found = store.scavenge(reach_us, 0)
    while position:
        position, more = store.scavenge(reach_us, position)
        found += more
    return found


# -- Redis alone ------------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_nothing_expires_by_the_time_of_redis(redis_store: RedisOnlineStore) -> None:
    send(redis_store, FIRST)
    own = [redis_store._cursors_key(shard, VIEW) for shard in range(redis_store.shards)]
    own += [redis_store._entity_prefix(shard_of(key, redis_store.shards), VIEW) + key for key in FIRST.keys]
    keys = [key for key in redis_store._redis.scan_iter(b"*:shop@1:*") if key.startswith(tuple(redis_store._prefixes))]
    assert sorted(keys) == sorted(own)
    assert {redis_store._redis.pttl(key) for key in keys} == {-1}


@pytest.mark.integration
def test_scavenging_goes_through_more_keys_than_a_step_has(redis_store: RedisOnlineStore) -> None:
    keys = [b"k%d" % n for n in range(3_000)]
    send(redis_store, replace(FIRST, after=at_clock(1_000), keys=keys, fields=[field(n) for n in range(3_000)]))
    position, removed = redis_store.scavenge({VIEW: 400}, 0)
    steps = [removed]
    while position:
        position, removed = redis_store.scavenge({VIEW: 400}, position)
        steps.append(removed)
    assert len(steps) > 1
    assert sum(steps) == 601
    assert sum(found is None for found in redis_store.read(VIEW, ZERO, keys)) == 601


@pytest.mark.integration
def test_namespaces_see_nothing_of_each_other(redis_store: RedisOnlineStore, namespace: str) -> None:
    send(redis_store, FIRST)
    other = RedisOnlineStore(redis_store._url, f"{namespace}x")
    assert other.cursors([VIEW]) == [{}]
    assert other.read(VIEW, ZERO, [b"a"]) == [None]
    other.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis+cluster://127.0.0.1:1/0"])
def test_a_redis_that_does_not_answer_is_a_typed_error(url: str) -> None:
    nowhere = RedisOnlineStore(url, timeout_s=0.2)
    calls: list[Callable[[], object]] = [
        lambda: nowhere.acquire(VIEW, ZERO, ME, 1),
        lambda: nowhere.write([FIRST]),
        lambda: nowhere.read(VIEW, ZERO, [b"a"]),
        lambda: nowhere.look_up([(VIEW, [b"a"])]),
        lambda: nowhere.cursors([VIEW]),
        lambda: nowhere.scavenge({VIEW: 1}, 0),
        lambda: nowhere.put_document("x", {}),
        lambda: nowhere.get_document("x"),
    ]
    for call in calls:
        with pytest.raises(OnlineStoreUnavailableError, match=re.escape(url)):
            call()
    nowhere.close()


# -- bytes ------------------------------------------------------------------------------------------------------------


def test_the_cursor_has_these_bytes() -> None:
    cursor = Cursor(b"0123456789abcdef", 258, 7, -2, CursorState.REBUILDING, 3, 5)
    assert cursor.pack().hex() == (
        "30313233343536373839616263646566" "0201000000000000" "0700000000000000" "feffffffffffffff"
        "01" "01" "0000" "03000000" "0500000000000000"
    )  # fmt: skip
    assert Cursor.unpack(cursor.pack()) == cursor


def test_a_source_has_two_names_that_read_back() -> None:
    source = Source(258, bytes(range(16)))
    assert source.field.hex() == "000102030405060708090a0b0c0d0e0f" + "02010000"
    assert source.text == "000102030405060708090a0b0c0d0e0f-258"
    assert Source.from_field(source.field) == Source.from_text(source.text) == source


@pytest.mark.parametrize(
    "data", [b"", FIRST.after.pack()[:-1], FIRST.after.pack()[:40] + b"\x09" + FIRST.after.pack()[41:]]
)
def test_cursors_of_another_format_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError, match="format 1"):
        Cursor.unpack(data)


def test_a_field_name_of_another_length_is_refused() -> None:
    with pytest.raises(CodecError, match="20 bytes"):
        Source.from_field(b"short")


# -- dropping views ---------------------------------------------------------------------------------------------------


def drop_all(store: OnlineStore, *views: str) -> int:
    """One round."""
    position, removed = store.drop(views, 0)
    while position:
        position, more = store.drop(views, position)
        removed += more
    return removed


def test_a_dropped_view_leaves_nothing_and_the_others_alone(store: OnlineStore) -> None:
    other = replace(FIRST, view=OTHER_VIEW)
    send(store, FIRST, other)
    assert drop_all(store, VIEW) == len(FIRST.keys) + store.shards
    assert store.cursors([VIEW])[0] == {}
    assert store.read(VIEW, ZERO, [b"a", b"b"]) == [None, None]
    assert store.read(OTHER_VIEW, ZERO, [b"a", b"b"]) == [b"A", b"B"]
    assert cursor_of(store, view=OTHER_VIEW) == other.after
    assert drop_all(store, VIEW) == drop_all(store) == 0


def test_the_owner_of_a_dropped_view_is_refused_and_begins_again(store: OnlineStore) -> None:
    send(store, FIRST)
    drop_all(store, VIEW)
    assert send(store, following(FIRST, 20)) == [False]
    assert take_over(store, ZERO, ME, 1) is None
    assert send(store, FIRST) == [True]


def test_fields_beside_a_cursor_are_never_dropped(redis_store: RedisOnlineStore) -> None:
    """The round began before another worker took the view up again."""
    send(redis_store, FIRST)
    position, keys = redis_store._scan(0)
    found = list(keys.items())
    while position:  # others' keys are in this store too
        position, keys = redis_store._scan(position)
        found += keys.items()
    own = [(shard, of_view) for (shard, view), of_view in found if view == VIEW]
    assert sum(len(of_view) for _, of_view in own) == len(FIRST.keys)
    commands = [(n, DROP.call([redis_store._cursors_key(n, VIEW), *of_view])) for n, of_view in own]
    assert set(redis_store._run(commands)) == {0}
    assert redis_store.read(VIEW, ZERO, [b"a", b"b"]) == [b"A", b"B"]


def test_removed_documents_are_gone(store: OnlineStore) -> None:
    for name in ("service:a", "service:b"):
        store.put_document(name, {"x": 1})
    store.remove_documents([])
    store.remove_documents(["service:a", "service:unknown"])
    assert (store.get_document("service:a"), store.get_document("service:b")) == (None, {"x": 1})


# -- one node or a cluster --------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_a_url_of_the_wrong_kind_says_which_is_right(services: LocalServices, redis_cluster: RedisCluster) -> None:
    """Else two clients of one cluster would look for an entity in two places."""
    for url, right in (
        (redis_cluster.url.replace("+cluster", ""), r"redis\+cluster://"),
        (services.redis_url.replace("redis:", "redis+cluster:"), r"say redis://"),
    ):
        store = RedisOnlineStore(url)
        for call in (partial(store.get_document, "x"), partial(store.scavenge, {VIEW: 1}, 0)):
            with pytest.raises(SettingsError, match=right):
                call()
        store.close()


def test_the_password_of_a_url_is_not_told() -> None:
    store = RedisOnlineStore("redis+cluster://me:secret@127.0.0.1:1", timeout_s=0.2)
    with pytest.raises(OnlineStoreUnavailableError, match=r"redis\+cluster://me:\*\*\*@127") as caught:
        store.get_document("x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("key", "shard"), [(b"", 0), (b"a", 3), (b"\x00\xff", 50), (b"123456789", 38)])
def test_an_entity_is_in_this_shard(key: bytes, shard: int) -> None:
    """Public: docs/reference/online-format.md."""
    assert (shard_of(key, 64), shard_of(key, 1)) == (shard, 0)
