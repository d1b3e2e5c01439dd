"""How commands get to Redis: a port, and its adapter for one node.

The one for a cluster is in redis_cluster.py, those to be awaited are in async_link.py.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from redis import Redis, exceptions

from headrace.features.online.redis.connections import Exchange, NodeConnections
from headrace.features.online.redis.retrying_call import (
    ERRORS,
    CallLimits,
    CallStep,
    ConnectStep,
    ForgetSlotsStep,
    PauseStep,
    SendStep,
    ShardCommand,
    call_steps,
)
from headrace.features.online.redis.url import RESP, check_single

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class StoreClient(Protocol):
    """Where the commands of one store go. Safe to share between threads. Methods raise what redis-py raises.

    And SettingsError where the server is not of the kind that the URL says.
    """

    shards: int

    @property
    def redis(self) -> Any:
        """redis-py's client."""
        ...

    def run(self, commands: Sequence[ShardCommand]) -> list[Any]:
        """The replies, in order; one round trip if all goes well. Raises the first error once all are answered."""
        ...

    def scan(self, position: int, pattern: bytes, count: int) -> tuple[int, Sequence[bytes]]:
        """Some more keys of the pattern, and the next position; 0 begins and ends a round."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...


class BlockingClient:
    """Goes the steps of a call, and waits."""

    def __init__(self, patience: CallLimits) -> None:
        self._patience, self._is_doubtful = patience, False

    def run(self, commands: Sequence[ShardCommand]) -> list[Any]:
        """See the port."""
        steps, found = call_steps(commands, self._patience.retry_s), None
        while True:
            try:
                step = steps.send(found)
            except StopIteration as end:
                return whole(end.value)
            found = self._take(step)

    def _take(self, step: CallStep) -> Any:
        match step:
            case SendStep(by_node):
                return self._send(by_node)
            case ConnectStep():
                try:
                    return self._places()
                except ERRORS as error:
                    return error
            case PauseStep(seconds, look_again):
                time.sleep(seconds)
                if look_again:
                    self._look_again()
                return None
            case ForgetSlotsStep():
                self._is_doubtful = True
                return None

    def _send(self, by_node: Mapping[Any, Sequence[Sequence[Any]]]) -> Mapping[Any, Sequence[Any]]:
        """Write to all nodes, then read from all: one round trip."""
        open_ = [(node, Exchange(self._lane(node)), lines) for node, lines in by_node.items()]
        try:
            for _, conversation, lines in open_:
                conversation.write(lines)
            return {node: [conversation.read(line) for line in lines] for node, conversation, lines in open_}
        finally:
            for _, conversation, _ in open_:
                conversation.close()

    def _places(self) -> Any:
        """Connect if need be; see Places. Raises ERRORS."""
        raise NotImplementedError

    def _lane(self, node: Any) -> NodeConnections:
        """The connections to a node."""
        raise NotImplementedError

    def _look_again(self) -> None:
        """Find out where the slots are."""


class NodeClient(BlockingClient):
    """A single Redis."""

    shards = 1

    def __init__(self, url: str, patience: CallLimits, pool_size: int | None = None) -> None:
        super().__init__(patience)
        self._url, self._is_known = url, False
        # Any: redis-py's types tell neither replies from awaitables nor that keys may be bytes.
        self.redis: Any = Redis.from_url(url, **options(patience, pool_size))
        self._own = NodeConnections(self.redis.connection_pool, keeps=pool_size is None)

    def _places(self) -> SingleNode:
        """A plain URL would find one shard in a cluster where its other clients have 64."""
        if not self._is_known:
            try:
                found = self.redis.info("cluster")
            except exceptions.ResponseError:  # not allowed to ask
                found = {}
            check_single(self._url, found)
            self._is_known = True
        return ONE_NODE

    def _lane(self, node: Any) -> NodeConnections:  # noqa: ARG002 - there is one
        return self._own

    def scan(self, position: int, pattern: bytes, count: int) -> tuple[int, Sequence[bytes]]:
        """See the port."""
        ((cursor, keys),) = self.run([(0, ("SCAN", position, "MATCH", pattern, "COUNT", count))])
        return int(cursor), keys

    def close(self) -> None:
        """See the port."""
        self.redis.close()


class SingleNode:
    """The places of a single Redis, which sends nobody elsewhere."""

    def node(self, shard: int) -> Any:  # noqa: ARG002 - all are there
        """See the port."""
        return self

    def moved(self, error: exceptions.MovedError) -> None:
        """See the port."""
        raise error

    def asked(self, error: exceptions.AskError) -> Any:
        """See the port."""
        raise error


ONE_NODE = SingleNode()


def options(patience: CallLimits, pool_size: int | None) -> dict[str, Any]:
    """What redis-py is told: how long it waits, what it speaks, and how many connections there may be to a node."""
    told = {"socket_timeout": patience.timeout_s, "socket_connect_timeout": patience.timeout_s, "protocol": RESP}
    return told if pool_size is None else {**told, "max_connections": pool_size}


def whole(replies: list[Any]) -> list[Any]:
    """The replies. Raises the first that is an error."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
