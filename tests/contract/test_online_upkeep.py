"""What goes: fields out of reach, views that were dropped."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from headrace.bus.source_partition import NO_CLOCK, import_partition
from headrace.features.online.redis.key_names import KeyNames
from headrace.features.online.redis.lua import DROP
from headrace.features.online.store import FencedWrite, OnlineStore, shard_of
from tests.support.online_stores import (
    FIRST,
    ME,
    ONE,
    OTHER_VIEW,
    VIEW,
    ZERO,
    at_clock,
    cursor_of,
    field,
    following,
    redis_client,
    send,
    take_over,
)

if TYPE_CHECKING:
    from headrace.features.online.redis.redis_store import RedisOnlineStore

REACH = {VIEW: timedelta(microseconds=400)}

# -- scavenging -------------------------------------------------------------------------------------------------------


def test_a_field_goes_once_its_newest_event_is_out_of_reach_of_the_views_clock(store: OnlineStore) -> None:
    old, young = [b"a", b"b"], [field(600), field(601)]
    send(store, replace(FIRST, keys=old, fields=young, after=at_clock(999)))
    send(store, replace(FIRST, source=ONE, keys=old, fields=[field(605), field(1)], after=at_clock(500)))
    send(store, replace(FIRST, view=OTHER_VIEW, keys=old, fields=young, after=at_clock(5_000)))
    assert removed(store, REACH) == 1  # the newest clock of the view counts, for all its partitions
    assert store.read(VIEW, ZERO, old) == young
    assert store.read(VIEW, ONE, old) == [field(605), None]
    send(store, FencedWrite(VIEW, ZERO, at_clock(999), replace(at_clock(1_000), next_offset=11)))
    assert removed(store, REACH) == 1
    assert store.read(VIEW, ZERO, old) == [None, field(601)]
    assert store.read(OTHER_VIEW, ZERO, old) == young


def test_without_a_cursor_nothing_is_known_to_be_out_of_reach(store: OnlineStore) -> None:
    assert removed(store, REACH) == 0
    send(store, replace(FIRST, fields=[field(-(10**15)), field(0)], after=at_clock(NO_CLOCK)))
    assert removed(store, REACH) == 0
    assert None not in store.read(VIEW, ZERO, [b"a", b"b"])


def removed(store: OnlineStore, reach: dict[str, timedelta]) -> int:
    """How many fields go in one turn through all keys."""
    position, found = store.scavenge(reach, 0)
    while position:
        position, more = store.scavenge(reach, position)
        found += more
    return found


@pytest.mark.integration
def test_nothing_expires_by_the_time_of_redis(redis_store: RedisOnlineStore, redis_url: str, namespace: str) -> None:
    send(redis_store, FIRST)
    names = KeyNames(namespace, redis_store.shards)
    own = [names.cursors(shard, VIEW) for shard in range(names.shards)]
    own += [names.entity_prefix(shard_of(key, names.shards), VIEW) + key for key in FIRST.keys]
    with closing(redis_client(redis_url)) as redis:
        keys = [key for key in redis.scan_iter(b"*:shop@1:*") if key.startswith(tuple(names.prefixes))]
        assert sorted(keys) == sorted(own)
        assert {redis.pttl(key) for key in keys} == {-1}


@pytest.mark.integration
def test_scavenging_goes_through_more_keys_than_a_step_has(redis_store: RedisOnlineStore) -> None:
    keys = [b"k%d" % n for n in range(3_000)]
    send(redis_store, replace(FIRST, after=at_clock(1_000), keys=keys, fields=[field(n) for n in range(3_000)]))
    position, removed = redis_store.scavenge(REACH, 0)
    steps = [removed]
    while position:
        position, removed = redis_store.scavenge(REACH, position)
        steps.append(removed)
    assert len(steps) > 1
    assert sum(steps) == 601
    assert sum(found is None for found in redis_store.read(VIEW, ZERO, keys)) == 601


# -- forgetting a source partition ------------------------------------------------------------------------------------


def test_a_forgotten_source_partition_leaves_nothing_and_the_others_alone(store: OnlineStore) -> None:
    gone, other = import_partition(bytes(9)), replace(FIRST, view=OTHER_VIEW)
    send(store, FIRST, replace(FIRST, source=gone, fields=[b"C", b"D"]), replace(other, source=gone))
    position, removed = store.forget([VIEW], gone, 0)
    while position:
        position, more = store.forget([VIEW], gone, position)
        removed += more
    assert removed == 2
    assert store.read(VIEW, gone, [b"a", b"b"]) == [None, None]
    assert store.read(VIEW, ZERO, [b"a", b"b"]) == [b"A", b"B"]
    assert [*store.cursors([VIEW])[0]] == [ZERO]
    assert [*store.cursors([OTHER_VIEW])[0]] == [gone]
    again = replace(FIRST, source=gone)
    assert send(store, following(again, 20)) == [False], "its last owner is fenced"


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
    commands = [(n, DROP.call([redis_store._keys.cursors(n, VIEW), *of_view])) for n, of_view in own]
    assert set(redis_store._run(commands)) == {0}
    assert redis_store.read(VIEW, ZERO, [b"a", b"b"]) == [b"A", b"B"]
