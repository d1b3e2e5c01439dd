"""Every process ends within ten seconds of a SIGTERM, in every state, and its children end with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from redis import Redis

from headrace.app.local.services import LocalServices
from headrace.bus.kafka_clients import admin
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.event_log.event_log import EventLog
from headrace.features.online.cursor import is_live
from headrace.features.online.redis.redis_store import RedisOnlineStore
from tests.support.crash.project import project_scene
from tests.support.documents import ROOT
from tests.support.postgres_server import Postgres
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.local.process import LocalService

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]
WITHIN_S = 10.0
STARTS_S = 180.0
COMMANDS = {
    "worker": ["worker", "--log-level", "warning"],
    "trainer": ["trainer", "--log-level", "warning"],
    "score": ["score", "delay", "--log-level", "warning"],
    "serve": ["serve", "--port", "0", "--log-level", "warning"],
    "ingest": ["ingest", "--log-level", "warning"],
    "serve-two": ["serve", "--port", "0", "--workers", "2", "--log-level", "warning"],
}


def entries(*more: dict[str, str]) -> str:
    """Sources of each kind as HEADRACE_INGEST has them, for the project of the repository."""
    kinds = {"folder": "streams", "webhook": "/weather", "topic": "flights.scheduled"}
    own = [{"name": kind, "stream": "weather.observed", kind: value} for kind, value in kinds.items()]
    return json.dumps([*own, *more])


def rows(url: str, more: str = "") -> dict[str, str]:
    """The entry of a database."""
    query = f"SELECT 'JFK' AS origin, clock_timestamp() AS observed_at {more}"
    own = {"query": query, "watermark": "observed_at", "key": "origin"}
    return {"name": "rows", "stream": "weather.observed", "postgres": url} | own


class Cast:
    """Commands of headrace that run, each with a data folder and a namespace of its own."""

    def __init__(self, folder: Path, bootstrap_servers: str, redis_url: str) -> None:
        self._folder, self._addresses = folder, (bootstrap_servers, redis_url)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, state: str, **environment: str) -> None:
        """Start a command that is to be stopped in a state."""
        place = self._folder / state / name
        place.mkdir(parents=True)
        own = {
            "HEADRACE_BOOTSTRAP_SERVERS": self._addresses[0],
            "HEADRACE_REDIS_URL": self._addresses[1],
            "HEADRACE_DATA_DIR": str(place),
            "HEADRACE_NAMESPACE": f"{state}-{name}",
            "HEADRACE_WEBHOOK__PORT": "0",
        }
        with (place / "output.log").open("wb") as output:
            self._running[f"{state} {name}"] = subprocess.Popen(
                [sys.executable, "-m", "headrace", *COMMANDS[name]],
                cwd=ROOT,
                env=os.environ | own | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def reach(self, state: str, port: int, *, may_end: bool = False) -> None:
        """Wait until every process of the state has a connection to this port, or has given up if it may.

        A server listens: it connects when the first request comes.
        """
        for name, process in self._of(state).items():
            until(
                lambda n=name, p=process: (  # type: ignore[misc]
                    has_socket(p.pid, None if "serve" in n else port) or (may_end and p.poll() is not None)
                ),
                STARTS_S,
                say=lambda n=name: self._output(n),  # type: ignore[misc]
            )

    def says(self, state: str, text: str) -> None:
        """Wait until every process of the state has logged a text."""
        for name in self._of(state):
            until(lambda n=name: text in self._output(n), STARTS_S)  # type: ignore[misc]

    def end(self, state: str) -> dict[str, str]:
        """Send SIGTERM to the processes of the state. Return those that did not end in time, with their output."""
        late, deadline = {}, time.monotonic() + WITHIN_S
        for process in self._of(state).values():
            process.send_signal(signal.SIGTERM)
        for name, process in self._of(state).items():
            try:
                process.wait(max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                late[name] = self._output(name)
            if group_lives(process.pid):
                late[name] = f"left children; {self._output(name)}"
        return late

    def close(self) -> None:
        """Kill what is left."""
        for process in self._running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def codes(self, state: str) -> dict[str, int | None]:
        """Return the exit codes of the state."""
        return {name: process.poll() for name, process in self._of(state).items()}

    def _of(self, state: str) -> dict[str, subprocess.Popen[bytes]]:
        return {name: process for name, process in self._running.items() if name.split()[0] == state}

    def _output(self, name: str) -> str:
        state, command = name.split()
        return (self._folder / state / command / "output.log").read_text(errors="replace")[-3_000:]


def has_socket(pid: int, port: int | None) -> bool:
    """Return whether the process or a child has a connection to a port of this machine; None: whether it listens."""
    sockets = {
        fields[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[3] == ("0A" if port is None else "01")
        and int(fields[2].rpartition(":")[2], 16) == (port or 0)
    }
    return not open_files(pid).isdisjoint(f"socket:[{inode}]" for inode in sockets)


def open_files(pid: int) -> set[str]:
    found = set()
    for each in [pid, *children(pid)]:
        try:
            found |= {str(entry.readlink()) for entry in Path(f"/proc/{each}/fd").iterdir()}
        except OSError:  # it ended, or a file was closed meanwhile
            continue
    return found


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def group_lives(pid: int) -> bool:
    """Return whether a process of the group still runs two seconds after its leader has ended."""
    for _ in range(100):
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it finds processes in /proc")
@pytest.mark.parametrize("state", ["starting", "frozen"])
def test_local_servers_end_with_headrace_up_in_every_state(tmp_path: Path, state: str) -> None:
    command = [sys.executable, "-m", "headrace", "up", "--json", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as up:
        until(lambda: len(servers_of(up.pid)) == 2, STARTS_S)
        servers = servers_of(up.pid)
        if state == "frozen":
            assert up.stdout is not None
            assert up.stdout.readline()
            for server in servers:
                os.kill(server, signal.SIGSTOP)
        up.send_signal(signal.SIGTERM)
        assert up.wait(WITHIN_S) in ({0, 143} if state == "frozen" else {143})
    until(lambda: not any(Path(f"/proc/{server}").exists() for server in servers), WITHIN_S)


def servers_of(pid: int) -> list[int]:
    """Return the processes of the servers: each is the child of its guard."""
    return [server for guard in children(pid) for server in children(guard)]


@contextmanager
def frozen(service: LocalService) -> Iterator[None]:
    """Stop a server with SIGSTOP: its connections stay open, and nothing answers."""
    assert service.pid is not None
    os.kill(service.pid, signal.SIGSTOP)
    try:
        time.sleep(1.0)  # requests are on their way then
        yield
    finally:
        os.kill(service.pid, signal.SIGCONT)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads connections from /proc")
def test_every_process_ends_in_every_state(tmp_path: Path) -> None:
    with ExitStack() as stack:
        mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # connections open, and nothing answers
        mute_port = mute.getsockname()[1]
        silent = Cast(tmp_path / "silent", f"127.0.0.1:{mute_port}", f"redis://127.0.0.1:{mute_port}/0")
        stack.callback(silent.close)
        for name in ("worker", "trainer", "score", "serve"):
            silent.start(name, "not-ready")
        mute_rows = rows(f"postgresql://127.0.0.1:{mute_port}/shop")
        silent.start("ingest", "not-ready", HEADRACE_INGEST=entries(mute_rows))
        services = stack.enter_context(LocalServices(tmp_path / "services"))
        cast = Cast(tmp_path / "cast", services.bootstrap_servers, services.redis_url)
        stack.callback(cast.close)
        silent.reach("not-ready", mute_port, may_end=True)
        late = silent.end("not-ready")

        a_file = tmp_path / "a-file"
        a_file.touch()
        mlflow = f"http://127.0.0.1:{mute_port}"
        cast.start("worker", "healthy")  # it makes the topics that the others read
        client = admin(services.bootstrap_servers)
        until(lambda: "flights.scheduled" in client.list_topics(timeout=10).topics, STARTS_S)
        for name in ("trainer", "score", "serve", "serve-two"):
            cast.start(name, "healthy")
        cast.start("ingest", "healthy", HEADRACE_INGEST=entries(mute_rows))
        cast.start("worker", "disk-away", HEADRACE_EVENT_LOG=str(a_file / "events"))
        cast.start("trainer", "mlflow-away", HEADRACE_REGISTRY_URI=mlflow)
        cast.reach("healthy", services.kafka.port)
        groups = {"healthy-worker-workers", "healthy-trainer-trainers"}  # both have begun their work then
        until(lambda: groups <= {found.group_id for found in client.list_consumer_groups().result(10).valid}, STARTS_S)
        cast.says("disk-away", "does not answer")
        cast.reach("mlflow-away", services.kafka.port)
        for state in ("healthy", "disk-away", "mlflow-away"):
            late |= cast.end(state)
        assert late == {}
        assert set(cast.codes("healthy").values()) == {0}

        for name in ("worker", "trainer", "score"):
            cast.start(name, "kafka-frozen")
        cast.start("ingest", "kafka-frozen", HEADRACE_INGEST=entries(mute_rows))
        for name in ("worker", "score", "serve"):
            cast.start(name, "redis-frozen")
        for name in ("worker", "trainer", "score", "serve"):
            cast.start(name, "killed")
        cast.start("ingest", "killed", HEADRACE_INGEST=entries(mute_rows))
        cast.reach("kafka-frozen", services.kafka.port)
        cast.reach("killed", services.kafka.port)
        with frozen(services.kafka):
            late |= cast.end("kafka-frozen")
        with frozen(services.valkey):
            late |= cast.end("redis-frozen")
        services.kafka.kill()
        services.valkey.kill()
        time.sleep(1.0)
        late |= cast.end("killed")
        assert late == {}


def test_an_ingest_ends_while_its_database_computes(services: LocalServices, tmp_path: Path) -> None:
    with Postgres() as postgres, ExitStack() as stack:
        cast = Cast(tmp_path, services.bootstrap_servers, services.redis_url)
        stack.callback(cast.close)
        ensure_topics(services.bootstrap_servers, [TopicPlan("weather.observed")])
        slow = rows(postgres.url(), "FROM pg_sleep(600)")
        cast.start("ingest", "computes", HEADRACE_INGEST=json.dumps([slow]))
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        until(
            lambda: postgres.sql(sleeping) == [["1"]], 60, (tmp_path / "computes" / "ingest" / "output.log").read_text
        )
        assert cast.end("computes") == {}
        assert set(cast.codes("computes").values()) == {0}


ROWS, USERS, AT = 400_000, 50_000, "2026-01-01T00:00:00Z"
PAYMENT = '{{"payment_id":{0},"user":"u{1}","cents":1,"at":"{2}"}}'


def test_a_worker_ends_while_a_view_catches_up(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    with project_scene(services, namespace, tmp_path) as scene, ExitStack() as stack:
        store = RedisOnlineStore(services.redis_url, namespace)
        redis = stack.enter_context(Redis.from_url(services.redis_url))
        stack.callback(store.close)
        worker = scene.start("worker", "--partitions", "1")
        until(lambda: store.get_document("view:user") is not None, STARTS_S)
        ((name, version),) = (store.get_document("view:user") or {})["views"]
        view = f"{name}@{version}"

        def folded() -> int:
            return sum(cursor.next_offset for cursor in store.cursors([view])[0].values())

        producer = Producer({"bootstrap.servers": services.bootstrap_servers, "linger.ms": 20})
        for number in range(ROWS):
            value = PAYMENT.format(number, number % USERS, AT)
            while True:
                try:
                    producer.produce(f"{namespace}.payments", value, b"k")
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
        assert producer.flush(60) == 0
        log = EventLog(tmp_path / ".headrace" / "events")
        until(lambda: folded() == ROWS, STARTS_S)
        until(lambda: logged_rows(log, f"{namespace}.payments") == ROWS, STARTS_S)
        worker.kill()
        for key in redis.scan_iter(match=f"hr:*:{namespace}:{view}:*", count=10_000):
            redis.delete(key)
        again = scene.start("worker")
        until(lambda: 0 < folded() < ROWS, STARTS_S, again.output.read_text)
        again.process.send_signal(signal.SIGTERM)
        assert again.process.wait(WITHIN_S) == 0
        assert folded() < ROWS  # it had not caught up
        assert not is_live(store.cursors([view])[0])


def logged_rows(log: EventLog, topic: str) -> int:
    return log.read(topic).height if log.exists(topic) else 0
