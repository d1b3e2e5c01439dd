"""Cursors: they are acquired, and writes are compare-and-sets on them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from headrace.bus.source_partition import NO_CLOCK
from headrace.features.online.cursor import Cursor, CursorState
from headrace.features.online.store import FencedWrite, OnlineStore
from tests.support.online_stores import (
    FIRST,
    ME,
    ONE,
    OTHER,
    OTHER_VIEW,
    VIEW,
    ZERO,
    cursor_of,
    following,
    send,
    take_over,
)

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
    assert send(store, FencedWrite(VIEW, ZERO, FIRST.after, FIRST.after)) == [True]
    assert store.cursors([VIEW])[0][ZERO].heartbeat_us > before
    assert cursor_of(store) == FIRST.after
