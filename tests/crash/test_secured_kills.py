"""The same stream and view on an open Kafka, on one that wants passwords, and on one that wants certificates.

Nothing but the address and the properties of the clients differs. Workers die at every named step, wake up as zombies
and share their partitions; then the event log and every value are compared with what was produced.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from headrace.app.local.valkey import LocalValkey
from headrace.bus.kafka_servers import KafkaServers
from headrace.models.mlflow_registry import MlflowRegistry
from tests.support.crash.comparison import compare
from tests.support.crash.faults import CATALOGUE, CATCH_UP_STEPS, TAKE_OVER_STEPS, WORK_STEPS
from tests.support.crash.lanes import begin
from tests.support.crash.scene import Scene
from tests.support.crash.trainer_lane import TrainerLane
from tests.support.crash.trainer_versions import check_versions
from tests.support.secured_kafka import SecuredKafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
STEPS = (*WORK_STEPS, *TAKE_OVER_STEPS, *CATCH_UP_STEPS)
FAULTS = [
    *(f"killed {step}" for step in STEPS),
    "killed in a rebalance",
    "stopped, replaced, woken",
    *(f"stopped {step}, woken" for step in WORK_STEPS),
]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One broker with the three listeners."""
    running = SecuredKafka(tmp_path_factory.mktemp("secured") / "kafka")
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[LocalValkey]:
    """One that a fault may empty."""
    running = LocalValkey(tmp_path / "valkey")
    try:
        running.launch()
        running.await_ready()
        yield running
    finally:
        running.stop()


def servers_of(kafka: SecuredKafka, listener: str) -> KafkaServers:
    return {
        "open": KafkaServers(kafka.bootstrap_servers),
        "password": KafkaServers(kafka.sasl, kafka.by_password("SCRAM-SHA-512")),
        "certificate": KafkaServers(kafka.mtls, kafka.by_certificate()),
    }[listener]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("listener", ["open", "password", "certificate"])
def test_workers_that_die_at_every_step_and_zombies_are_exact_on_every_listener(
    kafka: SecuredKafka, valkey: LocalValkey, namespace: str, tmp_path: Path, listener: str
) -> None:
    chance = random.Random(29)
    scene = Scene(servers_of(kafka, listener), valkey, namespace, tmp_path / "events", seed=29)
    zombies = []
    try:
        scene.start()
        scene.produce(500)
        begin(scene)
        with scene.flow():
            for fault in chance.sample(FAULTS, len(FAULTS)):
                zombies += [scene.worker] if fault.endswith("woken") else []
                CATALOGUE[fault][1](scene, chance)
        scene.await_end(120)
        found = compare(scene)
    finally:
        scene.close()
    assert found.is_exact, found
    assert found.produced > 1_000
    assert all(scene.deaths[step] >= 1 for step in STEPS), scene.deaths
    assert scene.deaths["rebalance"] == 2
    assert scene.deaths["zombie"] == len(zombies) == len(WORK_STEPS) + 1
    assert sum(zombie.refusals() for zombie in zombies) > 0, "no zombie woke up to write anything"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("listener", ["password", "certificate"])
def test_trainers_that_die_publish_one_version_for_each_request_on_every_listener(
    kafka: SecuredKafka, namespace: str, tmp_path: Path, listener: str
) -> None:
    """Fewer steps than in test_trainer_kills.py: one of its consumer of observations, and two of its runner."""
    MlflowRegistry(f"sqlite:///{tmp_path}/empty.db", tmp_path.as_uri())  # makes its tables
    deck = [["after-ask", "after-publish", "after-answer"]]
    lane = TrainerLane(servers_of(kafka, listener), namespace, tmp_path / "lane", 1, deck)
    try:
        lane.prepare(tmp_path / "empty.db")
        lane.play()
        check_versions(lane)
    finally:
        lane.close()
    assert all(lane.deaths[step] >= 1 for step in deck[0]), lane.deaths
