"""`headrace log`: it tells how the event log lies there, and puts it in order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.errors import SettingsError
from headrace.event_log.event_log import EventLog
from tests.support.orders_model import Order, day, orders, write

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

run = CliRunner()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EventLog:
    """Six files of one stream, of a project that has two."""
    from headrace.base.times import utc_datetime

    monkeypatch.chdir(tmp_path)
    (tmp_path / "headrace.toml").write_text(
        '[project]\nstreams = ["tests.support.orders_model"]\nfeatures = []\ntrainers = []\n'
    )
    log = EventLog(tmp_path / ".headrace" / "events")
    for number in range(6):
        write(log, orders, [Order(number, "a", 1.0, utc_datetime(day(number)))])
    return log


def call(*words: str) -> Result:
    return run.invoke(build(), ["log", *words])


def status() -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(call("status", "--json").stdout)
    return told


@pytest.mark.slow
def test_log_command_shows_the_status_then_compacts_then_vacuums(log: EventLog) -> None:
    before = log.read("orders")
    (found,) = status()
    assert (found["topic"], found["rows"], found["files"], found["small_files"]) == ("orders", 6, 6, 6)
    assert (found["compacted"], found["vacuumed"], found["bytes"] > 0) == (None, None, True)
    assert "small_files" in call("status").stdout
    assert call("compact").stdout == "orders: 6 files before, 1 now\n"
    (found,) = status()
    assert (found["rows"], found["files"], found["vacuumed"]) == (6, 1, None)
    assert found["compacted"].startswith("20")
    assert call("vacuum", "--dry-run").stdout == "orders: 0 files would be deleted\n"
    assert status()[0]["vacuumed"] is None
    assert call("vacuum", "--retention", "8d").stdout == "orders: 0 files deleted\n"
    assert status()[0]["vacuumed"] is None  # there was nothing to do
    assert log.read("orders").equals(before)


def test_log_command_says_what_is_wrong(log: EventLog) -> None:
    assert isinstance(call("vacuum", "--retention", "1d").exception, SettingsError)
    unknown = call("status", "--stream", "no.such").exception
    assert isinstance(unknown, SettingsError)
    assert "orders" in str(unknown)
    assert call("status", "--stream", "returns").stdout == "the event log is empty\n"
