"""A worker's data plane in a process of its own, that a test may kill, stop, or let die at a named step."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.base.failpoints import arm, failpoint
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.worker import publish_definitions
from tests.support.crash.definitions import service, users
from tests.support.processes import end_with_the_test_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.connection import Connection

    from headrace.bus.source_partition import SourcePartition
    from headrace.features.definitions.service import FeatureService
    from headrace.features.definitions.view import FeatureView
    from headrace.features.online.cursor import Cursor

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["tests.support.crash.worker", "deltalake", "pyarrow.dataset", "redis", "confluent_kafka.admin"]
)
_LOCK = threading.Lock()  # two threads may not ask for the same exit code at once


@dataclass(frozen=True)
class Setting:
    """What a worker process is given. ``output``: the file that it writes its messages to."""

    bootstrap_servers: str
    redis_url: str
    event_log: str
    namespace: str
    output: str
    group: str = ""
    failpoint: str | None = None
    batch_rows: int = 500
    flush_s: float = 0.2
    catch_up_rows: int = 2_500
    environment: Mapping[str, str] = field(default_factory=dict)


class Store(RedisOnlineStore):
    """With named steps around a take-over."""

    def acquire(self, view: str, source: SourcePartition, owner: bytes, partitions: int) -> Sequence[Cursor | None]:
        failpoint("before-acquire")
        taken = super().acquire(view, source, owner, partitions)
        failpoint("after-acquire")
        return taken


def work(setting: Setting, orders: Connection) -> None:
    """Run a worker of the payments until SIGTERM or death."""
    work_on(setting, orders, users(setting.namespace), service(setting.namespace))


def work_on(setting: Setting, orders: Connection, view: FeatureView, of_view: FeatureService) -> None:
    """Run a worker of one view, with its service, until SIGTERM or death."""
    end_with_the_test_run()
    os.environ.update(setting.environment)
    arm(setting.failpoint)
    write_to(setting.output)
    obey(orders)
    store = Store(setting.redis_url, setting.namespace)
    plane = DataPlane(
        PlaneConfig(
            setting.bootstrap_servers,
            group=setting.group,
            worker=uuid.uuid4().hex,
            batch_rows=setting.batch_rows,
            flush_s=setting.flush_s,
            catch_up_rows=setting.catch_up_rows,
        ),
        view.streams,
        FixedViews([view.spec], publish=lambda: publish_definitions(store, [view], [of_view])),
        store,
        EventLog(setting.event_log),
    )
    signal.signal(signal.SIGTERM, lambda *_: plane.stop())
    plane.run()


def write_to(output: str) -> None:
    """Let this process write its messages to a file."""
    with Path(output).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def obey(orders: Connection) -> None:
    """Arm the failpoints that are asked for while it runs."""
    threading.Thread(target=_obey, args=(orders,), daemon=True).start()


def _obey(orders: Connection) -> None:
    with contextlib.suppress(EOFError):
        while True:
            arm(orders.recv())


class Worker:
    """A worker process, or another one that runs ``body``. Safe from any thread."""

    def __init__(self, setting: Any, body: Callable[[Any, Connection], None] = work) -> None:
        self._orders, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=body, args=(setting, theirs))
        with _LOCK:
            self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.output = setting.output

    def refusals(self) -> int:
        """How often it has said that the online store or the event log refused what it wrote."""
        said = Path(self.output).read_text() if Path(self.output).is_file() else ""
        return said.count("write refused") + said.count("fenced by the event log")

    def arm(self, setting: str | None) -> None:
        """From now on it dies, or stops, at this failpoint; at none for None."""
        with contextlib.suppress(BrokenPipeError):
            self._orders.send(setting)

    @property
    def exitcode(self) -> int | None:
        """How it ended; None while it runs."""
        with _LOCK:
            return self._process.exitcode

    def is_alive(self) -> bool:
        """Whether it runs, or is stopped."""
        return self.exitcode is None

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; whether it came."""
        deadline = time.monotonic() + timeout_s
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def signal(self, sent: signal.Signals) -> None:
        """Send it a signal."""
        if self.is_alive():
            os.kill(self.pid, sent)

    def kill(self) -> None:
        """As by kill -9; it is dead when this returns."""
        self.signal(signal.SIGKILL)
        assert self.join(20)

    def terminate(self) -> None:
        """Ask it to end in good order."""
        self.signal(signal.SIGTERM)
