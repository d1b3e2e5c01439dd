"""How a process ends at a signal: in order if it can, without its threads if they wait, and with its children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # a second and more for its scenes

WAITS = "import threading; threading.Event().wait()"
IN_C = """
import socket
from confluent_kafka.admin import AdminClient
mute = socket.create_server(("127.0.0.1", 0))
AdminClient({"bootstrap.servers": f"127.0.0.1:{mute.getsockname()[1]}", "log_level": 0}).list_topics(timeout=60)
"""
ON_ANOTHER_THREAD = "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()"
BELOW_POLARS = """
import os
import polars
polars.LazyFrame({"a": [1]}).select(polars.col("a").sum()).collect()
reading, writing = os.pipe()
print("reads", flush=True)
os.fdopen(reading).readline()
"""
AFTER_MAIN = """
import threading, time
def run():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    print("main thread is over", flush=True)
    time.sleep(60)
threading.Thread(target=run).start()
"""
BEFORE = """
from headrace.base.stopping import StopSignals
stop = StopSignals(grace_s=1.0)
stop.install()
print("ready", flush=True)
"""


class Started:
    """Programs that are killed after the test at the latest."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []

    def __call__(self, program: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program]
        started = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._running.append(started)
        return started

    def close(self) -> None:
        for each in self._running:
            each.kill()
            each.communicate()


@pytest.fixture
def start() -> Iterator[Started]:
    started = Started()
    yield started
    started.close()


def line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


@pytest.mark.parametrize("body", [WAITS, IN_C, ON_ANOTHER_THREAD], ids=["python", "in-c", "another-thread"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_process_wherever_it_waits(
    start: Started, body: str, number: signal.Signals, code: int
) -> None:
    program = start(BEFORE + body)
    assert line(program) == "ready"
    program.send_signal(number)
    by_itself = {-signal.SIGINT} if number == signal.SIGINT else set()  # Python's own end of a program
    assert program.wait(10) in {code, *by_itself}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_process_whose_main_thread_is_over(start: Started, number: signal.Signals, code: int) -> None:
    program = start(BEFORE + AFTER_MAIN)
    assert [line(program), line(program)] == ["ready", "main thread is over"]
    program.send_signal(number)
    assert program.wait(10) == code


def test_a_library_with_a_handler_of_its_own_does_not_keep_a_signal_from_a_thread_that_reads(start: Started) -> None:
    """Without the interruption the process ends when its grace period of a minute is over."""
    program = start(BEFORE.replace("1.0", "60.0") + BELOW_POLARS)
    assert [line(program), line(program)] == ["ready", "reads"]
    program.send_signal(signal.SIGINT)
    assert program.wait(30) == -signal.SIGINT  # Python's own end of a program


def test_a_registered_stop_is_called_and_the_process_ends_by_itself(start: Started) -> None:
    program = start(
        BEFORE
        + """
import threading
asked = threading.Event()
with stop.calling(asked.set):
    print("waits", flush=True)
    asked.wait()
print("in order", stop.asked.is_set(), flush=True)
"""
    )
    assert [line(program), line(program)] == ["ready", "waits"]
    program.send_signal(signal.SIGTERM)
    assert line(program) == "in order True"
    assert program.wait(10) == 0


def test_a_process_that_begins_again_keeps_its_id_and_arguments(start: Started, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        f"""
import os, sys, threading, pathlib
{BEFORE}
print(os.getpid(), sys.argv[1:], flush=True)
known = pathlib.Path({str(tmp_path / "known")!r})
asked = threading.Event()
if not known.exists():
    known.touch()
    with stop.calling(asked.set):
        stop.begin_again()
        asked.wait()
    stop.leave(0)
"""
    )
    program = start(f"import os, sys; os.execv(sys.executable, [sys.executable, {str(script)!r}, 'a', 'b c'])")
    said = [line(program) for _ in range(4)]
    assert said == ["ready", f"{program.pid} ['a', 'b c']"] * 2
    assert program.wait(10) == 0


FIT = """
from datetime import UTC, datetime
import pandas as pd
from headrace.trainers.runs.fitting import FitPool
from headrace.trainers.runs.fit_task import FitTask
from headrace.trainers.definitions import Run
from tests.unit.test_stop_signals import endless
{install}
if __name__ == "__main__":
    pool = FitPool()
    run = Run("m", "r", 0, *[datetime(2013, 1, 1, tzinfo=UTC)] * 2)
    pool.fit(FitTask(endless, pd.DataFrame({{"x": [1.0, 2.0]}}), pd.Series([True, False]), run))
"""


def endless(*_: object) -> object:
    """A train function that says who it is and never ends, in native code if it can."""
    Path(os.environ["FIT_PID"]).write_text(str(os.getpid()))
    while True:
        time.sleep(1)


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_fit_ends_with_its_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    pid_file, script = tmp_path / "pid", tmp_path / "trainer.py"
    script.write_text(FIT.format(install="from headrace.base.stopping import stop_signals; stop_signals.install()"))
    monkeypatch.setenv("FIT_PID", str(pid_file))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    program = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: pid_file.exists() and pid_file.read_text() != "", 60)
        child = int(pid_file.read_text())
        program.send_signal(number)
        assert program.wait(10) == code
        until(lambda: not lives(child), 5)
    finally:
        program.kill()
        program.wait()


def lives(pid: int) -> bool:
    """Return whether a process runs. One that has ended and is not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
