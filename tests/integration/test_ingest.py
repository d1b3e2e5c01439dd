"""`headrace ingest` as a process: the page about it, a folder whose process is killed, and how it stops."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import polars as pl
import pytest
from confluent_kafka import TopicPartition

from headrace import Count, Entity, FeatureView
from headrace.bus.kafka_clients import reader
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.event_log.event_log import EventLog
from tests.support.console_page import difference, shown
from tests.support.documents import ROOT, blocks
from tests.support.http_scene import ask
from tests.support.view_worker import working
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from confluent_kafka import Message

    from headrace import Stream
    from headrace.app.local.services import LocalServices
    from tests.support.http_scene import Answered

pytestmark = pytest.mark.integration
PAGE = "docs/how-to/ingest.md"
TOML, PYTHON, LINES = (blocks(PAGE, language)[0].text for language in ("toml", "python", "json"))


class Project:
    """The project of the page, with a topic of its own."""

    def __init__(self, services: LocalServices, namespace: str, folder: Path, more: str = "") -> None:
        self.folder, self.topic = folder, f"{namespace}.payments"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self._environment |= {"HEADRACE_BOOTSTRAP_SERVERS": services.bootstrap_servers, "NO_COLOR": "1"}
        self._environment |= {"HEADRACE_NAMESPACE": namespace, "HEADRACE_WEBHOOK__PORT": str(self.port)}
        (folder / "inbox").mkdir()
        (folder / "headrace.toml").write_text(
            "project = {features = [], trainers = []}\n"
            + self._own(TOML).replace('folder = "inbox"', 'folder = "inbox"' + more)
        )
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

    def await_produced(self, files: int) -> None:
        until(lambda: self.log().count("a file is produced") == files, 30, self.log)


@pytest.fixture
def project(services: LocalServices, namespace: str, tmp_path: Path) -> Project:
    return Project(services, namespace, tmp_path, '\nsettle = "100ms"')


def stopped(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(9)


def test_the_page(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    project = Project(services, namespace, tmp_path)
    (project.folder / "inbox" / "monday.jsonl").write_text(LINES)
    first, *requests = shown(PAGE)
    assert first.command == "headrace ingest"
    wrong = ""
    with project.ingest() as process:
        project.await_produced(1)
        for each in requests:
            wrong += difference(each, project.post(*curled(each.command)).body.decode())
        assert stopped(process) == 0
    printed = project.log().replace(project.topic, "payments").replace(f'"port": {project.port}', '"port": 8081')
    assert wrong + difference(first, printed.rstrip()) == ""


def curled(command: str) -> tuple[bytes, dict[str, str]]:
    """The body and the headers that a command of curl sends."""
    name, url, *options = shlex.split(command)
    assert (name, url) == ("curl", "http://127.0.0.1:8081/payments")
    given = list(zip(options[::2], options[1::2], strict=True))
    headers = dict(text.split(": ", 1) for option, text in given if option == "-H")
    (body,) = [text for option, text in given if option == "-d"]
    return body.encode(), headers


def test_a_killed_process_sends_a_file_again_and_unique_counts_each_event_once(
    services: LocalServices, namespace: str, project: Project
) -> None:
    lines = [re.sub(r'id": 1,', f'id": {number},', LINES.splitlines()[0]) for number in range(300)]
    for file in range(3):
        (project.folder / "inbox" / f"{file}.jsonl").write_text("\n".join(lines[file * 100 : file * 100 + 100]))
    with project.ingest(FAILPOINT="after-ingest-flush:2") as process:
        assert process.wait(60) == -signal.SIGKILL
    with project.ingest() as process:
        project.await_produced(2)
        assert stopped(process) == 0
    stream = project.stream()
    view = FeatureView("card", entity=Entity("card"), source=stream, windows=["1d"], features={"n": Count()})
    log = EventLog(project.folder / "events", namespace=namespace)
    with working(services, namespace, project.folder, view):
        until(lambda: log.exists(stream.topic) and len(rows(log, stream.topic)) == 400, 60)
    found = rows(log, stream.topic)
    assert found.group_by("__verdict").len().sort("__verdict").rows() == [("accepted", 300), ("duplicate", 100)]
    once = found.filter(pl.col("__verdict") == "accepted").get_column("payment_id")
    assert sorted(once) == list(range(300))


def rows(log: EventLog, topic: str) -> pl.DataFrame:
    table = log.newest(topic)
    return log.rows(topic, table, table.file_uris(), ["payment_id", "__verdict"])


def records(services: LocalServices, topic: str) -> list[Message]:
    consumer = reader(services.bootstrap_servers, "test")
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


def test_a_webhook_takes_each_kind_of_body_and_refuses_others(services: LocalServices, project: Project) -> None:
    (event, *_) = [json.loads(each) for each in LINES.splitlines()]
    cloud = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "Payment", "data": event | {"payment_id": 30}}
    token, binary = (
        {"Authorization": "Bearer abc"},
        {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/", "ce-type": "P"},
    )
    with project.ingest(HEADRACE_WEBHOOK__TOKEN="abc", HEADRACE_WEBHOOK__BODY_LIMIT="2KiB") as process:
        project.await_served()
        assert project.post(event | {"payment_id": 10}, token).json == {"accepted": 1}
        assert project.post([event | {"payment_id": number} for number in (20, 21)], token).json == {"accepted": 2}
        structured = {"Content-Type": "application/cloudevents+json"}
        assert project.post(cloud, token | structured).json == {"accepted": 1}
        assert project.post(event | {"payment_id": 40}, token | binary).json == {"accepted": 1}
        assert project.post(event).problem == (401, "unauthorized")
        assert project.post([event, {}], token).problem == (400, "no-event")
        assert project.post(b"[", token).problem == (400, "malformed")
        assert project.post(event, token | {"Content-Type": "text/csv"}).problem == (415, "unsupported")
        assert project.post([event] * 99, token).problem == (413, "too-large")
        assert project.post(event, token, "/other").problem == (404, "http")
        assert stopped(process) == 0
    found = records(services, project.topic)
    assert [json.loads(each.value() or b"{}")["payment_id"] for each in found] == [10, 20, 21, 30, 40]
    assert [each.key() for each in found] == [b"c7"] * 5


def test_a_webhook_answers_503_while_kafka_is_away_and_stops_at_once(project: Project) -> None:
    (event, *_) = [json.loads(each) for each in LINES.splitlines()]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nowhere = f"127.0.0.1:{silent.getsockname()[1]}"
        with project.ingest(HEADRACE_BOOTSTRAP_SERVERS=nowhere, HEADRACE_WEBHOOK__DEADLINE="500ms") as process:
            project.await_served()
            assert project.post(event).problem == (503, "not-acknowledged")
            assert project.post(event).problem == (503, "not-acknowledged")
            assert stopped(process) == 0


def test_metrics_and_readiness_are_served(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (project.folder / "inbox" / "monday.jsonl").write_text(LINES)
    with project.ingest("--metrics-port", str(port)):
        project.await_produced(1)
        project.await_served()
        assert project.post({}).status == 400
        text = answered(port, "/metrics")[1]
        assert 'headrace_ingest_rows_total{source="shop"} 2.0' in text
        assert 'headrace_ingest_requests_total{source="partner",status="400"} 1.0' in text
        assert 'headrace_ingest_rejected_rows_total{source="shop"} 1.0' in text
        page = re.findall(r"^\| `(headrace_\w+)` \| (\w+) \|", (ROOT / PAGE).read_text(), re.MULTILINE)
        served = re.findall(r"^# TYPE (headrace_ingest_\w+?) (\w+)$", text, re.MULTILINE)
        assert {each for each in served if not each[0].endswith("_created")} == set(page)
        assert answered(port, "/livez")[0] == answered(port, "/readyz")[0] == 200
        (project.folder / "inbox").rename(project.folder / "gone")
        until(lambda: answered(port, "/readyz")[0] == 503, 10)
        (project.folder / "gone").rename(project.folder / "inbox")
        until(lambda: answered(port, "/readyz")[0] == 200, 20)
