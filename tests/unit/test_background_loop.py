"""A loop in the background outlives whatever its step raises, and tells it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from headrace.base.background_loop import BackgroundLoop
from headrace.base.background_tasks import BackgroundTask, BackgroundTasks
from headrace.errors import BusUnavailableError
from tests.support.waiting import until


class PanicError(BaseException):
    """As a library in Rust raises it."""


@pytest.mark.parametrize("error", [ValueError("bad"), BusUnavailableError("away"), PanicError("panic"), SystemExit(3)])
def test_whatever_a_step_raises_is_shown_and_tried_again(error: BaseException) -> None:
    tasks, works, calls = BackgroundTasks(), threading.Event(), threading.Semaphore(0)

    def step() -> None:
        calls.release()
        if not works.is_set():
            raise error

    loop = BackgroundLoop("test", step, pause_s=0.001, retry_s=0.001, tasks=tasks)
    loop.start()
    try:
        for _ in range(3):
            assert calls.acquire(timeout=20)
        failing = tasks.failing()
        assert [(each.name, each.error) for each in failing] == [("test", f"{type(error).__name__}: {error}")]
        assert failing[0].failures >= 2
        assert loop.is_running
        works.set()
        until(lambda: not tasks.failing(), 20)
        assert loop.status.failures_total >= 2
        assert loop.status.succeeded_us is not None
    finally:
        loop.stop()
    assert tasks.statuses() == []
    assert not loop.is_running


def test_a_loop_that_is_started_again_has_one_thread_even_if_its_last_step_hangs() -> None:
    hang, seen = threading.Event(), set[int]()

    def step() -> None:
        seen.add(threading.get_ident())
        hang.wait(20)

    loop = BackgroundLoop("test", step, pause_s=0.001)
    loop.start()
    until(lambda: len(seen) == 1, 20)
    first = next(thread for thread in threading.enumerate() if thread.ident in seen)
    loop.stop(0.01)
    loop.start()
    until(lambda: len(seen) == 2, 20)
    hang.set()
    first.join(20)
    assert not first.is_alive()
    assert loop.is_running
    loop.stop()


def test_a_step_that_hangs_is_silent() -> None:
    now_us = 1_000
    loop = BackgroundLoop("test", lambda: None, clock=lambda: now_us)
    now_us += 70
    assert loop.silent_us == 70


def test_the_same_error_is_logged_when_its_number_has_doubled_and_another_one_at_once() -> None:
    now_us = 5
    task = BackgroundTask("upkeep sales", lambda: now_us)
    with capture_logs() as logs:
        for number in range(1, 9):
            now_us += 1
            with task.attempt():
                raise BusUnavailableError("away")
            assert (task.status.failures, task.status.since_us) == (number, 6)
        with task.attempt():
            raise ValueError("bad")
        with task.attempt():
            pass
    assert [entry["failures"] for entry in logs] == [1, 2, 4, 8, 9, 9]
    assert [bool(entry.get("exc_info")) for entry in logs] == [False] * 4 + [True, False]
    assert (task.status.error, task.status.failures, task.status.failures_total) == (None, 0, 9)
    assert (task.status.since_us, task.status.succeeded_us) == (13, 13)


def test_a_request_to_end_is_no_failure_and_goes_on() -> None:
    task = BackgroundTask("agent")
    with pytest.raises(asyncio.CancelledError), task.attempt():
        raise asyncio.CancelledError
    assert task.status.failures_total == 0
