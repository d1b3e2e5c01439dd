"""Imports in real processes that are killed, at each named step and at several steps one after the other."""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from headrace.base.failpoints import arm
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.event_log.event_log import EventLog
from headrace.event_log.imports import Imports
from headrace.streams.imports import file_pieces, history_import
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.history_import import HistoryImport, ImportOptions, undo
from headrace.streams.imports.source_file import find_files
from tests.support.crash.faults import named_steps_of_imports
from tests.support.processes import end_with_the_test_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
ROWS, PIECE, FILE = 1_000, 150, 220
STEPS = {
    "after-import-piece:1", "after-import-piece:5", "after-import-file:1", "after-import-file:4",
    "before-import:1", "after-import:1",
}  # fmt: skip
AGAIN = {"after-import-piece:5", "after-import-file:4", "after-import:1"}
"""Those at a later place, and one that another test has too."""
T0 = datetime(2024, 1, 1, tzinfo=UTC)


class Visit(Event):
    number: int
    at: datetime


visits = Stream("visits", Visit, event_time="at")


@dataclass(frozen=True)
class Job:
    """What a process is given: a folder, whether it undoes, and where it is killed."""

    folder: Path
    failpoint: str | None = None
    undoes: bool = False


def work(job: Job) -> None:
    """Import the file of the folder, in small pieces; or undo the import of it."""
    end_with_the_test_run()
    arm(job.failpoint)
    file_pieces.PIECE_ROWS, history_import.FILE_ROWS = PIECE, FILE
    log = EventLog(job.folder / "log")
    if job.undoes:
        undo(log, "visits", Imports(log).all()[0].id, 1)
        return
    options = ImportOptions(Availability.of(visits, "event_time+5m"))
    run = HistoryImport(log, visits, job.folder / "spool", options, _silent)
    run.run(find_files([str(job.folder / "visits.parquet")]), 0)


@contextmanager
def _silent(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def run(job: Job) -> int | None:
    process = PROCESSES.Process(target=work, args=(job,))
    process.start()
    process.join(60)
    return process.exitcode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    times = [T0 + timedelta(seconds=(number * 7) % ROWS) for number in range(ROWS)]
    pl.DataFrame({"number": range(ROWS), "at": times}).write_parquet(tmp_path / "visits.parquet")
    return tmp_path


def check(folder: Path) -> None:
    """Every row is there once, in the order of its time, and nothing is left beside the log."""
    rows = EventLog(folder / "log").read("visits")
    assert rows["__offset"].to_list() == list(range(ROWS))
    assert rows["__available_at"].is_sorted()
    assert sorted(rows["number"]) == list(range(ROWS))
    assert list((folder / "spool").iterdir()) == []
    assert len(Imports(EventLog(folder / "log")).of("visits")) == 1


def test_every_step_of_an_import_has_its_kill() -> None:
    assert named_steps_of_imports() == {step.partition(":")[0] for step in STEPS} | {"after-undo-note"}


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[pytest.mark.long] if step in AGAIN else []) for step in sorted(STEPS)]
)
def test_an_import_that_was_killed_goes_on_and_counts_once(folder: Path, step: str) -> None:
    assert run(Job(folder, step)) == -signal.SIGKILL
    log = EventLog(folder / "log")
    assert not log.exists("visits") or log.read("visits").height in {0, ROWS}, "readers see all of it or nothing"
    assert run(Job(folder)) == 0
    check(folder)
    assert run(Job(folder)) == 0
    check(folder)


def test_an_import_that_is_killed_again_and_again_ends(folder: Path) -> None:
    for step in ("after-import-piece:3", "after-import-file:1", "after-import-file:3", "before-import:1"):
        assert run(Job(folder, step)) == -signal.SIGKILL
    assert run(Job(folder, "after-import:1")) == -signal.SIGKILL
    assert run(Job(folder)) == 0
    check(folder)


def test_an_undo_that_was_killed_goes_on(folder: Path) -> None:
    assert run(Job(folder)) == 0
    assert run(Job(folder, "after-undo-note", undoes=True)) == -signal.SIGKILL
    assert [each.state for each in Imports(EventLog(folder / "log")).all()] == ["undone"]
    assert run(Job(folder, undoes=True)) == 0
    assert EventLog(folder / "log").read("visits").is_empty()
    assert run(Job(folder)) == 0
    check(folder)
