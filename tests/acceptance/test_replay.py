"""The command on the page about replays, on two days of flights in files: its report, chart and promises."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections import defaultdict
from itertools import takewhile
from typing import TYPE_CHECKING

import pytest

from headrace.app.local.lock import running
from streams.history import History
from tests.support.console_page import shown
from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/how-to/replay-history.md"
TOPICS = {
    "flights.scheduled": "scheduled", "flights.departed": "departed", "flights.arrived": "arrived",
    "weather.observed": "weather",
}  # fmt: skip
DAY_MS = 86_400_000


@pytest.mark.long
@pytest.mark.acceptance
@pytest.mark.integration
@pytest.mark.timeout(600)
def test_the_replay_of_the_page_loses_nothing_and_writes_report_and_chart(tmp_path: Path) -> None:
    history, lines = History(1), defaultdict[str, list[bytes]](list)
    end_ms = history.from_us // 1_000 + 3 * DAY_MS
    for _, topic, _, value in takewhile(lambda record: record[0] < end_ms, history.records()):
        lines[topic].append(value)
    (tmp_path / "history").mkdir()
    for topic, name in TOPICS.items():
        (tmp_path / "history" / f"{name}.jsonl").write_bytes(b"\n".join(lines[topic]))
    (command,) = [each.command for each in shown(PAGE)]
    name, *arguments = shlex.split(command.replace("=history/", f"={tmp_path}/history/"))
    assert name == "headrace"
    places = ["--data-dir", str(tmp_path / "data"), "--output", str(tmp_path), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *arguments, *places],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((tmp_path / "replay-report.json").read_text())
    assert json.loads(done.stdout) == report
    assert (report["lost"], report["duplicated"], report["dead_letters"], report["versions"]) == (0, 0, 0, [])
    expected = sum(1 for _ in takewhile(lambda record: record[0] < end_ms - DAY_MS, history.records()))
    assert report["events"] == expected
    assert report["decisions"]["first"]["evaluated"] == 2
    assert (tmp_path / "replay-auc.png").read_bytes()[:4] == b"\x89PNG"
    assert running(tmp_path / "data") is None
