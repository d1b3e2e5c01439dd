"""The live page: what it answers, to whom, and what it must never do."""

from __future__ import annotations

import ast
import asyncio
import http.client
import re
from contextlib import closing
from typing import TYPE_CHECKING, get_args

import msgspec
import pytest

from headrace.app.flow.flow_graph import FlowGraph
from headrace.app.project.ui_settings import UiSettings
from headrace.app.snapshot import snapshot as parts
from headrace.app.snapshot.snapshot import Snapshot, encode
from headrace.app.snapshot.snapshot_fold import SnapshotFold
from headrace.app.ui.application import POLICY, live_page
from headrace.app.ui.pages import PAGES, page
from headrace.app.ui.snapshot_feed import SnapshotFeed
from headrace.models.publication_signing import UNSIGNED
from tests.support.documents import ROOT
from tests.support.http_scene import serving
from tests.support.told_records import SECOND, T0, TOPICS, report, take

if TYPE_CHECKING:
    from collections.abc import Iterator

UI = ROOT / "src" / "headrace" / "app" / "ui"
SCRIPT = (UI / "static" / "page.js").read_text("utf-8")
STYLE = (UI / "static" / "page.css").read_text("utf-8")
NOW = T0 + SECOND


def snapshot() -> Snapshot:
    fold = SnapshotFold(TOPICS, UNSIGNED, ["<b>risk"], begun_us=T0)
    take(fold, report(T0, 10))
    return fold.snapshot(NOW)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    app = live_page(snapshot, FlowGraph((), ()), namespace="<shop>", hosts=UiSettings().hosts(), viewers=1)
    with serving(app) as url:
        yield url.removeprefix("http://")


def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_title_a_strict_policy_and_nothing_inline(address: str, name: str) -> None:
    status, headers, body = ask(address, "/" if name == "now" else f"/{name}")
    text = body.decode()
    assert (status, headers["content-security-policy"]) == (200, POLICY)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert f"<h1>{PAGES[name]}</h1>" in text
    assert "<shop>" not in text
    assert "&lt;shop&gt;" in text
    assert re.findall(r"<script[^>]*>([^<]*)<", text) == [""], "the policy lets no script of a page run"
    assert not re.search(r"\sstyle=|<style|\son\w+=", text)


def test_the_snapshot_is_that_of_the_command(address: str) -> None:
    assert ask(address, "/snapshot.json")[2] == encode(snapshot())


def test_prometheus_reads_what_no_process_owns(address: str) -> None:
    status, headers, body = ask(address, "/metrics")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    assert b"headrace_exporter_read_timestamp_seconds" in body


def test_no_page_asks_for_anything_outside() -> None:
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    for text in (SCRIPT, STYLE, *(page(name, "shop") for name in PAGES)):
        assert set(re.findall(r"https?://[^\"'\s]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_names_from_outside_are_written_as_text_alone() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", SCRIPT)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/events", "/snapshot.json"])
def test_no_request_but_a_read_is_answered(address: str, method: str, path: str) -> None:
    assert ask(address, path, method)[0] == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8765", 200), ("localhost", 200), ("[::1]:8765", 200), ("evil.example", 400), ("localhost.evil", 400)],
)
def test_only_requests_for_known_hosts_are_answered(address: str, host: str, status: int) -> None:
    found, headers, body = ask(address, "/snapshot.json", Host=host)
    assert found == status
    assert "content-security-policy" in headers
    assert status == 200 or b"partitions" not in body


def test_the_hosts_are_those_of_this_machine_unless_others_are_named() -> None:
    assert UiSettings().host == "127.0.0.1"
    assert UiSettings(host="0.0.0.0").hosts() == UiSettings().hosts()
    assert "status.shop.example" in UiSettings(allowed_hosts=["status.shop.example"]).hosts()
    for wide in ("*", "*.example", "shop:80", ""):
        with pytest.raises(ValueError, match="is no name of a host"):
            UiSettings(allowed_hosts=[wide])


def test_one_page_more_than_allowed_is_refused(address: str) -> None:
    with closing(http.client.HTTPConnection(address, timeout=30)) as first:
        first.request("GET", "/events")
        with closing(first.getresponse()) as stream:
            assert stream.getheader("content-type", "").startswith("text/event-stream")
            assert stream.readline() == b"retry: 2000\n"
            assert ask(address, "/events")[0] == 503


def test_a_snapshot_is_encoded_once_for_all_viewers() -> None:
    calls: list[int] = []

    def read() -> bytes:
        calls.append(1)
        return b"{}"

    async def watch(feed: SnapshotFeed, count: int) -> list[bytes]:
        found: list[bytes] = []
        async for frame in feed.frames():
            found.append(frame)
            if len(found) == count:
                break
        return found

    async def run() -> list[list[bytes]]:
        feed = SnapshotFeed(read, 30, every_s=0.01)
        frames = asyncio.create_task(feed.run())
        await asyncio.sleep(0.05)
        assert calls == [], "nobody looks"
        found = await asyncio.gather(*(watch(feed, 5) for _ in range(20)))
        frames.cancel()
        return found

    found = asyncio.run(run())
    made = {frame for each in found for frame in each[1:]}
    assert {len(each) for each in found} == {5}
    assert len(made) <= len(calls) <= len(made) + 3
    assert all(re.fullmatch(rb"id: \d+\ndata: {}\n\n", frame) for frame in made)


def test_a_snapshot_that_fails_does_not_end_the_pages() -> None:
    calls: list[int] = []

    def read() -> bytes:
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError
        return b"%d" % len(calls)

    async def run() -> bytes:
        feed = SnapshotFeed(read, 30, every_s=0.01)
        making = asyncio.create_task(feed.run())
        found = b""
        async for frame in feed.frames():
            found = frame
            if len(calls) > 2 and b"data" in frame and b"data: 1\n" not in frame:
                break
        making.cancel()
        return found

    assert asyncio.run(asyncio.wait_for(run(), 20)).endswith(b"data: 3\n\n")


def test_the_page_has_no_way_to_write() -> None:
    """It imports no producer, no store, no log, no registry and nothing that predicts."""
    files = [*UI.glob("*.py"), *(UI.parent / "snapshot").glob("*.py"), *(UI.parent / "flow").glob("*.py")]
    imported = {
        f"{node.module}.{name.name}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }
    assert "headrace.app.snapshot.snapshot.encode" in imported
    never = r"headrace\.(bus\.producer|event_log|features\.o|serving\.(?!http)|models\.\w*(registry|mlflow|artifact))"
    assert [name for name in sorted(imported) if re.match(never, name)] == []


def test_every_part_of_a_snapshot_has_the_time_of_its_message() -> None:
    rows = [get_args(field.type)[0] for field in msgspec.structs.fields(Snapshot) if get_args(field.type)]
    times = {"observed_us", "decided_us", "at_us", "record_us"}
    for row in rows:
        names = {field.name for field in msgspec.structs.fields(row)}
        assert names & times, row
    for unheard in (parts.PartitionNow(topic="t", partition=0), parts.ModelNow(model="m")):
        numbers = [value for value in msgspec.to_builtins(unheard).values() if isinstance(value, int | float)]
        assert not any(numbers), "what nobody has told is null"
