"""The client of a Redis Cluster: redis-py knows where the slots are, the commands go to all nodes at once.

redis-py's own pipeline repeats failed commands one by one, each after seconds of waiting.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis import RedisCluster, exceptions
from redis.crc import key_slot

from headrace.features.online.redis.connections import NodeConnections
from headrace.features.online.redis.node_client import BlockingClient, client_options
from headrace.features.online.redis.password_file import without_password_file
from headrace.features.online.redis.retrying_call import ERRORS
from headrace.features.online.redis.url import check_cluster, of_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import ConnectionPool

    from headrace.features.online.redis.store_options import CallLimits

CLUSTER_SHARDS = 64
_SLOTS = [key_slot(b"{%d}" % shard) for shard in range(CLUSTER_SHARDS)]
_NOT_COVERED: Any = exceptions.SlotNotCoveredError  # redis-py has no types for it
_NODES = 1_024
"""More than a cluster may have: a scan's position is ``cursor · _NODES + node``."""


class ClusterSlots:
    """The nodes of a cluster's shards, from the client of redis-py, which may be an asynchronous one."""

    def __init__(self, redis: Any) -> None:
        self._nodes = redis.nodes_manager

    def node(self, shard: int) -> Any:
        """Return the node that has the shard's slot in redis-py's map of slots."""
        try:
            node = self._nodes.get_node_from_slot(_SLOTS[shard])
        except KeyError as error:  # the asynchronous one says so
            message = f"no node of the cluster has slot {_SLOTS[shard]}"
            raise _NOT_COVERED(message) from error
        return self._nodes.nodes_cache.get(node.name, node)  # after a new look it may know the node twice

    def moved(self, error: exceptions.MovedError) -> None:
        """Write the slot's new node into redis-py's map. A slot that had no node waits for the next look."""
        with suppress(KeyError):  # for a slot that no node had: the next look finds it
            self._nodes.move_slot(error)

    def asked(self, error: exceptions.AskError) -> Any:
        """Return redis-py's node with the address of the reply."""
        return self._nodes.get_node(error.host, error.port)


class ClusterClient(BlockingClient):
    """The masters of a Redis Cluster. Connects with the first command."""

    shards = CLUSTER_SHARDS

    def __init__(self, url: str, limits: CallLimits) -> None:
        super().__init__(limits)
        self._url = url
        self._lock = threading.Lock()
        self._lanes: dict[ConnectionPool, NodeConnections] = {}
        self._connected: Any = None  # Any: redis-py's types tell neither replies from awaitables nor bytes from str

    @property
    def redis(self) -> Any:
        """redis-py's client. It is connected when it is first needed."""
        with self._lock:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> Any:
        try:
            address, own = without_password_file(of_node(self._url))
            return RedisCluster.from_url(address, require_full_coverage=False, **own, **client_options(self._limits))
        except exceptions.RedisClusterException as error:
            check_cluster(self._url, error)
            raise

    def _places(self) -> ClusterSlots:
        places = ClusterSlots(self.redis)
        if self._is_doubtful:
            self._is_doubtful = False
            self._look_again()
        return places

    def _lane(self, node: Any) -> NodeConnections:
        pool = self.redis.get_redis_connection(node).connection_pool
        lane = self._lanes.get(pool)
        return (
            self._lanes.setdefault(pool, NodeConnections(pool, keeps=self._limits.pool_size is None))
            if lane is None
            else lane
        )

    def _look_again(self) -> None:
        for lane in list(self._lanes.values()):
            lane.clear()
        try:
            self.redis.nodes_manager.initialize()
        except ERRORS:  # no node answers: the next round raises it
            return

    def scan(self, position: int, pattern: bytes, count: int) -> tuple[int, Sequence[bytes]]:
        """Scan one master after the other. A key that moves meanwhile is found in the next round."""
        masters = sorted(self.redis.get_primaries(), key=lambda node: str(node.name))
        cursor, place = divmod(position, _NODES)
        if place >= len(masters):  # there are fewer than before
            return 0, []
        try:
            redis = self.redis.get_redis_connection(masters[place])
            cursor, keys = redis.scan(cursor, match=pattern, count=count)
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            self._look_again()
            raise
        if cursor == 0:
            place = (place + 1) % len(masters)
        return cursor * _NODES + place, keys

    def close(self) -> None:
        """Close redis-py's client, if it was ever connected."""
        with self._lock:
            if self._connected is not None:
                self._connected.close()
