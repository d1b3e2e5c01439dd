"""`headrace status` and its reader on a real Kafka: near the ends, without a group, and never writing."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.commands.status import print_status
from headrace.app.snapshot.control_topic_reader import ControlTopicReader
from headrace.app.snapshot.snapshot import Snapshot
from headrace.app.snapshot.snapshot_fold import SnapshotFold
from headrace.base.times import wall_clock
from headrace.bus.control_topics import ControlTopics
from headrace.bus.kafka_clients import admin
from headrace.bus.producer import EventProducer
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics, report_plans
from headrace.errors import BusUnavailableError
from headrace.models.publication_signing import UNSIGNED
from tests.support.documents import ROOT
from tests.support.told_records import SECOND, T0, report, trainer

if TYPE_CHECKING:
    from confluent_kafka import Message

pytestmark = pytest.mark.integration


class SeenRecords(SnapshotFold):
    """A fold that remembers where the records are that it was given."""

    seen: list[tuple[str, int]]

    def take(self, records: Any) -> None:
        kept: list[Message] = list(records)
        self.seen += [(each.topic() or "", each.offset() or 0) for each in kept]
        super().take(kept)


def fold(topics: ControlTopics) -> SeenRecords:
    made = SeenRecords(topics, UNSIGNED, [], begun_us=T0)
    made.seen = []
    return made


def write(servers: str, topic: str, *values: bytes) -> None:
    producer = EventProducer(servers)
    for value in values:
        producer.put(topic, b"k", value)
    producer.flush()


def groups(servers: str) -> dict[str, list[str]]:
    """All groups of the broker with what they have committed."""
    client = admin(servers)
    names = [each.group_id for each in client.list_consumer_groups().result(10).valid]
    asked = [ConsumerGroupTopicPartitions(name) for name in names]
    answers = [client.list_consumer_group_offsets([each])[each.group_id].result(10) for each in asked]
    return {each.group_id: sorted(str(place) for place in each.topic_partitions) for each in answers}


def test_the_reader_begins_near_the_ends_and_joins_no_group(services: Any, namespace: str) -> None:
    servers, topics = services.bootstrap_servers, ControlTopics(namespace)
    ensure_topics(servers, [*report_plans(*topics.reports), TopicPlan(topics.decisions, 1, FOR_EVER)])
    old = datetime.now(UTC) - timedelta(minutes=10)
    producer = EventProducer(servers)
    for number in range(50):
        producer.put(topics.observations, b"k", report(T0 + number, number).content, timestamp=old)
    producer.flush()
    before = groups(servers)
    write(servers, topics.observations, report(T0 + SECOND, 1_000).content)
    made = fold(topics)
    with closing(ControlTopicReader(servers, topics, made, ["nowhere"], wall_clock)) as reader:
        until = time.monotonic() + 20
        while not (made.is_heard() and reader.is_at_end()) and time.monotonic() < until:
            reader.poll(0.2)
        assert made.seen == [(topics.observations, 50)], "the old ones are not read"
        write(servers, topics.heartbeats, trainer(wall_clock()).content)
        while len(made.seen) < 2 and time.monotonic() < until:
            reader.poll(0.2)
    found = made.snapshot(wall_clock())
    assert [(each.topic, each.lag) for each in found.partitions] == [("orders", 5)] * 2
    assert [each.process for each in found.trainers] == ["t1"]
    assert groups(servers) == before
    assert {each.topic for each in found.topics if each.record_us} == {topics.observations, topics.heartbeats}


def test_a_broker_that_is_away_is_said_and_the_reader_goes_on_afterwards(services: Any, namespace: str) -> None:
    topics = ControlTopics(namespace)
    made = fold(topics)
    reader = ControlTopicReader("127.0.0.1:1", topics, made, [], wall_clock)
    with pytest.raises(BusUnavailableError, match="cannot be read"):
        reader.poll(0.1)
    assert all(each.error for each in made.snapshot(wall_clock()).topics)
    reader.close()
    ensure_topics(services.bootstrap_servers, report_plans(*topics.reports))
    reader = ControlTopicReader(services.bootstrap_servers, topics, made, [], wall_clock)
    reader.poll(0.1)
    assert not any(each.error for each in made.snapshot(wall_clock()).topics if each.topic in topics.reports)
    reader.close()


def test_status_prints_what_is_known_and_leaves_open_what_nobody_says(
    services: Any, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = ControlTopics(namespace)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HEADRACE_NAMESPACE", namespace)
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
    ensure_topics(services.bootstrap_servers, report_plans(*topics.reports))
    producer = EventProducer(services.bootstrap_servers)
    ahead = datetime.now(UTC) + timedelta(minutes=2)  # however long the command takes to begin
    producer.put(topics.observations, b"k", report(wall_clock(), 1_000).content, timestamp=ahead)
    producer.flush()
    told = CliRunner().invoke(build(), ["status", "--json"])
    assert told.exit_code == 0, told.output
    found = msgspec.json.decode(told.stdout, type=Snapshot)
    assert [each.lag for each in found.partitions if each.topic == "orders"] == [5, 5]
    assert found.now.learning.said == "no trainer reports"
    assert [(each.model, each.version) for each in found.models] == [("delay", None)]
    print_status(found)
    assert "no version is live, since" in capsys.readouterr().out
