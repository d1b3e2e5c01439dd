"""A real primary with a replica, and a sentinel that watches them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
from redis import Redis, RedisError

from headrace.app.local.process import LocalService, free_ports, listens
from headrace.app.local.valkey import LocalValkey, server_binary
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "features"


class _Node(LocalValkey):
    def __init__(self, folder: Path, of: _Node | None = None) -> None:
        super().__init__(folder, save="")
        self._of = of

    def _command(self) -> list[str]:
        return [*super()._command(), *([] if self._of is None else ["--replicaof", "127.0.0.1", str(self._of.port)])]

    def ask(self, section: str) -> Any:
        """A section of its INFO."""
        with Redis(port=self.port, socket_timeout=5) as redis:
            found: Any = redis.info(section)
            return found


class _Sentinel(LocalService):
    name = "sentinel"

    def __init__(self, folder: Path, primary: _Node) -> None:
        super().__init__(folder)
        (self.port,) = free_ports(1)
        self._primary = primary

    def _command(self) -> list[str]:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 6000",
        ]
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        return [server_binary(), "sentinel.conf", "--sentinel"]

    def _ready(self) -> bool:
        return listens(self.port)


class WatchedRedis:
    """The three of them."""

    def __init__(self, folder: Path) -> None:
        self.primary = _Node(folder / "primary")
        self.replica = _Node(folder / "replica", self.primary)
        self.sentinel = _Sentinel(folder / "sentinel", self.primary)

    @property
    def url(self) -> str:
        """What headrace connects to."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}"

    def start(self) -> None:
        """Until the sentinel knows the replica, and the replica follows."""
        for service in (self.primary, self.replica, self.sentinel):
            service.launch()
            service.await_ready()
        until(lambda: self.replica.ask("replication").get("master_link_status") == "up", 20)
        until(lambda: self._replicas() == 1, 20)

    def _replicas(self) -> int:
        with Redis(port=self.sentinel.port, socket_timeout=5) as redis:
            found: Any = redis.sentinel_master(SERVICE)
            return int(found["num-slaves"])

    def hold_replica(self) -> None:
        """From now on the replica lags."""
        psutil.Process(self.replica.pid).suspend()

    def lose_primary(self) -> None:
        """Kill the primary. The replica goes on with what it has, and becomes the primary."""
        self.primary.kill()
        psutil.Process(self.replica.pid).resume()
        until(self._is_promoted, 60, self.sentinel.log.read_text)

    def _is_promoted(self) -> bool:
        try:
            return str(self.replica.ask("replication")["role"]) == "master"
        except RedisError:
            return False

    def stop(self) -> None:
        """End all."""
        for service in (self.sentinel, self.replica, self.primary):
            service.stop()
