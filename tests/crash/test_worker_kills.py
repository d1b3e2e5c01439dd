"""Exactly once, with workers that die, share, contend, sleep and stop: see test_kills.py for very many of them."""

from __future__ import annotations

import random
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.crash.comparison import compare
from tests.support.crash.faults import WORK_STEPS, a_zombie, a_zombie_at
from tests.support.crash.lanes import begin, recover
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.crash.scene import Scene

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]


def ends_exact(scene: Scene) -> None:
    scene.await_end()
    found = compare(scene)
    assert found.is_exact, found


def test_two_workers_that_both_own_everything_count_nothing_twice(scene: Scene) -> None:
    """Each has a group of its own, so Kafka gives every partition to both: only the fences keep them apart."""
    rivals = [scene.start(), scene.start()]
    with scene.flow(2_000):
        until(lambda: all(rival.refusals() >= 2 for rival in rivals), 60, lambda: [r.refusals() for r in rivals])
    scene.kill(rivals[0], "rival")
    ends_exact(scene)


def test_a_rebalance_and_a_killed_member_lose_and_double_nothing(scene: Scene) -> None:
    first = scene.start(group=scene.group)
    with scene.flow(2_000):
        until(lambda: sum(scene.folded()) > 500, 20)
        scene.start(group=scene.group)
        time.sleep(2)
        scene.kill(first, "rebalance")
        third = scene.start(group=scene.group)
        time.sleep(1)
    scene.await_end()
    third.terminate()
    assert third.join(20)
    assert third.exitcode == 0
    scene.produce(500)
    ends_exact(scene)


def test_zombies_that_wake_up_with_writes_in_their_hands_count_nothing_twice(scene: Scene) -> None:
    chance = random.Random(5)
    scene.start()
    begun(scene)
    zombies = []
    with scene.flow(500):
        for step in (*WORK_STEPS, *WORK_STEPS):
            zombies.append(scene.worker)
            a_zombie_at(step, scene, chance)
        for _ in range(4):
            zombies.append(scene.worker)
            a_zombie(scene, chance)
    assert scene.deaths["zombie"] == len(zombies) == 12
    assert sum(zombie.refusals() for zombie in zombies) > 0, "no zombie woke up to write anything"
    ends_exact(scene)


def test_a_zombie_that_its_group_gave_up_goes_on_as_a_member(scene: Scene) -> None:
    zombie = scene.start(group=scene.group)
    with scene.flow(500):
        for _ in range(2):
            until(lambda: min(scene.folded()) > 0, 20)
            zombie.signal(signal.SIGSTOP)
            other = scene.start(group=scene.group)
            until(partial(scene.reached, scene.till.ends()), 60)
            zombie.signal(signal.SIGCONT)
            time.sleep(1)
            zombie = other
        recovered = recover(scene, "zombie")
    assert not recovered.mismatched
    assert [worker.is_alive() for worker in scene.workers] == [True, True, True]
    ends_exact(scene)


def test_a_revoked_partition_is_flushed_before_its_next_owner_reads_it(scene: Scene) -> None:
    first = scene.start(group=scene.group, flush_s=3_600)
    scene.produce(2_000)
    until(lambda: scene.folded() == scene.till.ends(), 20)
    assert scene.logged() == [0, 0]
    scene.start(group=scene.group, flush_s=3_600)
    until(lambda: scene.logged() == scene.till.ends(), 20)  # nothing else than the revocation asks for a flush
    assert first.is_alive()
    first.terminate()
    assert first.join(20)
    scene.worker.terminate()
    assert scene.worker.join(20)
    assert compare(scene).is_exact


def test_a_stopped_worker_leaves_everything_in_the_log(scene: Scene) -> None:
    worker = scene.start()
    scene.produce(3_000)
    until(lambda: scene.folded() == scene.till.ends(), 20)
    worker.terminate()
    assert worker.join(20)
    assert worker.exitcode == 0
    assert scene.logged() == scene.till.ends()
    assert compare(scene).is_exact


def begun(scene: Scene) -> None:
    scene.produce(500)
    begin(scene)
