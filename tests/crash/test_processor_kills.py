"""Processors are killed and stopped under flow: readers of committed records see each output once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.crash.faults import named_steps_of_processors
from tests.support.processor_project import ProcessorProject, offsets, payment, stopped
from tests.support.waiting import until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.crash]
STEPS = ["before-process-write", "before-process-offsets", "before-process-commit", "after-process-commit"]
SMALL = {"HEADRACE_PROCESS_BATCH_SIZE": "50"}
ROWS = 400


def died(process: subprocess.Popen[bytes]) -> bool:
    return process.wait(60) == -signal.SIGKILL


def test_every_step_is_killed() -> None:
    assert named_steps_of_processors() == set(STEPS)


@pytest.mark.long
@pytest.mark.parametrize("steps", [STEPS[:2], STEPS[2:]], ids=["before the offsets", "at the commit"])
def test_a_processor_that_is_killed_writes_each_output_once(
    services: LocalServices, namespace: str, tmp_path: Path, steps: list[str]
) -> None:
    project = ProcessorProject(services, namespace, tmp_path)
    for number, step in enumerate(steps):
        project.put(*(payment(ROWS * number + row) for row in range(ROWS)))
        with project.process(FAILPOINT=f"{step}:{3 + number}", **SMALL) as process:
            assert died(process), project.log()
    count = ROWS * len(steps)
    with project.process(**SMALL) as process:
        project.await_committed(count)
        assert stopped(process) == 0
    assert sorted(project.alerted()) == list(range(count))
    assert offsets(project.servers, project.alerts) > count + 4 * len(steps), "there were no transactions"


@pytest.mark.long
def test_one_of_two_that_share_partitions_is_killed(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    project = ProcessorProject(services, namespace, tmp_path)
    with project.process(instance="b", **SMALL) as other:
        project.put(*map(payment, range(ROWS)))
        project.await_committed(ROWS)
        with project.process(instance="a", FAILPOINT="before-process-commit:3", **SMALL) as process:
            count = ROWS
            while process.poll() is None:  # it gets partitions while events flow
                project.put(*map(payment, range(count, count + 100)))
                count += 100
            assert died(process), project.log()
        project.put(*map(payment, range(count, count + ROWS)))
        project.await_committed(count + ROWS)
        assert stopped(other) == 0
    assert sorted(project.alerted()) == list(range(count + ROWS))


@pytest.mark.long
def test_a_zombie_writes_nothing(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    """It stops in a transaction; another takes its partitions; then it goes on, as if nothing had been."""
    project = ProcessorProject(services, namespace, tmp_path)
    project.put(*map(payment, range(ROWS)))
    with project.process(instance="a", FAILPOINT="before-process-offsets:4:SIGSTOP", **SMALL) as zombie:
        until(lambda: 0 < project.committed() < ROWS, 30, project.log)
        with project.process(instance="b", **SMALL) as other:
            project.await_committed(ROWS)
            project.put(*map(payment, range(ROWS, 2 * ROWS)))
            zombie.send_signal(signal.SIGCONT)
            project.await_committed(2 * ROWS)
            project.put(*map(payment, range(2 * ROWS, 3 * ROWS)))
            project.await_committed(3 * ROWS)
            assert stopped(other) == 0
        assert stopped(zombie) == 0
    assert sorted(project.alerted()) == list(range(3 * ROWS))
    assert "another process of this id" in project.log() or "was given up" in project.log()
