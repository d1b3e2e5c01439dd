"""The port that sends commands to Redis, and its adapter for a single node.

The adapter for a cluster is in cluster_client.py. Both adapters for asyncio are in async_clients.py.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from redis import exceptions

from headrace.features.online.redis.connections import Exchange, NodeConnections
from headrace.features.online.redis.retrying_call import (
    ERRORS,
    CallStep,
    ConnectStep,
    ForgetSlotsStep,
    PauseStep,
    SendStep,
    ShardCommand,
    call_steps,
)
from headrace.features.online.redis.sentinels import node_of
from headrace.features.online.redis.url import RESP, check_single

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.online.redis.store_options import CallLimits


class StoreClient(Protocol):
    """Sends the commands of one store. Safe to share between threads.

    Methods raise the errors of redis-py, and SettingsError if the server is not of the kind that the URL says.
    """

    shards: int

    @property
    def redis(self) -> Any:
        """redis-py's client."""
        ...

    def run(self, commands: Sequence[ShardCommand]) -> list[Any]:
        """Return the replies, in order: in one round trip if nothing fails. Raises the first error at the end."""
        ...

    def scan(self, position: int, pattern: bytes, count: int) -> tuple[int, Sequence[bytes]]:
        """Return the next position and some more keys of the pattern. Position 0 begins and ends a round."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...


class BlockingClient:
    """Takes the steps of a call, and waits for each."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits, self._is_doubtful = limits, False

    def run(self, commands: Sequence[ShardCommand]) -> list[Any]:
        """Send what failed again, for up to ``retry_s`` seconds. Sleep between the attempts."""
        steps, found = call_steps(commands, self._limits.retry_s), None
        while True:
            try:
                step = steps.send(found)
            except StopIteration as end:
                return all_replies(end.value)
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
        """Return the :class:`ShardNodes`, after connecting if necessary. Raises ERRORS."""
        raise NotImplementedError

    def _lane(self, node: Any) -> NodeConnections:
        """Return the connections to a node."""
        raise NotImplementedError

    def _look_again(self) -> None:
        """Ask the cluster where the slots are. A single node has none."""


class NodeClient(BlockingClient):
    """A single Redis, or the primary that sentinels name."""

    shards = 1

    def __init__(self, url: str, limits: CallLimits) -> None:
        super().__init__(limits)
        self._url, self._is_known = url, False
        # Any: redis-py's types tell neither replies from awaitables nor that keys may be bytes.
        self.redis: Any = node_of(url, **client_options(limits))
        self._own = NodeConnections(self.redis.connection_pool, keeps=limits.pool_size is None)

    def _places(self) -> SingleNode:
        """Check that this is not a node of a cluster, where a plain URL would find one shard instead of 64."""
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
        """Send one SCAN. The position is the cursor of Redis."""
        ((cursor, keys),) = self.run([(0, ("SCAN", position, "MATCH", pattern, "COUNT", count))])
        return int(cursor), keys

    def close(self) -> None:
        """Close redis-py's client."""
        self.redis.close()


class SingleNode:
    """The :class:`ShardNodes` of a single Redis: it has everything."""

    def node(self, shard: int) -> Any:  # noqa: ARG002 - all are there
        """Return this object, which stands for the one node."""
        return self

    def moved(self, error: exceptions.MovedError) -> None:
        """Raise the error: a single node has no slots that move."""
        raise error

    def asked(self, error: exceptions.AskError) -> Any:
        """Raise the error: there is no other node to ask."""
        raise error


ONE_NODE = SingleNode()


def client_options(limits: CallLimits) -> dict[str, Any]:
    """The options of redis-py's client: how long it waits, its protocol, and its connections to one node."""
    waits = {"socket_timeout": limits.timeout_s, "socket_connect_timeout": limits.timeout_s, "protocol": RESP}
    return waits if limits.pool_size is None else {**waits, "max_connections": limits.pool_size}


def all_replies(replies: list[Any]) -> list[Any]:
    """Return the replies. Raises the first error among them."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
