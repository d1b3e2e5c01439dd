"""Whatever anybody writes to a control topic: processes, applications and commands go on, also after a kill -9."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from headrace.base.times import wall_clock
from headrace.bus.control_topics import EVENT_LOGS, REPLAYS, ControlTopics
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics
from headrace.errors import FeaturesUnknownError
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.models.kafka_model_event_log import KafkaAcknowledgements, KafkaModelEventLog
from headrace.serving.features import FeatureClient
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from headrace.streams import worker
from headrace.streams.dead_letters.replay import replay_times
from headrace.trainers.data.exclusions import KafkaExclusions
from headrace.trainers.process import trainer
from tests.support.crash.project import Command, ProjectScene, project_scene
from tests.support.model_events import published
from tests.support.waiting import eventually, until

if TYPE_CHECKING:
    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
POISON = (
    b"junk", b"[" * 100_000, b'{"id":' * 50_000, b"\xff\xfe", None, b"", b"null", b'{"format":99}',
    b'{"type":"tick","t_us":9000000000000000000}', b'{"type":"deployed","namespace":"n","views":[]}', b'"\xed\xa0\x80"',
)  # fmt: skip
IDS = itertools.count()
ROOT = Path(__file__).parents[2]


def poison(servers: str, topics: ControlTopics) -> None:
    """Every kind of it, with several keys and headers, on every topic."""
    all_topics = (
        topics.definitions, topics.models, topics.model_acks, topics.decisions, topics.runs, topics.retrain_requests,
        topics.observations, topics.control, topics.exclusions, EVENT_LOGS, REPLAYS,
    )  # fmt: skip
    producer = Producer({"bootstrap.servers": servers})
    headers: list[tuple[str, str | bytes | None]] = [("ce_type", b"\xff"), ("ce_id", None), ("ce_specversion", b"1.0")]
    for topic, value in itertools.product(all_topics, POISON):
        producer.produce(topic, value, b"\xff\xfe", headers=headers)
        producer.produce(topic, value, None)
    assert producer.flush(30) == 0
    command = [sys.executable, "-m", "tests.support.crash.nameless_header", servers, *all_topics]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"AIOKAFKA_NO_EXTENSIONS": "1"}, check=True, timeout=60)


class Told:
    """What a running system is asked after each blow."""

    def __init__(self, scene: ProjectScene) -> None:
        self.scene, self.servers, self.sent = scene, scene.services.bootstrap_servers, 0
        store = RedisOnlineStore(scene.services.redis_url, scene.name)
        self.client = FeatureClient(store, heartbeat_bound="30s")
        self.producer = Producer({"bootstrap.servers": self.servers})

    def pays(self) -> None:
        """One more payment is counted."""
        self.sent += 1
        event = {"payment_id": next(IDS), "user": "ada", "cents": 5, "at": datetime.now(UTC).isoformat()}
        self.producer.produce(f"{self.scene.name}.payments", json.dumps(event).encode(), b"ada")
        assert self.producer.flush(10) == 0
        until(lambda: self.counted() == self.sent, 60, lambda: (self.counted(), self.sent))

    def counted(self) -> object:
        try:
            return eventually(lambda: self.client.get("risk", {"user": "ada"})).to_dicts()[0]["user__n_1h"]
        except FeaturesUnknownError:  # the worker has just begun
            return None

    def decides(self, trainer: Command) -> None:
        """The rules are evaluated again. A decision that says nothing new is not written, so the metrics say it."""
        since_s = wall_clock() / 1e6
        at = "headrace_decision_timestamp_seconds"
        until(lambda: trainer.metric(at, model=self.scene.name) > since_s, 60, trainer.output.read_text)

    def goes_on(self, worker: Command, trainer: Command) -> None:
        """Events are counted, decisions made, and no process has ended or fails."""
        self.pays()
        self.decides(trainer)
        for command in (worker, trainer):
            assert command.is_alive, command.output.read_text()[-3_000:]
            assert command.get("readyz") == (200, "ok\n")


@pytest.mark.timeout(400)
def test_poison_on_every_control_topic_stops_nobody(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    servers, topics = services.bootstrap_servers, ControlTopics(namespace)
    worker.make_topics(servers, [], 1, namespace=namespace)
    trainer.make_topics(servers, topics)
    KafkaExclusions(servers, topics.exclusions).close()
    replay_times(servers)
    ensure_topics(servers, [TopicPlan(EVENT_LOGS, 1, FOR_EVER)])
    poison(servers, topics)
    with project_scene(services, namespace, tmp_path) as scene:
        running = [scene.start("worker", "--partitions", "1"), scene.start("trainer")]
        told = Told(scene)
        told.goes_on(*running)
        for _ in range(2):
            poison(servers, topics)
            told.goes_on(*running)
        for name in (topics.definitions, topics.models, topics.control):
            assert running[0].metric("headrace_unreadable_records_total", topic=name) >= len(POISON)
        for name in (topics.decisions, topics.runs, topics.observations, topics.exclusions, topics.models):
            assert running[1].metric("headrace_unreadable_records_total", topic=name) >= len(POISON)
        commands_end_well(scene)
        an_application_follows(servers, namespace, topics)
        for command in running:
            command.kill()
        poison(servers, topics)
        running = [scene.start("worker"), scene.start("trainer")]
        told.goes_on(*running)


def commands_end_well(scene: ProjectScene) -> None:
    for arguments in (
        ["plan"], ["models", "list"], ["data", "exclusions"], ["dead-letters", "list"], ["config"],
    ):  # fmt: skip
        done = scene.run(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), (arguments, done.stdout, done.stderr)
    excluded = scene.run("data", "exclude", "2020-01-01", "2020-01-02", "--reason", "broken", "--model", scene.name)
    assert excluded.returncode == 0, excluded.stderr
    assert "broken" in str(json.loads(scene.run("data", "exclusions", "--json").stdout))
    scene.define(', "cents": Sum("cents")')
    assert scene.run("plan").returncode == 3
    applied = scene.run("apply", "--yes")
    assert (applied.returncode, applied.stdout.splitlines()[-1:]) == (0, ["live"]), (applied.stdout, applied.stderr)
    doctor = json.loads(scene.run("doctor", "--json").stdout)
    assert [each for each in doctor if each["severity"] == "error" and f"{scene.name}." in each["subject"]] == []


def an_application_follows(servers: str, model: str, topics: ControlTopics) -> None:
    """It reads on beyond poison, and says so."""
    log, acknowledgements = (
        KafkaModelEventLog(servers, topics.models),
        KafkaAcknowledgements(servers, topics.model_acks),
    )
    subscriber = ModelSubscriber(model, log, acknowledgements, LoadingPolicy(()), application="till", clock=wall_clock)
    subscriber.start()
    try:
        until(lambda: subscriber.status.is_current, 60, lambda: subscriber.status)
        event = published(f"{model}-1", 1, expects=None, request_id=f"{model}-1")
        poison(servers, topics)
        log.append(type(event)(id=event.id, model=model, at_us=event.at_us, data=event.data))
        # its artifact is nowhere, which is said as soon as it was looked for
        until(lambda: "version 1 cannot be loaded" in subscriber.status.error, 60, lambda: subscriber.status)
        assert subscriber.status.wanted == 1
        assert not subscriber.status.is_current
    finally:
        subscriber.stop()
        log.close()
