"""A publication on real Kafka reaches an application: loaded, swapped, acknowledged."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from sklearn.linear_model import LogisticRegression

from headrace.base.times import wall_clock
from headrace.models import artifact
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.kafka_model_event_log import KafkaAcknowledgements, KafkaModelEventLog, ensure_topic
from headrace.models.model_events import Acknowledgement, ArtifactRef, decode_acknowledgement
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from tests.support.model_events import published
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_a_subscriber_swaps_to_a_published_version_and_acknowledges(services: Any, tmp_path: Path) -> None:
    servers, name = services.bootstrap_servers, uuid.uuid4().hex
    topic, acks = f"models-{name}", f"acks-{name}"
    for each in (topic, acks):
        ensure_topic(servers, each)
    log = KafkaModelEventLog(servers, topic)
    subscriber = ModelSubscriber(
        "delay",
        KafkaModelEventLog(servers, topic),
        KafkaAcknowledgements(servers, acks),
        LoadingPolicy([], ArtifactPlaces([tmp_path])),
        application="web",
        clock=wall_clock,
    )
    stored = artifact.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    uri = artifact.store(stored, tmp_path / "1.skops")
    ref = ArtifactRef(uri=uri, digest=stored.digest, content_hash=stored.content_hash)
    subscriber.start()
    try:
        log.append(published("a", 1, expects=None, artifact=ref))
        assert subscriber.wait_until_ready("30s", version=1).version == 1
        log.append(published("b", 2, expects="a", artifact=ref))
        assert subscriber.wait_until_ready("30s", version=2).version == 2
        until(lambda: subscriber.status.is_current, 30, lambda: subscriber.status)
    finally:
        subscriber.stop()
    found = read_acknowledgements(servers, acks, 2)
    assert [(ack.event_id, ack.version, ack.ok, ack.application) for ack in found] == [
        ("a", 1, True, "web"),
        ("b", 2, True, "web"),
    ]
    log.close()


def read_acknowledgements(servers: str, topic: str, count: int) -> list[Acknowledgement]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumer.consume(count, 30)
    consumer.close()
    return [decode_acknowledgement(message.value() or b"") for message in messages]
