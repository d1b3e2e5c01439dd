"""A producer that sends rubbish by the ten thousand stops nobody, and nothing of it is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition

from headrace.bus.topics import dead_letter_topic
from headrace.streams.plane.rejected_copies import letter_id
from tests.support.crash.comparison import compare

if TYPE_CHECKING:
    from headrace.app.local.services import LocalServices
    from tests.support.crash.scene import Scene

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
FLOOD = 50_000


def test_50_000_broken_records_among_good_ones_are_dead_letters_with_their_bytes(
    scene: Scene, services: LocalServices
) -> None:
    worker = scene.start()
    with scene.flow(200):
        while sum(record.is_broken for record in scene.till.produced) < FLOOD:
            scene.produce(5_000, broken=0.9)
    scene.await_end(120)
    assert worker.is_alive()
    found = compare(scene)
    assert found.is_exact, found
    wanted = {
        letter_id(scene.sources[record.partition], record.offset): record.value
        for record in scene.till.produced
        if record.is_broken
    }
    assert len(wanted) >= FLOOD
    assert copies(services.bootstrap_servers, dead_letter_topic(scene.topic), len(wanted)) == wanted


def copies(bootstrap_servers: str, topic: str, count: int) -> dict[str, bytes | None]:
    """Values by letter id, once there are so many or no more come."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "never-joined"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: dict[str, bytes | None] = {}
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(10_000, 0.2):
            assert message.error() is None, message.error()
            headers: dict[str, bytes] = dict(message.headers() or [])  # type: ignore[arg-type]
            found[headers["headrace_id"].decode()] = message.value()
    consumer.close()
    return found
