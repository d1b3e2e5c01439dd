"""The clients of one event loop: for a single node, and for a cluster."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from redis import exceptions
from redis.asyncio import RedisCluster

from headrace.features.online.redis.cluster_client import ClusterSlots
from headrace.features.online.redis.node_client import ONE_NODE, SingleNode, all_replies
from headrace.features.online.redis.password_file import without_password_file
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
from headrace.features.online.redis.script import Transaction, pack_commands, reply_of, single_commands
from headrace.features.online.redis.sentinels import async_node_of
from headrace.features.online.redis.url import RESP, check_cluster, check_single, of_node

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.online.redis.store_options import CallLimits


class AsyncStoreClient(Protocol):
    """A :class:`~headrace.features.online.redis.node_client.StoreClient` for one event loop."""

    async def run(self, commands: Sequence[ShardCommand]) -> list[Any]:
        """Return the replies, in order: in one round trip if nothing fails. Raises the first error at the end."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


class _AsyncSteps:
    """Takes the steps of a call, and awaits each."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits, self._is_doubtful = limits, False

    async def run(self, commands: Sequence[ShardCommand]) -> list[Any]:
        """Send what failed again, for up to ``retry_s`` seconds. The event loop runs on between the attempts."""
        steps, found = call_steps(commands, self._limits.retry_s), None
        while True:
            try:
                step = steps.send(found)
            except StopIteration as end:
                return all_replies(end.value)
            found = await self._take(step)

    async def _take(self, step: CallStep) -> Any:
        match step:
            case SendStep(by_node):
                return await self._send(by_node)
            case ConnectStep():
                try:
                    return await self._places()
                except ERRORS as error:
                    return error
            case PauseStep(seconds, look_again):
                await asyncio.sleep(seconds)
                if look_again:
                    await self._look_again()
                return None
            case ForgetSlotsStep():
                self._is_doubtful = True
                return None

    async def _send(self, by_node: Mapping[Any, Sequence[Sequence[Any]]]) -> Mapping[Any, Sequence[Any]]:
        """Write to all nodes, then read from all: one round trip."""
        open_ = [(node, _AsyncExchange(self._lane(node)), lines) for node, lines in by_node.items()]
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                for _, conversation, lines in open_:
                    await conversation.write(lines)
                return {node: [await conversation.read(line) for line in lines] for node, conversation, lines in open_}
        except TimeoutError:
            return {node: [self._late()] * len(lines) for node, lines in by_node.items()}
        finally:
            for _, conversation, _ in open_:
                await conversation.close()

    def _late(self) -> exceptions.TimeoutError:
        return exceptions.TimeoutError(f"no answer within {self._limits.timeout_s:g} s")

    async def _places(self) -> Any:
        """Return the :class:`ShardNodes`, after connecting if necessary. Raises ERRORS."""
        raise NotImplementedError

    def _lane(self, node: Any) -> _AsyncConnections:
        """The connections to a node."""
        raise NotImplementedError

    async def _look_again(self) -> None:
        """Ask the cluster where the slots are. A single node has none."""


class _AsyncConnections(Protocol):
    """Connections to one node."""

    def take(self) -> Any:
        """Return an unused connection, which may not be connected yet. Raises MaxConnectionsError."""
        ...

    async def give(self, connection: Any) -> None:
        """Give back a connection that is not used any more."""
        ...


class _AsyncExchange:
    """One round with one node: commands, then their replies. If the connection breaks, its error is every reply."""

    def __init__(self, lane: _AsyncConnections) -> None:
        self._lane = lane
        self._connection: Any = None
        self._unread = 0
        self._broken: Exception | None = None

    async def write(self, lines: Sequence[Sequence[Any]]) -> None:
        """Send commands, each of some words."""
        try:
            self._connection = self._lane.take()
            single = single_commands(lines)
            self._unread = len(single)
            await self._connection.send_packed_command(pack_commands(single))
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            self._broken = error

    async def read(self, line: Sequence[Any]) -> Any:
        """Return the reply to the next command, or the error."""
        if isinstance(line, Transaction):
            return reply_of(await self._read(len(line.lines())))
        return (await self._read(1))[0]

    async def _read(self, number: int) -> list[Any]:
        """Return that many replies. There may be hundreds, so as little as possible is called for each."""
        replies: list[Any] = []
        while self._broken is None and len(replies) < number:
            try:
                while len(replies) < number:
                    replies.append(await self._connection.read_response())
            except exceptions.ResponseError as error:
                replies.append(error)
            except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
                self._broken = error
        self._unread -= len(replies)
        return replies if self._broken is None else [*replies, self._broken]

    async def close(self) -> None:
        """Give the connection back. If replies were not read, as in a cancelled task, it is disconnected first."""
        if self._connection is None:
            return
        if self._unread:
            await self._connection.disconnect(nowait=True)
        await self._lane.give(self._connection)


class AsyncNodeClient(_AsyncSteps):
    """A single Redis, or the primary that sentinels name."""

    def __init__(self, url: str, limits: CallLimits) -> None:
        super().__init__(limits)
        self._url, self._is_known = url, False
        # Any: redis-py's types tell neither replies from awaitables nor that keys may be bytes.
        self._redis: Any = async_node_of(url, **_options(limits))

    async def _places(self) -> SingleNode:
        if not self._is_known:
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    found = await self._redis.info("cluster")
            except exceptions.ResponseError:  # not allowed to ask
                found = {}
            except TimeoutError as error:
                raise self._late() from error
            check_single(self._url, found)
            self._is_known = True
        return ONE_NODE

    def _lane(self, node: Any) -> _AsyncConnections:  # noqa: ARG002 - there is one
        return _PooledConnections(self._redis.connection_pool)

    async def close(self) -> None:
        """Close redis-py's asynchronous client."""
        await self._redis.aclose()


class _PooledConnections:
    def __init__(self, pool: Any) -> None:
        self.take = pool.get_available_connection
        self.give = pool.release


class AsyncClusterClient(_AsyncSteps):
    """The masters of a Redis Cluster. Connects with the first command."""

    def __init__(self, url: str, limits: CallLimits) -> None:
        super().__init__(limits)
        self._url = url
        address, own = without_password_file(of_node(url))
        self._redis: Any = RedisCluster.from_url(address, require_full_coverage=False, **own, **_options(limits))

    async def _places(self) -> ClusterSlots:
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                await self._redis.initialize()
        except exceptions.RedisClusterException as error:
            check_cluster(self._url, error)
            raise
        except TimeoutError as error:
            raise self._late() from error
        if self._is_doubtful:
            self._is_doubtful = False
            await self._look_again()
        return ClusterSlots(self._redis)

    def _lane(self, node: Any) -> _AsyncConnections:
        return _ClusterNodeConnections(node)

    async def _look_again(self) -> None:
        with suppress(*ERRORS, TimeoutError):  # nobody answers: the next round tells
            async with asyncio.timeout(self._limits.timeout_s):
                await self._redis.nodes_manager.initialize()

    async def close(self) -> None:
        """Close redis-py's asynchronous client, with its connections to all nodes."""
        await self._redis.aclose()


class _ClusterNodeConnections:
    def __init__(self, node: Any) -> None:
        self.take, self._release = node.acquire_connection, node.release

    async def give(self, connection: Any) -> None:
        if connection.should_reconnect():  # its node may have left the cluster: nothing else closes it
            await connection.disconnect(nowait=True)
        self._release(connection)


def _options(limits: CallLimits) -> dict[str, Any]:
    """The options of redis-py's client. It has no timeout of its own: timing a whole round costs less."""
    bound = {} if limits.pool_size is None else {"max_connections": limits.pool_size}
    return {"socket_timeout": None, "protocol": RESP, **bound}


def async_client(url: str, limits: CallLimits) -> AsyncStoreClient:
    """Return the client that a URL needs, for the running event loop."""
    client = AsyncNodeClient if of_node(url) == url else AsyncClusterClient
    return client(url, limits)
