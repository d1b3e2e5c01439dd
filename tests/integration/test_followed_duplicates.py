"""Who reads a topic from any record on finds the duplicates that its workers find, on a real Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Message, Producer

from headrace import Avro
from headrace.bus.kafka_clients import admin
from headrace.bus.schemas.schema_store import SchemaStore
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.topic_span import records_between
from headrace.bus.topics import TopicPlan, ensure_topics, incarnations
from headrace.errors import BusUnavailableError, SchemaRegistryUnavailableError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.followed_duplicates import FollowedDuplicates
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from tests.support.avro_payments import message
from tests.support.crash.unique_payments import PARTITIONS, payments, sent_payments, verdicts
from tests.support.payments_stream import payments as written_payments
from tests.support.schema_registries import MemorySchemaRegistry
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.bus.stream import Stream

pytestmark = pytest.mark.integration
COUNT = 1_200


class Followed:
    """A topic of payments of which many are sent twice, and the event log as far as a worker has come."""

    def __init__(self, servers: str, stream: Stream, folder: Path) -> None:
        self.servers, self.stream, self.log = servers, stream, EventLog(folder)
        self.duplicates: set[tuple[int, int]] = set()
        ensure_topics(servers, [TopicPlan(stream.topic, PARTITIONS, {"retention.ms": "-1"})])
        producer, sent = Producer({"bootstrap.servers": servers, "enable.idempotence": True}), sent_payments(COUNT)
        self.ends = [0] * PARTITIONS
        for each, verdict in zip(sent, verdicts(sent), strict=True):
            producer.produce(stream.topic, each.value, b"k", each.partition, timestamp=each.timestamp_ms)
            if verdict == "duplicate":
                self.duplicates.add((each.partition, self.ends[each.partition]))
            self.ends[each.partition] += 1
        assert producer.flush(30) == 0
        topic_id = eventually(lambda: incarnations(admin(servers), [stream.topic])[stream.topic].topic_id)
        self.sources = [SourcePartition(number, topic_id) for number in range(PARTITIONS)]

    def records(self, partition: int, first: int) -> list[Message]:
        spans = records_between(self.servers, self.stream.topic, partition, first, self.ends[partition])
        return [each for span in spans for each in span]

    def log_up_to(self, end: int) -> None:
        """As a worker does that has flushed so far."""
        writer = LogWriter(self.log, self.stream)
        for source in self.sources:
            records = PartitionRecords.from_messages(self.records(source.partition, 0)[:end])
            seen = FollowedDuplicates(self.servers, self.log, self.stream)._seen(source, 0, NO_CLOCK)
            rows = RecordJudge(self.stream).rows(source.topic_id, source.partition, records, NO_CLOCK, seen)
            writer.append(rows, {source: None}, {source: end})

    def found(self, first: int, piece: int) -> set[tuple[int, int]]:
        """Those from an offset of both partitions on, read in pieces."""
        judge = FollowedDuplicates(self.servers, self.log, self.stream)
        parts = [self.records(source.partition, first) for source in self.sources]
        found: set[tuple[int, int]] = set()
        for begin in range(0, max(map(len, parts)), piece):
            found |= judge.among([record for part in parts for record in part[begin : begin + piece]])
        return found


@pytest.fixture
def followed(services: LocalServices, namespace: str, tmp_path: Path) -> Followed:
    return Followed(services.bootstrap_servers, payments(namespace), tmp_path)


@pytest.mark.parametrize("logged", [0, 200])
def test_duplicates_are_those_of_the_workers_from_any_record_on(followed: Followed, logged: int) -> None:
    assert len(followed.duplicates) > COUNT // 10
    if logged:
        followed.log_up_to(logged)
    for first, piece in ((0, 1_000), (150, 1), (200, 7), (333, 1_000)):
        wanted = {place for place in followed.duplicates if place[1] >= first}
        assert followed.found(first, piece) == wanted, (first, piece)


def test_records_that_were_not_judged_are_judged_by_the_next_call(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, tried = FollowedDuplicates(followed.servers, followed.log, followed.stream), list[int]()
    opened = FollowedDuplicates._opened

    def at_second_try(self: FollowedDuplicates, partition: int, offset: int) -> object:
        tried.append(partition)
        if tried == [0, 1]:
            raise BusUnavailableError("away")
        return opened(self, partition, offset)

    monkeypatch.setattr(FollowedDuplicates, "_opened", at_second_try)
    records = [record for source in followed.sources for record in followed.records(source.partition, 0)]
    with pytest.raises(BusUnavailableError):
        judge.among(records)
    assert judge.among(records) == followed.duplicates


def test_a_schema_that_is_awaited_is_no_verdict(services: LocalServices, tmp_path: Path) -> None:
    registry = MemorySchemaRegistry()
    registry.is_away = True
    judge = FollowedDuplicates(
        services.bootstrap_servers, EventLog(tmp_path), written_payments(Avro()), SchemaStore(registry)
    )
    with pytest.raises(SchemaRegistryUnavailableError, match="the id 1"):
        judge.among([message(1, 0)])
