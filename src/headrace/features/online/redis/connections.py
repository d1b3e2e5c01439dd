"""Connections to one node, and one exchange of commands and replies over a connection."""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis import exceptions

from headrace.features.online.redis.script import Transaction, pack_commands, reply_of, single_commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import ConnectionPool

_FRESH_S = 1.0


class NodeConnections:
    """The connections of a pool; the one that was used last is used next. Safe to share between threads.

    The pool's own checks take longer than a small answer. A forked process begins without connections. ``keeps`` is
    False for a pool with a bound: it needs every connection back.
    """

    def __init__(self, pool: ConnectionPool, *, keeps: bool = True) -> None:
        self.pool, self._keeps = pool, keeps
        self._idle: list[tuple[Any, float]] = []
        self._process = os.getpid()

    def take(self) -> Any:
        """Return an unused connection. Raises ConnectionError and TimeoutError."""
        if self._process != os.getpid():
            self._idle, self._process = [], os.getpid()
        try:
            connection, since_s = self._idle.pop()
        except IndexError:
            return self.pool.get_connection()
        if time.monotonic() - since_s > _FRESH_S and _is_stale(connection):
            connection.disconnect()  # sending connects it again
        return connection

    def give(self, connection: Any, *, is_open: bool = True) -> None:
        """Give back a connection that is not used any more."""
        if self._keeps:
            since_s = time.monotonic() if is_open else math.inf  # a closed one needs no check: sending opens it
            self._idle.append((connection, since_s))
        else:
            self.pool.release(connection)

    def clear(self) -> None:
        """Give all unused connections to the pool."""
        with suppress(IndexError):  # one by one, because other threads give and take meanwhile
            while True:
                self.pool.release(self._idle.pop()[0])


def _is_stale(connection: Any) -> bool:
    """Return whether the connection has something to read: this means that the other side has closed it."""
    try:
        return bool(connection.can_read())
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):
        return True


class Exchange:
    """One round with one node: commands, then their replies. If the connection breaks, its error is every reply."""

    def __init__(self, lane: NodeConnections) -> None:
        self._lane = lane
        self._connection: Any = None
        self._unread = 0
        self._broken: Exception | None = None

    def write(self, lines: Sequence[Sequence[Any]]) -> None:
        """Send commands, each of some words."""
        try:
            self._connection = self._lane.take()
            single = single_commands(lines)
            self._unread = len(single)
            is_look_up = len(single) > len(lines)  # there is a transaction
            pieces = [pack_commands(single)] if is_look_up else self._connection.pack_commands(single)
            self._connection.send_packed_command(pieces)
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            self._broken = error

    def read(self, line: Sequence[Any] = ()) -> Any:
        """Return the reply to the next command, or the error."""
        if isinstance(line, Transaction):
            return reply_of([self._read() for _ in line.lines()])
        return self._read()

    def _read(self) -> Any:
        if self._broken is not None:
            return self._broken
        try:
            reply = self._connection.read_response()
        except exceptions.ResponseError as error:
            reply = error
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            self._broken = error
            return error
        self._unread -= 1
        return reply

    def close(self) -> None:
        """Give the connection back. If replies were not read, it is disconnected first."""
        if self._connection is None:
            return
        if self._unread:
            self._connection.disconnect()
        self._lane.give(self._connection, is_open=not self._unread)
