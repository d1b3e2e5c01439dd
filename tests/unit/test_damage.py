"""Files of the event log that a power cut tears: each is named, none ends a reader with a foreign error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from headrace.app.doctor.event_log import check_table
from headrace.app.doctor.finding import Severity
from headrace.errors import LogDamagedError, OfflineStoreUnavailableError
from headrace.event_log.damage import find_damage, set_aside
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from tests.support.ping_log import ZERO, append, offsets, pings

COMMITS, ROWS = 5, 3


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    """A log of fifteen rows in five commits."""
    log = EventLog(tmp_path / "events")
    writer = LogWriter(log, pings)
    for number in range(1, COMMITS + 1):
        append(writer, ZERO, number * ROWS)
    return log


def commit(log: EventLog, version: int) -> Path:
    folder = log.folder("pings")
    assert folder is not None
    return folder / "_delta_log" / f"{version:020}.json"


def rows_of(log: EventLog, version: int) -> Path:
    actions = map(json.loads, commit(log, version).read_text().splitlines())
    (name,) = [action["add"]["path"] for action in actions if "add" in action]
    return commit(log, version).parents[1] / str(name)


def test_a_whole_log_has_no_damage(log: EventLog, tmp_path: Path) -> None:
    assert find_damage(log, "pings") == find_damage(log, "none") == find_damage(EventLog("s3://b/x"), "pings") == []
    assert [found.severity for found in check_table(log, "pings")] == [Severity.OK]
    assert list(check_table(EventLog(tmp_path / "nothing"), "pings")) == []


@pytest.mark.parametrize("left", [0, 1, 11, 100, -1])
@pytest.mark.parametrize("version", [1, COMMITS])
def test_a_torn_file_of_rows_is_named_and_is_an_error_of_the_log(log: EventLog, version: int, left: int) -> None:
    file = rows_of(log, version)
    os.truncate(file, left % file.stat().st_size)
    for read in (log.read, lambda topic: log.select(topic, None), lambda topic: log.read_from(topic, ZERO, 0)):
        with pytest.raises(OfflineStoreUnavailableError, match="headrace doctor"):
            read("pings")
    (found,) = find_damage(log, "pings")
    assert (found.file, found.lowest) == (file, (version - 1) * ROWS)
    (said,) = check_table(log, "pings")
    assert (said.severity, file.name in said.found, "3 rows" in said.found) == (Severity.ERROR, True, True)
    assert "repair --restore" in said.advice


def test_a_file_of_zeros_and_a_missing_file_are_named(log: EventLog) -> None:
    zeros, gone = rows_of(log, 2), rows_of(log, 3)
    zeros.write_bytes(bytes(zeros.stat().st_size))
    gone.unlink()
    assert {found.file for found in find_damage(log, "pings")} == {zeros, gone}
    with pytest.raises(LogDamagedError, match="headrace repair"):
        log.read_from("pings", ZERO, ROWS, 2 * ROWS)


@pytest.mark.parametrize("version", [2, COMMITS])
@pytest.mark.parametrize("left", [0, 50])
def test_a_torn_commit_is_named_and_set_aside(log: EventLog, version: int, left: int) -> None:
    file = commit(log, version)
    os.truncate(file, left)
    (found,) = find_damage(log, "pings")
    assert (found.file, found.holds_rows) == (file, False)
    set_aside(log, [found], "power cut")
    assert find_damage(log, "pings") == []
    lost = set(range((version - 1) * ROWS, version * ROWS))
    assert offsets(log.read("pings")) == sorted(set(range(COMMITS * ROWS)) - lost)
    assert (file.parents[1] / "_damaged" / file.name).stat().st_size == left


@pytest.mark.parametrize("left", [0, 100])
def test_a_torn_checkpoint_and_its_pointer_are_set_aside_and_nothing_is_lost(log: EventLog, left: int) -> None:
    log.table("pings").create_checkpoint()
    folder = commit(log, 0).parent
    os.truncate(next(folder.glob("*.checkpoint.parquet")), left)
    os.truncate(folder / "_last_checkpoint", 0)
    damage = find_damage(log, "pings")
    assert len(damage) == 2
    set_aside(log, damage, "power cut")
    assert offsets(log.read("pings")) == list(range(COMMITS * ROWS))
    append(LogWriter(log, pings), ZERO, COMMITS * ROWS + 1)


def test_rows_that_are_set_aside_leave_the_log_and_d_stays(log: EventLog) -> None:
    os.truncate(rows_of(log, 3), 10)
    set_aside(log, find_damage(log, "pings"), "power cut")
    assert offsets(log.read("pings")) == [*range(6), *range(9, 15)]
    assert LogWriter(log, pings).position(ZERO) == COMMITS * ROWS
    assert log.table("pings").history(1)[0]["headrace.reason"] == "power cut"


def test_a_commit_is_on_the_disk_before_it_counts(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(opened: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{opened}").readlink()))
        real(opened)

    monkeypatch.setattr(os, "fsync", fsync)
    append(LogWriter(log, pings), ZERO, 16)
    wanted = [rows_of(log, 6), commit(log, 6).parents[1], commit(log, 6), commit(log, 6).parent]
    assert [str(path) for path in wanted] == synced
