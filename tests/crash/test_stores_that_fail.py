"""Exactly once, with a Redis, a broker and an event log that die, forget, or take nothing, while events flow."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from headrace.errors import OnlineStoreUnavailableError
from tests.support.crash import faults
from tests.support.crash.comparison import compare, inconsistent, least
from tests.support.crash.disk import Disk
from tests.support.crash.lanes import begin, recover
from tests.support.crash.scene import Scene, served
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from tests.support.crash.faults import Fault

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]

FORGETS = [
    faults.redis_emptied,
    faults.redis_killed,
    faults.redis_restarted,
    faults.redis_rolled_back,
    faults.redis_lost_cursors,
    faults.redis_old_cursors,
]


def goes_on(scene: Scene, fault: Fault, chance: random.Random, *, survives: bool = True) -> None:
    """After the fault the same worker becomes exact, while more comes."""
    worker = scene.worker
    fault(scene, chance)
    found = recover(scene, str(fault))
    assert not found.mismatched
    assert worker.is_alive() == survives


def ends_exact(scene: Scene) -> None:
    scene.await_end()
    found = compare(scene)
    assert found.is_exact, found


@pytest.mark.parametrize("fault", FORGETS)
def test_redis_becomes_exact_again_whatever_was_lost_while_events_flow(scene: Scene, fault: Fault) -> None:
    chance = random.Random(3)
    scene.start()
    with scene.flow(1_000):
        begin(scene)
        for _ in range(4):
            goes_on(scene, fault, chance)
    ends_exact(scene)


def test_a_redis_that_was_rolled_back_while_no_worker_ran_becomes_exact(scene: Scene) -> None:
    chance = random.Random(4)
    scene.start()
    with scene.flow(1_000):
        begin(scene)
        for _ in range(4):
            goes_on(scene, faults.redis_rolled_back_unseen, chance, survives=False)
    ends_exact(scene)


def test_a_redis_that_is_emptied_is_noticed_and_rebuilt_by_the_heartbeat_alone(scene: Scene) -> None:
    scene.start()
    scene.produce(5_000)
    scene.await_end()
    before = scene.folded()
    scene.redis.flushall()
    noticed_within(2.0, scene, before)
    scene.await_end(10)
    scene.produce(1_000)
    ends_exact(scene)


def test_a_redis_that_is_rolled_back_is_noticed_and_never_silently_wrong(scene: Scene) -> None:
    scene.start()
    scene.produce(3_000)
    until(lambda: sum(scene.folded()) > 0, 20)
    scene.redis.save()
    scene.produce(5_000)
    scene.await_end()
    before = scene.folded()
    scene.valkey.kill()
    with pytest.raises(OnlineStoreUnavailableError):
        scene.look_up()
    scene.valkey.restart()
    noticed_within(3.0, scene, before)
    scene.await_end(10)
    scene.produce(500)
    ends_exact(scene)


def noticed_within(seconds: float, scene: Scene, before: list[int]) -> None:
    """Each look-up gives the values of its own V, and after a while none of an old V as if it were the present one."""
    start = time.monotonic()
    while time.monotonic() < start + seconds + 1.0:
        asked = time.monotonic()
        found = scene.look_up()
        assert inconsistent(scene, found) == []
        behind = any(now < then for now, then in zip(least(found), before, strict=True))
        assert not (behind and served(found) and asked > start + seconds), (least(found), before)
        time.sleep(0.02)


def test_a_worker_that_starts_waits_for_a_redis_that_is_away(scene: Scene) -> None:
    scene.valkey.kill()
    worker = scene.start()
    scene.produce(2_000)
    time.sleep(1.0)
    scene.valkey.restart()
    ends_exact(scene)
    assert worker.is_alive()


def test_a_broker_that_is_killed_again_and_again_while_events_flow(scene: Scene, services: LocalServices) -> None:
    chance = random.Random(6)

    def killed(_: Scene, chance: random.Random) -> None:
        services.kafka.kill()
        time.sleep(chance.uniform(0, 1.5))
        services.kafka.restart()

    scene.start()
    with scene.flow(1_000):
        begin(scene)
        for _ in range(3):
            goes_on(scene, killed, chance)
    ends_exact(scene)


def test_a_disk_that_is_full_at_a_flush_loses_nothing(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    chance, disk = random.Random(8), Disk(tmp_path / "disk")
    scene = Scene(
        services.bootstrap_servers, services.valkey, namespace, tmp_path / "disk" / "events", seed=8, disk=disk
    )
    try:
        scene.start()
        with scene.flow(1_000):
            begin(scene)
            for _ in range(3):
                goes_on(scene, faults.disk_full, chance)
            goes_on(scene, faults.disk_full_and_killed, chance, survives=False)
        ends_exact(scene)
    finally:
        scene.close()
        disk.close()


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
    ends_exact(scene)
    assert worker.is_alive()
