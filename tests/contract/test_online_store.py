"""One body on every online store: the double keeps the promises of Redis."""

from __future__ import annotations

import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from headrace.errors import CodecError, OnlineStoreUnavailableError
from headrace.features.memory_store import MemoryOnlineStore
from headrace.features.online import NO_CLOCK, Cursor, CursorState, OnlineStore, Source, Write
from headrace.features.redis_store import RedisOnlineStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.app.local.services import LocalServices

VIEW, OTHER_VIEW = "shop@1", "till@1"
ME, OTHER = b"m" * 16, b"o" * 16
ZERO, ONE = Source(0, bytes(range(16))), Source(1, bytes(range(16)))
FIRST = Write(
    VIEW, ZERO, Cursor(ME, -1), Cursor(ME, 10, rows_total=9, clock=77, partitions=2), [b"a", b"b"], [b"A", b"B"]
)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    if request.param == "memory":
        yield MemoryOnlineStore()
        return
    redis = RedisOnlineStore(request.getfixturevalue("services").redis_url, request.getfixturevalue("namespace"))
    yield redis
    redis.close()


@pytest.fixture
def redis_store(services: LocalServices, namespace: str) -> Iterator[RedisOnlineStore]:
    store = RedisOnlineStore(services.redis_url, namespace)
    yield store
    store.close()


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
    assert store.acquire(VIEW, ZERO, ME, 2) is None
    assert store.cursors([VIEW]) == [{}]


def test_acquiring_takes_the_position_under_the_new_owner(store: OnlineStore) -> None:
    assert store.write([FIRST]) == [True]
    taken = store.acquire(VIEW, ZERO, OTHER, 5)
    assert taken is not None
    assert replace(taken, heartbeat_us=0) == replace(FIRST.after, owner=OTHER, partitions=5)
    assert cursor_of(store) == replace(FIRST.after, owner=OTHER, partitions=5)
    assert store.cursors([VIEW])[0][ZERO].heartbeat_us == taken.heartbeat_us  # acquiring is no sign of life


def test_a_negative_clock_and_every_state_survive(store: OnlineStore) -> None:
    after = Cursor(ME, 0, clock=NO_CLOCK, state=CursorState.REBUILDING, partitions=2**32 - 1)
    assert store.write([replace(FIRST, after=after)]) == [True]
    assert cursor_of(store) == after


# -- compare-and-set --------------------------------------------------------------------------------------------------


def test_a_write_follows_the_one_before_it(store: OnlineStore) -> None:
    second = following(FIRST, 12, keys=[b"b"], fields=[b"B2"])
    assert store.write([FIRST, second]) == [True, True]
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
    store.write([FIRST])
    refused = replace(FIRST, before=before, after=replace(before, next_offset=20), fields=[b"X", b"Y"])
    assert store.write([refused]) == [False]
    assert cursor_of(store) == FIRST.after
    assert store.read(VIEW, ZERO, [b"a", b"b"]) == [b"A", b"B"]


def test_a_write_to_an_absent_cursor_is_refused_whole(store: OnlineStore) -> None:
    assert store.write([following(FIRST, 12)]) == [False]
    assert store.cursors([VIEW]) == [{}]
    assert store.read(VIEW, ZERO, [b"a", b"b"]) == [None, None]


def test_the_same_write_again_was_applied_already_and_changes_nothing(store: OnlineStore) -> None:
    assert store.write([FIRST, FIRST]) == [True, True]
    second = following(FIRST, 12, keys=[b"a"], fields=[b"A2"])
    assert store.write([second]) == [True]
    assert store.write([replace(second, fields=[b"never"])]) == [True]
    assert store.read(VIEW, ZERO, [b"a"]) == [b"A2"]
    assert store.write([FIRST]) == [False]


def test_the_former_owner_is_refused_after_a_take_over(store: OnlineStore) -> None:
    store.write([FIRST])
    store.acquire(VIEW, ZERO, OTHER, 2)
    assert store.write([following(FIRST, 12), replace(FIRST, before=FIRST.after)]) == [False, False]


def test_writes_are_judged_one_by_one(store: OnlineStore) -> None:
    elsewhere = replace(FIRST, source=ONE, keys=[b"a"], fields=[b"one"])
    other_view = replace(FIRST, view=OTHER_VIEW)
    assert store.write([FIRST, following(elsewhere, 3), elsewhere, other_view]) == [True, False, True, True]
    assert store.read(VIEW, ONE, [b"a"]) == [b"one"]
    assert store.write([]) == []


def test_a_heartbeat_is_an_empty_write_that_moves_the_time_only(store: OnlineStore) -> None:
    store.write([FIRST])
    before = store.cursors([VIEW])[0][ZERO].heartbeat_us
    time.sleep(0.002)
    assert store.write([Write(VIEW, ZERO, FIRST.after, FIRST.after)]) == [True]
    assert store.cursors([VIEW])[0][ZERO].heartbeat_us > before
    assert cursor_of(store) == FIRST.after


# -- look-ups ---------------------------------------------------------------------------------------------------------


def test_a_look_up_answers_in_the_order_asked_with_the_cursors_of_each_view(store: OnlineStore) -> None:
    one = replace(FIRST, source=ONE, keys=[b"b"], fields=[b"B-one"])
    store.write([FIRST, one])
    now_us, (second, first, empty) = store.look_up(
        [(VIEW, [b"b", b"zz", b"a", b"b"]), (VIEW, []), (OTHER_VIEW, [b"a"])]
    )
    both = {ZERO: b"B", ONE: b"B-one"}
    assert second.fields == [both, {}, {ZERO: b"A"}, both]
    assert first.fields == []
    assert set(second.cursors) == set(first.cursors) == {ZERO, ONE}
    assert empty.cursors == {}
    assert empty.fields == [{}]
    heartbeats = [cursor.heartbeat_us for cursor in second.cursors.values()]
    assert all(now_us - 60_000_000 < beat <= now_us for beat in heartbeats)
    assert store.look_up([])[1] == []


def test_keys_are_bytes_of_any_kind(store: OnlineStore) -> None:
    keys = [b"", b"\x00\xff:{}*", "süß".encode(), b"a\r\nb"]
    store.write([replace(FIRST, keys=keys, fields=[b"0", b"1", b"2", b""])])
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
        store._redis.delete(*store._redis.keys(store._prefix + b"*"))


def empty_after(seconds: float, store: OnlineStore) -> None:
    time.sleep(seconds)
    empty(store)


def test_a_store_that_is_emptied_meanwhile_is_found_full_or_empty_and_never_half(store: OnlineStore) -> None:
    keys = [b"k%d" % n for n in range(10_000)]
    full = replace(FIRST, keys=keys, fields=keys)
    store.write([full])
    started = time.perf_counter()
    store.look_up([(VIEW, keys)])
    took = time.perf_counter() - started
    seen = set()
    for attempt in range(30):
        store.write([full])
        with ThreadPoolExecutor(1) as other:
            emptied = other.submit(empty_after, took * attempt / 20, store)
            while not emptied.done():
                answer = store.look_up([(VIEW, keys)])[1][0]
                seen.add((len(answer.cursors), sum(map(len, answer.fields))))
            emptied.result()
    assert seen <= {(0, 0), (1, len(keys))}
    assert (1, len(keys)) in seen


# -- scavenging -------------------------------------------------------------------------------------------------------


def field(newest: int) -> bytes:
    """A field without tiles, whose newest event is of that time."""
    return struct.pack("<BBHIqqqI4x", 1, 0, 1, 0, 10, 77, newest, 0)


def at_clock(clock: int) -> Cursor:
    return replace(FIRST.after, clock=clock)


def test_a_field_goes_once_its_newest_event_is_out_of_reach_of_the_views_clock(store: OnlineStore) -> None:
    old, young = [b"a", b"b"], [field(600), field(601)]
    store.write([replace(FIRST, keys=old, fields=young, after=at_clock(999))])
    store.write([replace(FIRST, source=ONE, keys=old, fields=[field(605), field(1)], after=at_clock(500))])
    store.write([replace(FIRST, view=OTHER_VIEW, keys=old, fields=young, after=at_clock(5_000))])
    assert removed(store, {VIEW: 400}) == 1  # the newest clock of the view counts, for all its partitions
    assert store.read(VIEW, ZERO, old) == young
    assert store.read(VIEW, ONE, old) == [field(605), None]
    store.write([Write(VIEW, ZERO, at_clock(999), replace(at_clock(1_000), next_offset=11))])
    assert removed(store, {VIEW: 400}) == 1
    assert store.read(VIEW, ZERO, old) == [None, field(601)]
    assert store.read(OTHER_VIEW, ZERO, old) == young


def test_without_a_cursor_nothing_is_known_to_be_out_of_reach(store: OnlineStore) -> None:
    assert removed(store, {VIEW: 400}) == 0
    store.write([replace(FIRST, fields=[field(-(10**15)), field(0)], after=at_clock(NO_CLOCK))])
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
    redis_store.write([FIRST])
    keys = [key for key in redis_store._redis.scan_iter(match=b"*:shop@1:*") if redis_store._prefix in key]
    assert len(keys) == 3
    assert {redis_store._redis.pttl(key) for key in keys} == {-1}


@pytest.mark.integration
def test_scavenging_goes_through_more_keys_than_a_step_has(redis_store: RedisOnlineStore) -> None:
    keys = [b"k%d" % n for n in range(3_000)]
    redis_store.write([replace(FIRST, after=at_clock(1_000), keys=keys, fields=[field(n) for n in range(3_000)])])
    position, removed = redis_store.scavenge({VIEW: 400}, 0)
    steps = [removed]
    while position:
        position, removed = redis_store.scavenge({VIEW: 400}, position)
        steps.append(removed)
    assert len(steps) > 1
    assert sum(steps) == 601
    assert sum(found is None for found in redis_store.read(VIEW, ZERO, keys)) == 601


@pytest.mark.integration
def test_namespaces_see_nothing_of_each_other(
    services: LocalServices, redis_store: RedisOnlineStore, namespace: str
) -> None:
    redis_store.write([FIRST])
    other = RedisOnlineStore(services.redis_url, f"{namespace}x")
    assert other.cursors([VIEW]) == [{}]
    assert other.read(VIEW, ZERO, [b"a"]) == [None]
    other.close()


def test_a_redis_that_does_not_answer_is_a_typed_error() -> None:
    nowhere = RedisOnlineStore("redis://127.0.0.1:1/0", timeout_s=0.2)
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
        with pytest.raises(OnlineStoreUnavailableError, match=r"redis://127\.0\.0\.1:1/0"):
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
    store.write([FIRST, other])
    assert drop_all(store, VIEW) == len(FIRST.keys) + 1
    assert store.cursors([VIEW])[0] == {}
    assert store.read(VIEW, ZERO, [b"a", b"b"]) == [None, None]
    assert store.read(OTHER_VIEW, ZERO, [b"a", b"b"]) == [b"A", b"B"]
    assert cursor_of(store, view=OTHER_VIEW) == other.after
    assert drop_all(store, VIEW) == drop_all(store) == 0


def test_the_owner_of_a_dropped_view_is_refused_and_begins_again(store: OnlineStore) -> None:
    store.write([FIRST])
    drop_all(store, VIEW)
    assert store.write([following(FIRST, 20)]) == [False]
    assert store.acquire(VIEW, ZERO, ME, 1) is None
    assert store.write([FIRST]) == [True]


def test_fields_beside_a_cursor_are_never_dropped(redis_store: RedisOnlineStore) -> None:
    """The round began before another worker took the view up again."""
    redis_store.write([FIRST])
    position, keys = redis_store._scan(0)
    found = list(keys[VIEW])
    while position:  # others' keys are in this store too
        position, keys = redis_store._scan(position)
        found += keys[VIEW]
    assert found
    dropped = redis_store._drop([redis_store._cursors_key(VIEW), *found])
    assert dropped == 0
    assert redis_store.read(VIEW, ZERO, [b"a", b"b"]) == [b"A", b"B"]


def test_removed_documents_are_gone(store: OnlineStore) -> None:
    for name in ("service:a", "service:b"):
        store.put_document(name, {"x": 1})
    store.remove_documents([])
    store.remove_documents(["service:a", "service:unknown"])
    assert (store.get_document("service:a"), store.get_document("service:b")) == (None, {"x": 1})
