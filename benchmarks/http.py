"""Look-ups over HTTP: `headrace serve` against `feast serve`, both asked in Feast's words; answers a CPU second."""

from __future__ import annotations

import selectors
import socket
import statistics
import sys
import time
import warnings
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import yaml

from headrace.app.local.process import GuardedProcess
from headrace.features.online.redis.redis_store import RedisOnlineStore

from .feast_lookups import SHAPES, filled
from .rig import PATIENCE_S, console

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .options import Options
    from .rig import Rig

CONNECTIONS, WARM_UP_S, SECONDS = 4, 1.0, 3.0
PATH = "/get-online-features"


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """Each shape of look-up at both servers in turn, ``options.repeat`` times."""
    with warnings.catch_warnings(), console.status("filling"):
        warnings.simplefilter("ignore")
        stores = filled(rig)
        _publish(rig, stores["plugin"])
    with _feast(rig, stores["feast"]) as feast, _headrace(rig, stores["plugin"]) as own:
        shapes = {}
        for views, rows in SHAPES:
            asked = {"feast": (feast, f"ordinary{views}"), "headrace": (own, f"tiled{views}")}
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
            for _ in range(options.repeat):
                for name, (server, service) in asked.items():
                    runs[name].append(server.measure(service, rows))
            shapes[f"{views}x{rows}"] = found = _summary(runs)
            console.print(f"  {views}x{rows}: {found['ratio']} times the answers of Feast's server a CPU second")
    return {"connections": CONNECTIONS, "seconds": SECONDS, "shapes": shapes}


def _summary(runs: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    rates = {name: statistics.median(run["per_cpu_s"] for run in of) for name, of in runs.items()}
    return {**rates, "ratio": round(rates["headrace"] / rates["feast"], 1), "runs": dict(runs)}


def _publish(rig: Rig, plugin: Any) -> None:
    """Services of the tiled views, under the names that they have in Feast's registry."""
    store = RedisOnlineStore(rig.redis_url, plugin.config.online_store.namespace)
    for count in {views for views, _ in SHAPES}:
        names = [plugin.get_feature_view(f"user{number}").batch_source.view for number in range(count)]
        store.put_document(f"service:tiled{count}", {"views": [name.split("@") for name in names]})
    store.close()


@contextmanager
def _feast(rig: Rig, store: Any) -> Iterator[Server]:
    folder = rig.folder / "feast-server"
    folder.mkdir()
    config = store.config
    told = {
        "project": config.project, "provider": "local", "registry": config.registry.path,
        "online_store": {"type": "redis", "connection_string": config.online_store.connection_string},
        "entity_key_serialization_version": 3,
    }  # fmt: skip
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(told))
    program = Path(sys.executable).with_name("feast")
    never = ("--max-requests", "0", "--max-requests-jitter", "0")  # else it starts anew every thousand requests
    with _started([str(program), "-c", str(folder), "serve", "--no-access-log", *never], folder, {}) as server:
        yield server


@contextmanager
def _headrace(rig: Rig, plugin: Any) -> Iterator[Server]:
    folder = rig.folder / "headrace-server"
    folder.mkdir()
    settings = {
        "HEADRACE_NAMESPACE": plugin.config.online_store.namespace,
        "HEADRACE_REDIS_URL": rig.redis_url,
        "HEADRACE_HEARTBEAT_BOUND": "1d",
    }
    with _started([sys.executable, "-m", "headrace", "serve"], folder, settings) as server:
        yield server


@contextmanager
def _started(command: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    assignments = [f"{name}={value}" for name, value in environment.items()]
    program = ["env", "-C", str(folder), *assignments, *command, "--port", str(port)]
    process = GuardedProcess(program, folder / "log", grace_seconds=10)
    try:
        server = Server(process.pid, port)
        server.await_answer(process, folder / "log")
        yield server
    finally:
        process.stop()


class Server:
    """A server under measurement."""

    def __init__(self, pid: int, port: int) -> None:
        self._process = psutil.Process(pid)
        self._port = port

    def await_answer(self, process: GuardedProcess, log: Path) -> None:
        """Wait until it listens. RuntimeError with its log if it does not."""
        until = time.monotonic() + PATIENCE_S
        while process.running and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"the server does not answer: {log.read_text(errors='replace')[-2_000:]}")

    def measure(self, service: str, rows: int) -> dict[str, float]:
        """Answers a second, and a CPU second of its processes. RuntimeError unless all values are there."""
        asked = {"feature_service": service, "entities": {"user_id": _users(rows)}, "full_feature_names": True}
        body = msgspec.json.encode(asked)
        self._ask(body, WARM_UP_S)
        before = self._cpu()
        answers, seconds = self._ask(body, SECONDS)
        cpu = self._cpu() - before
        return {
            "per_s": round(answers / seconds),
            "per_cpu_s": round(answers / cpu),
            "cpu_share": round(cpu / seconds, 2),
        }

    def _cpu(self) -> float:
        """CPU seconds of it and its children."""
        times = [process.cpu_times() for process in (self._process, *self._process.children(recursive=True))]
        return float(sum(own.user + own.system for own in times))

    def _ask(self, body: bytes, seconds: float) -> tuple[int, float]:
        """Ask on all connections, each again as soon as it is answered; the number of answers, and the time it took."""
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        request, answers, started = head.encode() + body, 0, time.monotonic()
        with selectors.DefaultSelector() as selector:
            open_ = [_Connection(self._port) for _ in range(CONNECTIONS)]
            for connection in open_:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                connection.socket.sendall(request)
            while time.monotonic() < started + seconds:
                for key, _ in selector.select(1.0):
                    if key.data.is_answered():
                        answers += 1
                        key.data.socket.sendall(request)
            for connection in open_:
                connection.socket.close()
        return answers, time.monotonic() - started


class _Connection:
    """One that is kept open."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""
        self._is_checked = False

    def is_answered(self) -> bool:
        """Take what has come; whether an answer is whole now. RuntimeError if it is a refusal."""
        self._read += self.socket.recv(1 << 20)
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length:")[2].split()[0]):
            return False
        if not self._is_checked:
            _check(head, body)
            self._is_checked = True
        self._read = b""
        return True


def _check(head: bytes, body: bytes) -> None:
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"refused: {head.decode()} {body[:500].decode()}")
    found = msgspec.json.decode(body)
    statuses = {status for column in found["results"] for status in column["statuses"]}
    if statuses != {"PRESENT"}:
        raise RuntimeError(f"not all is there: {statuses}")


def _users(rows: int) -> list[str]:
    return [f"user-{number}" for number in range(rows)]
