"""Connections that are kept at hand: which are used again, and which are not."""

from __future__ import annotations

import os
import time
from typing import Any, cast

import pytest
from redis import ConnectionPool, exceptions

from headrace.features.online.redis.connections import Exchange, NodeConnections
from headrace.features.online.redis.script import Transaction


class Connection:
    """Has something to read, or says why not; notes what is done to it."""

    def __init__(self, replies: list[Any] | None = None) -> None:
        self.said: Any = False
        self.looked = self.disconnected = 0
        self.replies = replies or []
        self.sent: Any = None

    def can_read(self) -> bool:
        self.looked += 1
        if isinstance(self.said, Exception):
            raise self.said
        return bool(self.said)

    def disconnect(self) -> None:
        self.disconnected += 1

    def pack_commands(self, lines: Any) -> Any:
        return lines

    def send_packed_command(self, packed: Any) -> None:
        self.sent = packed

    def read_response(self) -> Any:
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


class Pool:
    """Makes connections, and takes them back."""

    def __init__(self, *made: Connection) -> None:
        self.rest, self.back = list(made), list[Any]()

    def get_connection(self) -> Connection:
        return self.rest.pop(0)

    def release(self, connection: Any) -> None:
        self.back.append(connection)


def lane(pool: Pool, **options: bool) -> NodeConnections:
    return NodeConnections(cast("ConnectionPool", pool), **options)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.mark.usefixtures("clock")
def test_the_connection_returned_last_is_used_first_without_a_check() -> None:
    first, second = Connection(), Connection()
    own = lane(Pool(first, second))
    assert (own.take(), own.take()) == (first, second)
    own.give(first)
    own.give(second)
    assert (own.take(), own.take()) == (second, first)
    assert (first.looked, second.looked) == (0, 0)


@pytest.mark.parametrize("said", [True, exceptions.ConnectionError("closed"), OSError("closed")])
def test_an_idle_connection_is_checked_and_replaced_if_the_server_closed_the_other_end(
    clock: list[float], said: Any
) -> None:
    connection = Connection()
    own = lane(Pool(connection))
    own.give(own.take())
    clock[0] += 1.5
    assert (own.take(), connection.looked, connection.disconnected) == (connection, 1, 0)
    own.give(connection)
    connection.said = said
    clock[0] += 1.5
    assert (own.take(), connection.looked, connection.disconnected) == (connection, 2, 1)


def test_a_forked_process_begins_without_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, forked = Connection(), Connection()
    own = lane(Pool(mine, forked))
    own.give(own.take())
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert own.take() is forked


def test_a_pool_that_is_bounded_has_all_back_at_once_and_others_when_they_are_cleared() -> None:
    pool = Pool(Connection(), Connection())
    bounded, own = lane(pool, keeps=False), lane(pool)
    bounded.give(bounded.take())
    assert len(pool.back) == 1
    own.give(own.take())
    assert len(pool.back) == 1
    own.clear()
    assert len(pool.back) == 2


@pytest.mark.parametrize(("read", "ends"), [(2, 0), (1, 1)])
def test_a_connection_with_replies_that_nobody_read_is_ended(read: int, ends: int) -> None:
    connection = Connection([1, exceptions.ResponseError("no")])
    own = lane(Pool(connection))
    conversation = Exchange(own)
    conversation.write([("A",), ("B",)])
    found = [conversation.read() for _ in range(read)]
    conversation.close()
    assert found[0] == 1
    assert connection.disconnected == ends
    assert own.take() is connection


def test_a_connection_that_breaks_is_the_answer_to_all_that_is_left() -> None:
    error = exceptions.ConnectionError("gone")
    conversation = Exchange(lane(Pool(Connection([1, error]))))
    conversation.write([("A",), ("B",), ("C",)])
    assert [conversation.read() for _ in range(3)] == [1, error, error]


REFUSED, ABORTED = exceptions.ResponseError("unknown command"), exceptions.ExecAbortError("because of previous errors")
WRONG = exceptions.ResponseError("WRONGTYPE")


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ([b"OK", b"QUEUED", [b"1"]], [b"1"]),
        ([b"OK", REFUSED, ABORTED], REFUSED),
        ([b"OK", b"QUEUED", [WRONG]], WRONG),
    ],
)
def test_a_transaction_goes_out_in_one_piece_and_says_one_thing(replies: list[Any], said: Any) -> None:
    connection = Connection([b"before", *replies])
    conversation = Exchange(lane(Pool(connection)))
    lines = [("GET", "a"), Transaction([("HGETALL", b"b")])]
    conversation.write(lines)
    assert connection.sent == [
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$7\r\nHGETALL\r\n$1\r\nb\r\n*1\r\n$4\r\nEXEC\r\n"
    ]
    assert [conversation.read(line) for line in lines] == [b"before", said]
    conversation.close()
    assert connection.disconnected == 0
