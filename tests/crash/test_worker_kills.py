"""Exactly once: whatever dies, however often, each record counts once online and stands once in the event log."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from headrace.errors import OnlineStoreUnavailableError
from headrace.serving.features import Status
from tests.crash.scene import Scene, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow]
STEPS = ["before-redis", "after-redis", "before-delta", "after-delta"]


@pytest.fixture
def scene(services: LocalServices, namespace: str, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(services, namespace, tmp_path / "events", seed=7)
    yield scene
    scene.close()


def test_a_worker_killed_anywhere_any_number_of_times_loses_and_doubles_nothing(scene: Scene) -> None:
    chance = random.Random(11)
    deaths = [None, *(f"{step}:{count}" for step in STEPS for count in (1, 2, 7))] * 2
    chance.shuffle(deaths)
    for failpoint in deaths:
        worker = scene.start(failpoint=failpoint)
        scene.produce(chance.randrange(400, 1_200))
        if failpoint is None:
            time.sleep(chance.uniform(0.0, 0.5))
            worker.kill()
        until(partial(died, worker, scene), 60, partial(str, failpoint))
        assert worker.exitcode == -signal.SIGKILL
    for _ in range(6):
        worker = scene.start()
        scene.produce(800)
        worker.join(chance.uniform(0.2, 1.0))
        worker.kill()
        worker.join()
    scene.start()
    scene.await_end()
    scene.check_look_ups()
    scene.check_log()


def died(worker: BaseProcess, scene: Scene) -> bool:
    """Whether it is dead; if not, more to do brings it to its failpoint."""
    worker.join(0.05)
    if worker.exitcode is None:
        scene.produce(50)
    return worker.exitcode is not None


def test_a_redis_that_is_emptied_is_noticed_and_rebuilt(scene: Scene) -> None:
    scene.start()
    scene.produce(5_000)
    scene.await_end()
    scene.look_up()
    before = scene.folded()
    scene.store._redis.flushall()
    noticed_within(2.0, scene, before)
    scene.await_end(10)  # by the heartbeat alone: nothing new came
    scene.produce(1_000)
    scene.await_end()
    scene.check_look_ups()
    scene.check_log()


def test_a_redis_restored_to_an_old_snapshot_is_noticed_and_caught_up(scene: Scene, services: LocalServices) -> None:
    scene.start()
    scene.produce(3_000)
    until(lambda: sum(scene.folded()) > 0, 20)
    valkey = services.valkey
    scene.store._redis.save()
    snapshot = (valkey.folder / "dump.rdb").read_bytes()
    scene.produce(5_000)
    scene.await_end()
    before = scene.folded()
    valkey.kill()
    with pytest.raises(OnlineStoreUnavailableError):
        scene.look_up()
    (valkey.folder / "dump.rdb").write_bytes(snapshot)
    valkey.restart()
    noticed_within(3.0, scene, before)
    scene.await_end(10)
    scene.produce(500)
    scene.await_end()
    scene.check_look_ups()
    scene.check_log()


def noticed_within(seconds: float, scene: Scene, before: list[int]) -> None:
    """Each look-up gives the values of its own V, and after a while none of an old V as if it were the present one."""
    start = time.monotonic()
    while time.monotonic() < start + seconds + 1.0:
        asked = time.monotonic()
        found = scene.look_up()
        least = scene.check_consistent(found)
        behind = any(now < then for now, then in zip(least, before, strict=True))
        served = {found.statuses(row)["user"] for row in range(found.rows)} <= {Status.PRESENT, Status.MISSING}
        assert not (behind and served and asked > start + seconds), (least, before)
        time.sleep(0.02)


def test_two_workers_that_both_own_everything_count_nothing_twice(scene: Scene) -> None:
    """Each has a group of its own, so Kafka gives every partition to both: only the fences keep them apart."""
    rivals = [scene.start(), scene.start()]
    for _ in range(20):
        scene.produce(300)
        time.sleep(0.1)
    rivals[0].kill()
    scene.await_end()
    scene.check_look_ups()
    scene.check_log()


def test_a_rebalance_and_a_killed_member_lose_and_double_nothing(scene: Scene) -> None:
    first = scene.start(own_group=False)
    scene.produce(2_000)
    until(lambda: sum(scene.folded()) > 500, 20)
    scene.start(own_group=False)
    for _ in range(20):
        scene.produce(200)
        time.sleep(0.1)
    first.kill()
    scene.produce(1_000)
    third = scene.start(own_group=False)
    scene.await_end()
    third.terminate()
    third.join(20)
    assert third.exitcode == 0
    scene.produce(500)
    scene.await_end()
    scene.check_look_ups()
    scene.check_log()


def test_a_zombie_that_wakes_up_counts_nothing_twice(scene: Scene) -> None:
    zombie = scene.start(own_group=False)
    scene.produce(3_000)
    until(lambda: sum(scene.folded()) > 1_000, 20)
    pid = zombie.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    scene.produce(2_000)
    scene.start(own_group=False)
    scene.await_end()  # the group has given the zombie up
    os.kill(pid, signal.SIGCONT)
    for _ in range(10):
        scene.produce(200)
        time.sleep(0.1)
    scene.await_end()
    assert zombie.is_alive()
    scene.check_look_ups()
    scene.check_log()


def test_a_stopped_worker_leaves_everything_in_the_log(scene: Scene) -> None:
    worker = scene.start()
    scene.produce(3_000)
    until(lambda: scene.folded() == scene.till.ends(), 20)
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0
    assert scene.logged() == scene.till.ends()
    scene.check_log()
    scene.check_look_ups()


def test_a_worker_waits_for_a_store_that_is_away_at_any_time(scene: Scene, services: LocalServices) -> None:
    services.valkey.kill()
    worker = scene.start()
    scene.produce(2_000)
    time.sleep(1.0)
    services.valkey.restart()
    scene.await_end()
    services.valkey.restart(crash=True)  # nothing was saved
    scene.produce(500)
    scene.await_end()
    assert worker.is_alive()
    scene.check_look_ups()
    scene.check_log()


def test_a_worker_waits_for_a_broker_that_is_away(scene: Scene, services: LocalServices) -> None:
    worker = scene.start()
    scene.produce(2_000)
    scene.await_end()
    services.kafka.restart(crash=True)
    scene.produce(2_000)
    scene.await_end()
    assert worker.is_alive()
    scene.check_look_ups()
    scene.check_log()


def test_a_worker_waits_for_an_event_log_that_is_away(scene: Scene, tmp_path: Path) -> None:
    worker = scene.start()
    scene.produce(2_000)
    scene.await_end()
    (tmp_path / "events").rename(tmp_path / "away")
    (tmp_path / "events").write_text("a file where the folder was")
    scene.produce(1_000)
    until(lambda: scene.folded() == scene.till.ends(), 30)  # online goes on
    time.sleep(0.5)
    (tmp_path / "events").unlink()
    (tmp_path / "away").rename(tmp_path / "events")
    scene.await_end()
    assert worker.is_alive()
    scene.check_look_ups()
    scene.check_log()
