"""A real cluster of three masters on this machine, with or without a replica of each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psutil
from redis import Redis
from redis.crc import key_slot

from headrace.app.local.process import free_ports
from headrace.app.local.valkey import LocalValkey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SLOTS = 16_384


class ClusterNode(LocalValkey):
    """A master, or a replica."""

    def __init__(self, folder: Path, port: int, bus_port: int) -> None:
        super().__init__(folder, port=port, save="")
        self.bus_port = bus_port
        self.redis: Any = Redis(host="127.0.0.1", port=port)

    def _command(self) -> list[str]:
        options = {"cluster-enabled": "yes", "cluster-port": str(self.bus_port), "cluster-node-timeout": "2000"}
        return [*super()._command(), *(word for key, value in options.items() for word in (f"--{key}", value))]

    def ask(self, *words: object) -> Any:
        """Send a CLUSTER command."""
        return self.redis.execute_command("CLUSTER", *words)

    @property
    def id(self) -> str:
        """Its name in the cluster."""
        found: bytes = self.ask("MYID")
        return found.decode()


class RedisCluster:
    """Started as a whole, each master with a third of the slots. The nth of the ``replicas`` is the nth master's."""

    def __init__(self, folder: Path, masters: int = 3, *, has_replicas: bool = False) -> None:
        count = 2 * masters if has_replicas else masters
        ports = free_ports(2 * count)
        made = [
            ClusterNode(folder / f"node-{n}", *pair) for n, pair in enumerate(zip(ports[::2], ports[1::2], strict=True))
        ]
        self.nodes, self.replicas = made[:masters], made[masters:]

    @property
    def url(self) -> str:
        """What headrace connects to."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def start(self) -> None:
        """Until it takes commands."""
        for node in self._all():
            node.launch()
        for node in self._all():
            node.await_ready()
        for n, node in enumerate(self.nodes):
            bounds = [place * _SLOTS // len(self.nodes) for place in (n, n + 1)]
            node.ask("ADDSLOTSRANGE", bounds[0], bounds[1] - 1)
            node.ask("SET-CONFIG-EPOCH", n + 1)
        for node in self._all()[1:]:
            self.nodes[0].ask("MEET", "127.0.0.1", node.port, node.bus_port)
        self.await_agreement()
        for replica, node in zip(self.replicas, self.nodes, strict=False):
            replica.ask("REPLICATE", node.id)
        self._await(
            lambda: all(each.redis.info("replication").get("master_link_status") == "up" for each in self.replicas)
        )

    def _all(self) -> list[ClusterNode]:
        return [*self.nodes, *self.replicas]

    def fail_over(self, number: int) -> None:
        """Kill a master whose replica lags: the replica goes on with what it has, and becomes the master."""
        self.nodes[number].kill()
        psutil.Process(self.replicas[number].pid).resume()
        self._await(lambda: self.replicas[number].redis.info("replication")["role"] == "master")

    def hold_replica(self, number: int) -> None:
        """From now on a replica lags."""
        psutil.Process(self.replicas[number].pid).suspend()

    def stop(self) -> None:
        """End all."""
        for node in self._all():
            node.redis.close()
            node.stop()

    def await_agreement(self) -> None:
        """Until every node finds the whole cluster in order, and the same owner of each slot."""
        self._await(lambda: all(self._is_well(node) for node in self.nodes))
        self._await(lambda: len({str(sorted(node.ask("SLOTS"))) for node in self.nodes}) == 1)

    def _is_well(self, node: ClusterNode) -> bool:
        found = node.redis.cluster("INFO")
        return (found["cluster_state"], int(found["cluster_known_nodes"])) == ("ok", len(self._all()))

    @staticmethod
    def _await(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def owner(self, slot: int) -> int:
        """The number of the node that has a slot."""
        ports = [int(part[2][1]) for part in self.nodes[0].ask("SLOTS") if part[0] <= slot <= part[1]]
        return [node.port for node in self.nodes].index(ports[0])

    def migrate(self, slot: int, to: int, *, pause_s: float = 0.0) -> int:
        """Move a slot key by key, as resharding tools do; how many keys. Half way it rests for ``pause_s``."""
        source, target = self.nodes[self.owner(slot)], self.nodes[to]
        target.ask("SETSLOT", slot, "IMPORTING", source.id)
        source.ask("SETSLOT", slot, "MIGRATING", target.id)
        keys = source.ask("GETKEYSINSLOT", slot, 100_000)
        for n, key in enumerate(keys):
            if n == len(keys) // 2:
                time.sleep(pause_s)
            source.redis.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)
        while rest := source.ask("GETKEYSINSLOT", slot, 100):  # what was written meanwhile
            for key in rest:
                source.redis.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5_000)
        for node in (target, source, *self.nodes):
            node.ask("SETSLOT", slot, "NODE", target.id)
        return len(keys)

    def migrate_at_once(self, slots: list[int], to: int) -> None:
        """Move slots by the server's own atomic migration, and wait until they are there."""
        source, target = self.nodes[self.owner(slots[0])], self.nodes[to]
        ranges = [word for slot in slots for word in (slot, slot)]
        source.ask("MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", target.id)
        self._await(lambda: all(self.owner(slot) == to for slot in slots))


def slot_of(shard: int) -> int:
    """The slot that a shard's keys are in."""
    return key_slot(b"{%d}" % shard)
