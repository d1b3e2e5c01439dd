"""Processes of the HTTP server are judged by whether they run, and are replaced without a gap."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from uvicorn.config import STARTUP_FAILURE

from headrace.serving.http import worker_processes
from headrace.serving.http.bounded_protocol import BoundedConfig
from headrace.serving.http.worker_processes import WorkerProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator


class Standing:
    """Stands for a process: what it is told, and what it would say."""

    made: list[Standing]

    def __init__(self, *_: Any) -> None:
        self.pid = 100 + len(self.made)
        self.runs, self.serves = True, False
        self.exitcode: int | None = None
        self.told: list[str] = []
        self.process = SimpleNamespace(is_alive=lambda: self.runs)
        self.made.append(self)

    def start(self) -> None:
        self.told.append("start")

    def terminate(self) -> None:
        self.told.append("terminate")

    def join(self) -> None:
        self.told.append("join")

    def kill(self) -> None:
        raise AssertionError("a process that runs is never killed")

    def is_serving(self) -> bool:
        return self.serves

    def is_alive(self, *_: Any) -> bool:
        raise AssertionError("nobody waits for an answer")


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcesses]:
    before = {number: signal.getsignal(number) for number in signal.Signals if number.name != "SIGKILL"}
    Standing.made = []
    monkeypatch.setattr(worker_processes, "WorkerProcess", Standing)
    made = WorkerProcesses(BoundedConfig("a:b", workers=2), [])
    made.init_processes()
    yield made
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


def pids(processes: WorkerProcesses) -> list[int | None]:
    return [process.pid for process in processes.processes]


def test_a_process_that_starts_slowly_is_left_alone(processes: WorkerProcesses) -> None:
    for _ in range(100):
        processes.keep_subprocess_alive()
    assert pids(processes) == [100, 101]
    assert [each.told for each in Standing.made] == [["start"]] * 2


def test_a_process_that_died_is_replaced(processes: WorkerProcesses) -> None:
    Standing.made[0].runs = False
    for _ in range(5):
        processes.keep_subprocess_alive()
    assert pids(processes) == [102, 101]


def test_a_process_that_cannot_start_ends_the_server(processes: WorkerProcesses) -> None:
    Standing.made[0].runs, Standing.made[0].exitcode = False, STARTUP_FAILURE
    processes.keep_subprocess_alive()
    assert processes.should_exit.is_set()
    assert len(Standing.made) == 2


def test_a_reload_stops_an_old_process_when_its_replacement_serves(processes: WorkerProcesses) -> None:
    processes.restart_all()
    first, second = Standing.made
    for _ in range(10):
        processes.keep_subprocess_alive()
    assert (len(Standing.made), pids(processes)) == (3, [100, 101])
    assert first.told == second.told == ["start"]
    for expected in ([102, 101], [102, 103]):
        Standing.made[-1].serves = True
        processes.keep_subprocess_alive()
        assert pids(processes) == expected
        processes.keep_subprocess_alive()
    assert first.told == second.told == ["start", "terminate"]
    for _ in range(5):
        processes.keep_subprocess_alive()
    assert len(Standing.made) == 4


def test_a_reload_that_cannot_start_keeps_the_old_processes(processes: WorkerProcesses) -> None:
    processes.restart_all()
    processes.keep_subprocess_alive()
    Standing.made[-1].runs = False
    for _ in range(5):
        processes.keep_subprocess_alive()
    assert (len(Standing.made), pids(processes)) == (3, [100, 101])


def test_an_old_process_that_dies_in_a_reload_is_replaced_once(processes: WorkerProcesses) -> None:
    processes.restart_all()
    processes.keep_subprocess_alive()
    for old in Standing.made[:2]:
        old.runs = False
    processes.keep_subprocess_alive()
    Standing.made[2].serves = True
    for _ in range(5):
        processes.keep_subprocess_alive()
    assert pids(processes) == [103, 104]
    assert Standing.made[2].told == ["start", "terminate"]
    assert len(Standing.made) == 5


def test_the_end_waits_for_every_process(processes: WorkerProcesses) -> None:
    processes.restart_all()
    processes.keep_subprocess_alive()
    Standing.made[-1].serves = True
    processes.keep_subprocess_alive()
    processes.keep_subprocess_alive()
    processes.terminate_all()
    processes.join_all()
    assert [each.told[-2:] for each in Standing.made] == [["terminate", "join"]] * 4
