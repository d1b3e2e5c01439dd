"""The users of Kafka on the page about security have the rights that their processes need, and no more."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from structlog.testing import capture_logs

from headrace.bus.consumer import BatchConsumer
from headrace.bus.control_topics import ControlTopics
from headrace.bus.kafka_clients import admin
from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import TopicPlan, configurations, ensure_topics, incarnations
from headrace.errors import BusUnavailableError, RefusedError, TerminalError
from headrace.event_log.event_log import EventLog
from headrace.models.kafka_model_event_log import KafkaModelEventLog
from headrace.streams.dead_letters.replay import DeadLetterReplayer
from headrace.trainers.runs.provenance import service_ref
from tests.support.crash.project import ProjectScene, project_scene
from tests.support.documents import ROOT
from tests.support.kafka_rights import MAKER, USERS, GuardedKafka, rights
from tests.support.model_events import published, version_one
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headrace.app.local.services import LocalServices
    from headrace.bus.kafka_servers import KafkaServers

pytestmark = [pytest.mark.integration, pytest.mark.long]
PAGE = rights((ROOT / "docs" / "explanation" / "security.md").read_text("utf-8"))
TO_MAKE_TOPICS = ("Create", "Alter")
TO_WORK = [right for right in PAGE if right.operation not in TO_MAKE_TOPICS and right.user in USERS]
MODEL = "sales"
TOPICS = ControlTopics("shop")
EVENT = published("one", 1, expects=None)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    """One broker for all tests of this file."""
    running = GuardedKafka(tmp_path_factory.mktemp("guarded") / "kafka")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def scene(
    kafka: GuardedKafka, services: LocalServices, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProjectScene]:
    """The project of the page. Its topics are there, and its users have their rights."""
    folder = tmp_path_factory.mktemp("project")
    with project_scene(services, "shop", folder, prefix=MODEL) as made:
        for command in (("worker", "--partitions", "1"), ("trainer",)):
            made.start(*command, **kafka.variables_of(MAKER)).process.terminate()
        for started in made.running:
            started.process.wait()
        assert made.run("dead-letters", "list", **kafka.variables_of(MAKER)).returncode == 0
        kafka.grant(TO_WORK)
        yield made


@pytest.mark.timeout(600)
def test_every_process_works_with_its_rights_and_needs_each_of_them(kafka: GuardedKafka, scene: ProjectScene) -> None:
    worker, trainer = (scene.start(name, **kafka.variables_of(name)) for name in ("worker", "trainer"))
    produce(kafka, scene)
    until(lambda: worker.metric("headrace_rejected_records_total") == 2, 60, worker.output.read_text)
    publish(kafka, scene)
    with scoring(kafka, scene):
        produce(kafka, scene)
        until(lambda: written(kafka, TOPICS.predictions, TOPICS.model_acks), 60)
    operate(kafka, scene)
    assert written(kafka, TOPICS.heartbeats, TOPICS.findings)
    for command in (worker, trainer):
        command.process.terminate()
        assert command.process.wait() == 0, command.output.read_text()
    assert kafka.denied() == set()
    assert [right for right in TO_WORK if not any(map(right.covers, kafka.used()))] == []


def produce(kafka: GuardedKafka, scene: ProjectScene) -> None:
    """An event of each stream, and a record of each that lacks a value."""
    producer, project, now = EventProducer(kafka.servers_of("producer")), definitions(scene), datetime.now(UTC)
    producer.send(project.payments, project.Payment(payment_id=1, user="u", cents=5, at=now))
    producer.send(project.verdicts, project.Verdict(payment_id=1, fraud=True, at=now))
    at = now.isoformat()
    producer.put("sales.payments", b"u", json.dumps({"payment_id": 2, "user": "u", "cents": None, "at": at}).encode())
    producer.put("sales.verdicts", b"2", json.dumps({"payment_id": 2, "fraud": None, "at": at}).encode())
    producer.flush()


def publish(kafka: GuardedKafka, scene: ProjectScene) -> None:
    """The trainer's user publishes version 1."""
    frame = pd.DataFrame({"user__n_1h": np.arange(8.0), "cents": [0.0, 1.0] * 4})
    estimator, model = LogisticRegression().fit(frame, [0, 1] * 4), definitions(scene).fraud
    artifacts = scene.folder / ".headrace" / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    with closing(KafkaModelEventLog(kafka.servers_of("trainer"), TOPICS.models)) as log:
        log.append(version_one(MODEL, estimator, service_ref(model), artifacts))


def definitions(scene: ProjectScene) -> Any:
    """The module of the project."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(scene.folder))
        return importlib.import_module("mshop")


@contextmanager
def scoring(kafka: GuardedKafka, scene: ProjectScene) -> Iterator[None]:
    """An application predicts the requests."""
    log = scene.folder / "score.txt"
    environment = os.environ | kafka.variables_of("application") | {"HEADRACE_REDIS_URL": scene.services.redis_url}
    command = [sys.executable, "-m", "headrace", "score", MODEL]
    with (
        log.open("wb") as file,
        subprocess.Popen(command, cwd=scene.folder, env=environment, stdout=file, stderr=file) as process,
    ):
        try:
            until(lambda: "version loaded" in log.read_text(), 300, log.read_text)
            yield
        finally:
            process.terminate()


def written(kafka: GuardedKafka, *topics: str) -> bool:
    """Whether each topic has a record."""
    with closing(TopicTail(kafka.servers_of("operator"), topics, from_beginning=True)) as tail:
        return {record.topic() for record in tail.drain()} == set(topics)


def operate(kafka: GuardedKafka, scene: ProjectScene) -> None:
    """What an operator does."""

    def run(*command: str) -> str:
        done = scene.run(*command, **kafka.variables_of("operator"))
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    scene.define(', "cents": Sum("cents")')
    run("apply", "--yes")
    run("doctor", "--record")
    run("data", "exclude", "2020-01-01", "2020-01-02", "--reason", "broken")
    run("train", MODEL, "--reason", "now")
    for kind in ("triggers", "runs", "models", "predictions"):
        run(kind, "list")
    run("models", "pin", MODEL, "--reason", "good")
    module = scene.folder / "mshop.py"
    module.write_text(module.read_text().replace("cents: int", "cents: int | None").replace(": bool", ": bool | None"))
    run("dead-letters", "replay", "--yes")


@pytest.fixture
def poor(kafka: GuardedKafka, scene: ProjectScene) -> KafkaServers:
    """What the client of a user has who may write to the streams alone."""
    del scene  # its topics are there
    return kafka.servers_of("producer")


def put(servers: str, topic: str) -> None:
    """Produce a record."""
    producer = EventProducer(servers)
    producer.put(topic, None, b"x")
    producer.flush()


def with_record(servers: str) -> str:
    """Produce a record to the stream's topic: of a topic without records nothing is read, whatever the rights."""
    put(servers, "sales.payments")
    return servers


def drain(servers: str, topic: str) -> None:
    """Read a topic."""
    with closing(TopicTail(servers, [topic], from_beginning=True)) as tail:
        tail.drain()


ATTEMPTS: dict[str, Callable[[str], Any]] = {
    "Create (or Describe, if it exists) on the topic 'shop.new'": lambda at: ensure_topics(at, [TopicPlan("shop.new")]),
    "Describe on the topic 'shop.control'": lambda at: drain(at, TOPICS.control),
    "Describe on the topic 'shop.runs'": lambda at: incarnations(admin(at), [TOPICS.runs]),
    "DescribeConfigs on the topic 'sales.payments'": lambda at: configurations(admin(at), ["sales.payments"]),
    "Read on the topic 'sales.payments'": lambda at: drain(with_record(at), "sales.payments"),
    "Read on the topic 'shop.models'": lambda at: KafkaModelEventLog(at, TOPICS.models).read(),
    "Write on the topic 'shop.models'": lambda at: KafkaModelEventLog(at, TOPICS.models).append(EVENT),
    "Write on the topic 'shop.runs'": lambda at: put(at, TOPICS.runs),
    "Write on the transactional id 'headrace-replay'": lambda at: DeadLetterReplayer(at, EventLog("unused"), {}),
}
"""What a client tries, by the right that it needs."""


@pytest.mark.parametrize("right", ATTEMPTS)
def test_a_right_that_is_missing_is_named(poor: KafkaServers, right: str) -> None:
    with pytest.raises((BusUnavailableError, TerminalError, RefusedError), match=re.escape(f"the right {right}")):
        ATTEMPTS[right](poor)


def test_a_group_that_may_not_be_joined_is_named(poor: KafkaServers) -> None:
    consumer = BatchConsumer(poor, "shop-workers")
    with capture_logs() as logged, closing(consumer):
        consumer.subscribe(["sales.payments"], Nobody())
        until(lambda: not consumer.poll(1, 0.1) and bool(logged), 30)
    assert "the right Read on the group 'shop-workers'" in str(logged)


class Nobody:
    """Takes no partition."""

    def assigned(self, topic: str, partition: int) -> None:
        """Read nothing."""

    def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Nothing was read."""

    def lost(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Nothing was read."""
