"""What a benchmark stands on: real Kafka and Valkey, filled topics, and the processes that are measured."""

from __future__ import annotations

import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
from redis import Redis
from rich.console import Console

from headrace import LocalServices
from headrace.app.local.process import GuardedProcess

from .worker import Moment, Task
from .workload import fill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .workload import Workload

PATIENCE_S = 120.0
TAIL_LINES, TAIL_WIDTH = 20, 400
console = Console(width=None if sys.stdout.isatty() else 140)


@dataclass
class Rig:
    """Services on one machine. Topics are filled once; what workers made is dropped by :meth:`reset`."""

    services: LocalServices
    folder: Path
    _filled: set[str] = field(default_factory=set)

    @property
    def servers(self) -> str:
        """Kafka's address."""
        return self.services.bootstrap_servers

    @property
    def redis_url(self) -> str:
        """Valkey's address."""
        return self.services.redis_url

    def fill(self, workload: Workload) -> None:
        """Put the workload on its topic unless it is there."""
        if workload.topic not in self._filled:
            with console.status(f"filling {workload.topic} with {workload.events:,} events"):
                fill(self.servers, workload)
            self._filled.add(workload.topic)

    def reset(self) -> None:
        """Empty Valkey."""
        redis: Any = Redis.from_url(self.redis_url)
        redis.flushall()
        redis.close()

    def cpu(self) -> dict[str, float]:
        """CPU seconds of the services so far."""
        pids = {"broker": self.services.kafka.pid, "redis": self.services.valkey.pid}
        return {name: cpu_seconds(pid) for name, pid in pids.items() if pid is not None}

    def task(self, kind: Any, workload: Workload, **more: Any) -> Task:
        """A task on this rig, with a namespace and folders of its own unless they are given."""
        name = f"bench{uuid.uuid4().hex[:10]}"
        own = {"namespace": name, "event_log": str(self.folder / name / "events"), **more}
        return Task(
            kind=kind,
            servers=self.servers,
            redis_url=self.redis_url,
            folder=str(self.folder / name),
            topic=workload.topic,
            events=workload.events,
            partitions=workload.partitions,
            **own,
        )


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    """Start the services; they end with the context."""
    with console.status("starting Kafka and Valkey"):
        services = LocalServices(folder, redis_save="").start()
    try:
        yield Rig(services, folder)
    finally:
        services.stop()


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process so far, in user and system mode."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


class Child:
    """A measured process; it dies with this one."""

    def __init__(self, task: Any, *, module: str = "benchmarks.worker", python: Path | None = None) -> None:
        """``task`` is the module's argument, as JSON; it names the process's own ``folder``."""
        self.folder = Path(task.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log = self.folder / f"{module}.log"
        argument = msgspec.json.encode(task).decode()
        self._process = GuardedProcess(
            [str(python or sys.executable), "-m", module, argument], self._log, grace_seconds=30
        )

    def reached(self, name: str, *, patience_s: float = PATIENCE_S) -> Moment:
        """Wait for a reported point. RuntimeError with its log if the process ends first or takes too long."""
        path, deadline = self.folder / name, time.monotonic() + patience_s
        while not path.exists():
            if not self._process.running and not path.exists():
                raise RuntimeError(f"the measured process has ended: {self._tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {name!r} in {patience_s:.0f} s: {self._tail()}")
            time.sleep(0.002)
        return msgspec.json.decode(path.read_bytes(), type=Moment)

    def check(self) -> None:
        """RuntimeError with the end of its log if it does not run any more."""
        if not self._process.running:
            raise RuntimeError(f"the measured process has ended: {self._tail()}")

    def cpu(self) -> float:
        """CPU seconds so far."""
        return cpu_seconds(self._process.pid)

    def peak_mib(self) -> int | None:
        """The most memory that it ever had, in MiB; None where the system does not tell."""
        try:
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        except OSError:
            return None
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:"))

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._process.stop()

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(line[:TAIL_WIDTH] for line in lines)
