"""`headrace ingest` as a process: the page about it, a folder whose process is killed, and how it stops."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tests.support.console_page import difference, shown
from tests.support.documents import ROOT, blocks
from tests.support.ingest_project import PAGE, IngestProject, answered, logged, records, stopped
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
TOML, LINES = (blocks(PAGE, language)[0].text for language in ("toml", "json"))


@pytest.fixture
def project(services: LocalServices, namespace: str, tmp_path: Path) -> IngestProject:
    return made(services, namespace, tmp_path, '\nsettle = "100ms"')


def made(services: LocalServices, namespace: str, folder: Path, more: str = "") -> IngestProject:
    (folder / "inbox").mkdir()
    return IngestProject(services, namespace, folder, TOML.replace('folder = "inbox"', 'folder = "inbox"' + more))


def test_the_page(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    project = made(services, namespace, tmp_path)
    (project.folder / "inbox" / "monday.jsonl").write_text(LINES)
    first, *others = shown(PAGE)
    assert first.command == "headrace ingest"
    requests = [each for each in others if each.command.startswith("curl")]
    wrong = ""
    with project.ingest() as process:
        project.await_said("a file is produced")
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
    services: LocalServices, namespace: str, project: IngestProject
) -> None:
    lines = [re.sub(r'id": 1,', f'id": {number},', LINES.splitlines()[0]) for number in range(300)]
    for file in range(3):
        (project.folder / "inbox" / f"{file}.jsonl").write_text("\n".join(lines[file * 100 : file * 100 + 100]))
    with project.ingest(FAILPOINT="after-ingest-flush:2") as process:
        assert process.wait(60) == -signal.SIGKILL
    with project.ingest() as process:
        project.await_said("a file is produced", 2)
        assert stopped(process) == 0
    found = logged(services, namespace, project.folder, project.stream(), 400)
    assert found.group_by("__verdict").len().sort("__verdict").rows() == [("accepted", 300), ("duplicate", 100)]
    once = found.filter(pl.col("__verdict") == "accepted").get_column("payment_id")
    assert sorted(once) == list(range(300))


def test_a_webhook_takes_each_kind_of_body_and_refuses_others(services: LocalServices, project: IngestProject) -> None:
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
    found = records(services.bootstrap_servers, project.topic)
    assert [json.loads(each.value() or b"{}")["payment_id"] for each in found] == [10, 20, 21, 30, 40]
    assert [each.key() for each in found] == [b"c7"] * 5


def test_a_webhook_answers_503_while_kafka_is_away_and_stops_at_once(project: IngestProject) -> None:
    (event, *_) = [json.loads(each) for each in LINES.splitlines()]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nowhere = f"127.0.0.1:{silent.getsockname()[1]}"
        with project.ingest(HEADRACE_BOOTSTRAP_SERVERS=nowhere, HEADRACE_WEBHOOK__DEADLINE="500ms") as process:
            project.await_served()
            assert project.post(event).problem == (503, "not-acknowledged")
            assert project.post(event).problem == (503, "not-acknowledged")
            assert stopped(process) == 0


def test_metrics_and_readiness_are_served(project: IngestProject) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (project.folder / "inbox" / "monday.jsonl").write_text(LINES)
    with project.ingest("--metrics-port", str(port)):
        project.await_said("a file is produced")
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
