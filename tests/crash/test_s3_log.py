"""Exactly once with an event log on an S3 server: killed workers, zombies, and compaction at the same time."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING

import pytest

from headrace.errors import FencedError
from headrace.event_log.maintenance import CompactionSizes, compact
from tests.support.artifact_servers import BUCKET
from tests.support.crash.comparison import compare
from tests.support.crash.faults import WORK_STEPS, a_zombie, a_zombie_at, killed_at
from tests.support.crash.lanes import begin
from tests.support.crash.scene import Scene
from tests.support.s3_processes import s3_process

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


@pytest.mark.timeout(300)
def test_workers_that_die_and_wake_up_are_exact_on_s3_while_its_log_is_compacted(
    services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(11)
    with s3_process() as address:
        environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": address}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        scene = Scene(
            services.bootstrap_servers, services.valkey, namespace, tmp_path / "scene", seed=11,
            event_log=f"s3://{BUCKET}/{namespace}", environment=environment,
        )  # fmt: skip
        try:
            scene.start()
            scene.produce(500)
            begin(scene)
            stop = Event()
            with ThreadPoolExecutor(1) as thread, scene.flow(400):
                compacted = thread.submit(compact_until, stop, scene)
                try:
                    for step in WORK_STEPS:
                        killed_at(step, scene, chance)
                    zombies = [scene.worker]
                    for step in chance.sample(WORK_STEPS, 2):
                        a_zombie_at(step, scene, chance)
                        zombies.append(scene.worker)
                    a_zombie(scene, chance)
                finally:
                    stop.set()
            scene.await_end(120)
            late = commits(scene)
            found = compare(scene)
        finally:
            scene.close()
    assert found.is_exact, found
    assert scene.deaths.total() >= len(WORK_STEPS)
    assert sum(zombie.refusals() for zombie in zombies) > 0, "no zombie woke up to write anything"
    assert compacted.result() + late > 0


def compact_until(stop: Event, scene: Scene) -> int:
    """Compact the log again and again. Return how many commits replaced files."""
    made = 0
    while not stop.wait(1):
        with suppress(FencedError):  # a writer came between each time: as the upkeep does, it is done later
            made += commits(scene)
    return made


def commits(scene: Scene) -> int:
    """Compact the log now. Return how many commits replaced files."""
    return sum(1 for _ in compact(scene.log, scene.topic, int(time.time()), CompactionSizes(least_files=4)))
