"""A dead letter of a format that reads headers is sent again with the headers that its topic has."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import datetime  # noqa: TC003 - the event types' own
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from headrace import CloudEvents, Event, Stream
from headrace.bus.event_reader import EventReader
from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics
from headrace.event_log.event_log import EventLog
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.streams.dead_letters.dead_letter import find_letters
from headrace.streams.dead_letters.replay import REPLAY_OF, DeadLetterReplayer
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from tests.support.control_topics import OBSERVATIONS
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
HEADERS: list[tuple[str, str | bytes | None]] = [
    ("content-type", b"application/json"), ("ce_specversion", b"1.0"), ("ce_id", b"7"),
]  # fmt: skip


class Before(Event):
    at: datetime
    amount: float


class After(Event):
    at: datetime
    amount: float = 0.0


def test_a_cloud_event_that_was_rejected_is_sent_again_with_its_headers(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    topic, servers, log = f"{namespace}.events", services.bootstrap_servers, EventLog(tmp_path / "events")
    ensure_topics(servers, [TopicPlan(topic), TopicPlan(dead_letter_topic(topic)), TopicPlan(OBSERVATIONS)])
    before = Stream(topic, Before, event_time="at", format=CloudEvents())
    after = Stream(topic, After, event_time="at", format=CloudEvents())
    producer = Producer({"bootstrap.servers": servers, "log_level": 2})
    value = json.dumps({"at": "2020-01-01T00:00:00Z"}).encode()
    producer.produce(topic, value, b"k", headers=HEADERS)
    assert producer.flush(10) == 0
    plane = DataPlane(
        PlaneConfig(servers, group=uuid.uuid4().hex, flush_s=0.05), [before], FixedViews([]), MemoryOnlineStore(), log
    )
    thread = threading.Thread(target=plane.run)
    thread.start()
    try:
        until(lambda: log.exists(topic) and log.read(topic).height == 1, 30)
    finally:
        plane.stop()
        thread.join(30)
    letters = find_letters(log, [topic])
    assert ["missing required field `amount`" in letter.error for letter in letters] == [True]
    (piece,) = DeadLetterReplayer(servers, log, {topic: after}).replay(letters)
    assert list(piece.sent) == letters
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "x", "log_level": 2})
    consumer.assign([TopicPartition(topic, 0, 1)])
    (found,) = consumer.consume(1, 20)
    consumer.close()
    headers: Any = found.headers()
    assert headers == [*HEADERS, (REPLAY_OF, letters[0].id.encode())]
    assert (found.key(), found.value()) == (b"k", value)
    event: Any = EventReader(after).read(found.value(), headers)
    assert event.amount == 0.0
