"""A record that the producer took is delivered, or handed back: never lost."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition
from structlog.testing import capture_logs

from headrace.bus.kafka_clients import admin
from headrace.bus.producer import EventProducer
from headrace.bus.topics import TopicPlan, ensure_topics, stamped_by_producers, stream_config
from headrace.errors import BusUnavailableError, RefusedError
from headrace.streams.worker import make_topics, warn_of_producers_stamps
from tests.support.crash.definitions import payments
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
HOUR_MS = 3_600_000
OLD = datetime(2013, 1, 1, tzinfo=UTC)


def values(servers: str, topic: str, count: int) -> list[bytes]:
    """The first records of a topic, at least ``count`` within 20 seconds, and what comes within one more."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": topic, "log_level": 2})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes] = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        found += [message.value() or b"" for message in consumer.consume(100, 0.2) if message.error() is None]
    found += [message.value() or b"" for message in consumer.consume(100, 1.0) if message.error() is None]
    consumer.close()
    return found


@pytest.mark.crash
@pytest.mark.long
def test_records_that_fail_while_the_broker_is_dead_are_sent_again_in_order(
    services: LocalServices, namespace: str
) -> None:
    ensure_topics(services.bootstrap_servers, [TopicPlan(namespace)])
    producer = EventProducer(services.bootstrap_servers, timeout="1s")
    producer.put(namespace, None, b"0")
    eventually(producer.flush)
    services.kafka.kill()
    try:
        for number in range(1, 4):
            producer.put(namespace, None, str(number).encode())
        with pytest.raises(BusUnavailableError):
            producer.flush()
        producer._producer.purge()  # Kafka's client gives them up
        for number in range(4, 7):
            producer.put(namespace, None, str(number).encode())
        with pytest.raises(BusUnavailableError, match="not acknowledged"):
            producer.flush()
    finally:
        services.kafka.restart()
    eventually(producer.flush)
    assert values(services.bootstrap_servers, namespace, 7) == [str(number).encode() for number in range(7)]


def test_a_record_that_the_broker_refuses_is_handed_back_and_the_others_arrive(
    services: LocalServices, namespace: str
) -> None:
    """Of a topic for replays: a timestamp in the far future would move its partition's clock for ever."""
    ensure_topics(services.bootstrap_servers, [TopicPlan(namespace, config=stream_config(replay=True))])
    now = datetime.now(UTC)
    producer = EventProducer(services.bootstrap_servers)
    producer.put(namespace, None, b"old", timestamp=OLD)
    producer.flush()
    producer.put(namespace, b"k", b"years ahead", timestamp=now + timedelta(hours=48), headers={"h": b"1"})
    with pytest.raises(RefusedError) as refused:
        producer.flush()
    (record,) = refused.value.records
    assert (record.topic, record.key, record.value, record.more["headers"]) == (
        namespace, b"k", b"years ahead", [("h", b"1")],
    )  # fmt: skip
    producer.put(namespace, None, b"an hour ahead", timestamp=now + timedelta(hours=1))
    producer.flush()
    assert values(services.bootstrap_servers, namespace, 2) == [b"old", b"an hour ahead"]


def test_the_broker_stamps_a_streams_records_unless_history_is_replayed(
    services: LocalServices, namespace: str
) -> None:
    live, replayed = f"{namespace}.live", f"{namespace}.replayed"
    plans = [
        TopicPlan(live, config=stream_config(replay=False)),
        TopicPlan(replayed, config=stream_config(replay=True)),
    ]
    ensure_topics(services.bootstrap_servers, plans)
    client = admin(services.bootstrap_servers)
    assert eventually(lambda: stamped_by_producers(client, [live, replayed])) == [replayed]
    producer = EventProducer(services.bootstrap_servers)
    consumer = Consumer({"bootstrap.servers": services.bootstrap_servers, "group.id": namespace, "log_level": 2})
    stamps = {}
    for topic in (live, replayed):
        producer.put(topic, None, b"x", timestamp=OLD)
        producer.flush()
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(20)
        assert message is not None
        stamps[topic] = message.timestamp()[1]
    consumer.close()
    assert stamps[replayed] == 1_356_998_400_000
    assert abs(stamps[live] - time.time_ns() // 1_000_000) < HOUR_MS


def test_a_worker_warns_of_topics_with_producers_stamps_naming_the_remedy(
    services: LocalServices, namespace: str
) -> None:
    live, replayed = (replace(payments(namespace), topic=f"{namespace}.{name}") for name in ("live", "replayed"))
    make_topics(services.bootstrap_servers, [live], 1, namespace=namespace)
    make_topics(services.bootstrap_servers, [replayed], 1, namespace=namespace, replay=True)
    with capture_logs() as logged:
        eventually(lambda: warn_of_producers_stamps(services.bootstrap_servers, [live, replayed]))
    (warning,) = logged
    assert (warning["log_level"], warning["topics"]) == ("warning", [replayed.topic])
    assert "LogAppendTime" in warning["do"]
    by_field = replace(replayed, available_at="at")
    with capture_logs() as logged:
        warn_of_producers_stamps(services.bootstrap_servers, [live, by_field])
    assert logged == []
