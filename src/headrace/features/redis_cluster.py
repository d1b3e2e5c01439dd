"""The link to a Redis Cluster: redis-py knows where the slots are, the commands go to all nodes at once.

redis-py's own pipeline sends what failed again one by one, each with seconds of waiting; here all that failed goes
again together, within a bound. Whatever is sent again must be safe to send again: all that the online store sends is.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from redis import RedisCluster, exceptions
from redis.crc import key_slot

from headrace.bus.address import redacted
from headrace.errors import SettingsError
from headrace.features.redis_link import Command, Script, of_node, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CLUSTER_SHARDS = 64
_PATIENCE_S = 1.0
"""How long a slot that moves, or a node that does not answer, is tried again."""
_WAIT_S = 0.01
_NODES = 1_024
"""More than a cluster may have: a scan's position is ``cursor · _NODES + node``."""
_UNREACHABLE = (
    exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ClusterDownError, exceptions.ReadOnlyError,
    exceptions.RedisClusterException,
)  # fmt: skip
_AGAIN = (*_UNREACHABLE, exceptions.AskError, exceptions.TryAgainError, exceptions.NoScriptError)


class ClusterLink:
    """The masters of a Redis Cluster. Connects with the first command."""

    shards = CLUSTER_SHARDS

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._slots = [key_slot(b"{%d}" % shard) for shard in range(CLUSTER_SHARDS)]
        self._lock = threading.Lock()
        self._connected: Any = None  # Any: redis-py's types tell neither replies from awaitables nor bytes from str

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """See the port."""
        replies: list[Any] = [None] * len(commands)
        asked: dict[int, Any] = {}  # what is to be asked of another node this once
        until = time.monotonic() + _PATIENCE_S
        todo = list(range(len(commands)))
        while todo:
            nodes = {n: asked.get(n) or self._node(self._slots[commands[n][0]]) for n in todo}
            self._send(commands, nodes, set(asked), replies)
            todo = [n for n in todo if isinstance(replies[n], _AGAIN)]
            if todo and time.monotonic() > until:
                break
            asked = self._learn(commands, {n: nodes[n] for n in todo}, replies)
        return whole(replies)

    # -- one round --------------------------------------------------------------------------------------------------

    def _send(self, commands: Sequence[Command], nodes: dict[int, Any], asking: set[int], replies: list[Any]) -> None:
        """Write to all nodes, then read from all: one round trip."""
        by_node: dict[Any, list[int]] = defaultdict(list)
        for n, node in nodes.items():
            by_node[node].append(n)
        open_ = [(_Conversation(self.redis.get_redis_connection(node)), own) for node, own in by_node.items()]
        try:
            for conversation, own in open_:
                conversation.write([(commands[n][1], n in asking) for n in own])
            for conversation, own in open_:
                for n in own:
                    replies[n] = conversation.read(is_asked=n in asking)
        finally:
            for conversation, _ in open_:
                conversation.close()

    def _learn(self, commands: Sequence[Command], nodes: dict[int, Any], replies: Sequence[Any]) -> dict[int, Any]:
        """Make of the errors what the next round needs; the nodes to be asked out of turn."""
        asked: dict[int, Any] = {}
        unreachable = False
        for n, node in nodes.items():
            match replies[n]:
                case exceptions.MovedError() as moved:
                    self.redis.nodes_manager.move_slot(moved)
                case exceptions.AskError() as ask:
                    asked[n] = self.redis.get_node(ask.host, ask.port)
                    unreachable |= asked[n] is None
                case exceptions.NoScriptError():
                    self._teach(node, Script.text(commands[n][1]))
                case exceptions.TryAgainError():
                    pass
                case _:
                    unreachable = True
        if unreachable:
            self._look_again()
        if any(isinstance(replies[n], (*_UNREACHABLE, exceptions.TryAgainError)) for n in nodes):
            time.sleep(_WAIT_S)
        return asked

    def _teach(self, node: Any, text: str) -> None:
        try:
            self.redis.get_redis_connection(node).script_load(text)
        except _UNREACHABLE:
            self._look_again()

    # -- where the slots are ----------------------------------------------------------------------------------------

    @property
    def redis(self) -> Any:
        """See the port."""
        with self._lock:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> Any:
        try:
            return RedisCluster.from_url(
                of_node(self._url),
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                require_full_coverage=False,
            )
        except exceptions.RedisClusterException as error:
            if "Cluster mode is not enabled" not in str(error):
                raise
            message = f"{redacted(self._url)} is a single Redis, no cluster: say redis:// (or rediss://) instead"
            raise SettingsError(message) from error

    def _node(self, slot: int) -> Any:
        try:
            return self.redis.nodes_manager.get_node_from_slot(slot)
        except exceptions.SlotNotCoveredError:
            self._look_again()
            raise

    def _look_again(self) -> None:
        try:
            self.redis.nodes_manager.initialize()
        except exceptions.RedisClusterException:  # nobody answers: the next round tells
            return

    # -- all keys ---------------------------------------------------------------------------------------------------

    def scan(self, position: int, pattern: bytes, count: int) -> tuple[int, Sequence[bytes]]:
        """See the port. One master after the other; keys that move meanwhile are found in the next round."""
        masters = sorted(self.redis.get_primaries(), key=lambda node: str(node.name))
        cursor, place = divmod(position, _NODES)
        if place >= len(masters):  # there are fewer than before
            return 0, []
        try:
            redis = self.redis.get_redis_connection(masters[place])
            cursor, keys = redis.scan(cursor, match=pattern, count=count)
        except _UNREACHABLE:
            self._look_again()
            raise
        if cursor == 0:
            place = (place + 1) % len(masters)
        return cursor * _NODES + place, keys

    def close(self) -> None:
        """See the port."""
        with self._lock:
            if self._connected is not None:
                self._connected.close()


class _Conversation:
    """One round with one node: what is written, then as many replies. A connection that breaks is all their answer."""

    def __init__(self, redis: Any) -> None:
        self._pool = redis.connection_pool
        self._connection: Any = None
        self._broken: Exception | None = None
        self._unread = 0

    def write(self, commands: Iterable[tuple[Sequence[Any], bool]]) -> None:
        words = [
            part for command, is_asked in commands for part in ((("ASKING",), command) if is_asked else (command,))
        ]
        try:
            self._connection = self._pool.get_connection()
            self._unread = len(words)
            self._connection.send_packed_command(self._connection.pack_commands(words))
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            self._broken = error

    def read(self, *, is_asked: bool) -> Any:
        if is_asked:
            self._read()
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
        """A connection with replies that nobody read is of no more use."""
        if self._connection is None:
            return
        if self._unread:
            self._connection.disconnect()
        self._pool.release(self._connection)
