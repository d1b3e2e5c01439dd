"""A project that ingests, run as a process: the stream of the page, and the records that its topic gets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from confluent_kafka import TopicPartition

from headrace import Count, Entity, FeatureView
from headrace.bus.kafka_clients import reader
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.event_log.event_log import EventLog
from tests.support.documents import blocks
from tests.support.http_scene import ask
from tests.support.view_worker import working
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl
    from confluent_kafka import Message

    from headrace import Stream
    from headrace.app.local.services import LocalServices
    from tests.support.http_scene import Answered

PAGE = "docs/how-to/ingest.md"
PYTHON = blocks(PAGE, "python")[0].text


class IngestProject:
    """A project with the stream of the page, on a topic of its own, and these entries."""

    def __init__(self, services: LocalServices, namespace: str, folder: Path, toml: str) -> None:
        self.folder, self.topic = folder, f"{namespace}.payments"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self._environment |= {"HEADRACE_BOOTSTRAP_SERVERS": services.bootstrap_servers, "NO_COLOR": "1"}
        self._environment |= {"HEADRACE_NAMESPACE": namespace, "HEADRACE_WEBHOOK__PORT": str(self.port)}
        (folder / "headrace.toml").write_text("project = {features = [], trainers = []}\n" + self._own(toml))
        (folder / "streams.py").write_text(self._own(PYTHON))
        ensure_topics(services.bootstrap_servers, [TopicPlan(self.topic, 1)])

    def _own(self, text: str) -> str:
        return text.replace('"payments"', f'"{self.topic}"')

    def stream(self) -> Stream:
        world: dict[str, Any] = {"__name__": "page"}
        exec(compile(self._own(PYTHON), PAGE, "exec", dont_inherit=True), world)
        found: Stream = world["payments"]
        return found

    @contextmanager
    def ingest(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "headrace", "ingest", *arguments]
        with (self.folder / "ingest.log").open("wb") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self._environment | environment, stdout=output, stderr=output
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def log(self) -> str:
        return (self.folder / "ingest.log").read_text()

    def post(self, body: Any, headers: dict[str, str] | None = None, path: str = "/payments") -> Answered:
        return ask(f"http://127.0.0.1:{self.port}{path}", body, headers=headers)

    def await_served(self) -> None:
        until(lambda: answered(self.port, "/")[0] > 0, 30, self.log)

    def await_said(self, text: str, times: int = 1) -> None:
        """Wait until the log has a text this many times."""
        until(lambda: self.log().count(text) == times, 30, self.log)


def stopped(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(9)


def logged(services: LocalServices, namespace: str, folder: Path, stream: Stream, count: int) -> pl.DataFrame:
    """The ids and verdicts of a stream's rows, once a worker has so many of them in the event log."""
    view = FeatureView("card", entity=Entity("card"), source=stream, windows=["1d"], features={"n": Count()})
    log = EventLog(folder / "events", namespace=namespace)
    with working(services, namespace, folder, view):
        until(lambda: log.exists(stream.topic) and len(rows(log, stream.topic)) == count, 60)
    return rows(log, stream.topic)


def rows(log: EventLog, topic: str) -> pl.DataFrame:
    table = log.newest(topic)
    return log.rows(topic, table, table.file_uris(), ["payment_id", "__verdict"])


def records(servers: str, topic: str) -> list[Message]:
    consumer = reader(servers, "test")
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Message] = []
    try:
        end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]
        while len(found) < end:
            found += consumer.consume(100, 0.2)
    finally:
        consumer.close()
    return found


def answered(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except URLError:
        return 0, ""
