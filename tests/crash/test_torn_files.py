"""Rows that a torn file took along are made again from real Kafka, the same ones; what is lost is counted."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer, TopicPartition

from headrace import Avro, CloudEvents, EventProducer
from headrace.bus.kafka_clients import admin
from headrace.bus.schemas.schema_store import SchemaStore
from headrace.bus.source_partition import SourcePartition
from headrace.bus.stream import Stream
from headrace.bus.topics import TopicPlan, ensure_topics, incarnations
from headrace.errors import SchemaRegistryUnavailableError
from headrace.event_log.damage import find_damage
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.streams.restored_rows import LogRestorer, RestoredRows
from tests.support.ping_log import START, Ping
from tests.support.schema_registries import MemorySchemaRegistry
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.bus.formats.record_format import RecordFormat

pytestmark = pytest.mark.integration
RECORDS = 40
CUTS = (0, 13, 26, RECORDS)


class TornLog:
    """A topic of forty records, and a log of it in three commits. ``same``: so many records have one number."""

    def __init__(self, services: LocalServices, stream: Stream, folder: Path, *, same: int = 1) -> None:
        self.servers, self.stream = services.bootstrap_servers, stream
        self.log = EventLog(folder)
        ensure_topics(self.servers, [TopicPlan(stream.topic)])
        producer = Producer({"bootstrap.servers": self.servers})
        for number in range(RECORDS):
            value = (
                b"junk" if number % 7 == 3 else json.dumps({"n": number // same, "at": "2020-01-01T00:00:00Z"}).encode()
            )
            producer.produce(stream.topic, value, b"key", timestamp=1_600_000_000_000 - 1_000 * (number % 5))
        assert producer.flush(10) == 0
        found = eventually(lambda: incarnations(admin(self.servers), [stream.topic])[stream.topic])
        self.source = SourcePartition(0, found.topic_id)
        for before, after in pairwise(CUTS):
            LogWriter(self.log, stream).note(self.source, before or None, after, why={"test": "moves D"})
            assert self.restore() == [RestoredRows(stream.topic, 0, before, after, after - before, 0)]
        self.whole = self.log.read(stream.topic)

    def restore(self) -> list[RestoredRows]:
        return list(LogRestorer(self.servers, self.log, self.stream, "test").restore())

    @property
    def commits(self) -> list[Path]:
        folder = self.log.folder(self.stream.topic)
        assert folder is not None
        return sorted((folder / "_delta_log").glob("*.json"))

    def rows_of(self, part: int) -> Path:
        """Return the file of a commit that has rows."""
        adds = [json.loads(line) for commit in self.commits for line in commit.read_text().splitlines()]
        names = [
            each["add"]["path"] for each in adds if "add" in each and json.loads(each["add"]["stats"])["numRecords"]
        ]
        return self.commits[0].parents[1] / str(names[part])

    def forget(self, below: int) -> None:
        """Let Kafka delete records."""
        client = admin(self.servers)
        for future in client.delete_records([TopicPartition(self.stream.topic, 0, below)]).values():
            future.result(10)


@pytest.fixture
def torn(services: LocalServices, namespace: str, tmp_path: Path) -> TornLog:
    return TornLog(services, Stream(f"{namespace}.pings", Ping, event_time="at"), tmp_path / "events")


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_torn_file_of_rows_is_made_again_from_kafka(torn: TornLog, part: int) -> None:
    os.truncate(torn.rows_of(part), 30)
    (done,) = torn.restore()
    assert (done.first, done.end, done.restored, done.lost) == (CUTS[part], CUTS[part + 1], done.end - done.first, 0)
    assert torn.log.read(torn.stream.topic).equals(torn.whole)
    assert (find_damage(torn.log, torn.stream.topic), torn.restore()) == ([], [])
    assert LogWriter(torn.log, torn.stream).position(torn.source) == RECORDS


def test_rows_that_are_made_again_are_duplicates_of_rows_that_were_not_torn(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    stream = Stream(f"{namespace}.pings", Ping, event_time="at", unique="n", within="1h")
    torn = TornLog(services, stream, tmp_path / "events", same=4)  # 12 and 13, and 25 and 26, are in different commits
    assert torn.whole["__verdict"].to_list()[12:14] == ["accepted", "duplicate"]
    assert torn.whole["__verdict"].to_list()[24:27] == ["rejected", "accepted", "duplicate"]
    os.truncate(torn.rows_of(1), 30)
    torn.restore()
    assert torn.log.read(stream.topic).equals(torn.whole)


@pytest.mark.parametrize("written", [Avro(), CloudEvents(), CloudEvents("structured")], ids=repr)
def test_rows_are_made_again_from_records_of_any_format(
    services: LocalServices, namespace: str, tmp_path: Path, written: RecordFormat
) -> None:
    stream = Stream(f"{namespace}.pings", Ping, event_time="at", format=written)
    registry, log = MemorySchemaRegistry(), EventLog(tmp_path)
    ensure_topics(services.bootstrap_servers, [TopicPlan(stream.topic)])
    producer = EventProducer(services.bootstrap_servers, schemas=SchemaStore(registry))
    for number in range(3):
        producer.send(stream, Ping(number, START))
    producer.flush()
    found = eventually(lambda: incarnations(admin(services.bootstrap_servers), [stream.topic])[stream.topic])
    LogWriter(log, stream).note(SourcePartition(0, found.topic_id), None, 3, why={"test": "moves D"})
    restorer = LogRestorer(services.bootstrap_servers, log, stream, "test", SchemaStore(registry))
    if stream.format.uses_schemas:
        registry.is_away = True
        with pytest.raises(SchemaRegistryUnavailableError, match="waiting for the schema with the id 1"):
            list(restorer.restore())
        registry.is_away = False
    assert [done.restored for done in restorer.restore()] == [3]
    assert log.read(stream.topic).select("__verdict", "n").rows() == [("accepted", number) for number in range(3)]


@pytest.mark.parametrize("left", [0, 40])
def test_every_commit_may_be_torn(torn: TornLog, left: int) -> None:
    for number in range(1, len(torn.commits)):
        os.truncate(torn.commits[number], left)
        torn.restore()
        found = torn.log.read(torn.stream.topic)
        ends = LogWriter(torn.log, torn.stream).position(torn.source)
        assert found.equals(torn.whole.head(ends or 0)), f"commit {number}: a worker reads on from {ends}"
        if ends != RECORDS:  # the newest commits: workers take the rest from Kafka themselves
            LogWriter(torn.log, torn.stream).note(torn.source, ends, RECORDS, why={"test": "moves D"})
            torn.restore()


def test_offsets_that_kafka_has_no_more_are_counted_as_lost(torn: TornLog) -> None:
    torn.forget(20)
    os.truncate(torn.rows_of(1), 0)
    (done,) = torn.restore()
    assert (done.first, done.end, done.restored, done.lost) == (13, 26, 6, 7)
    assert torn.log.read(torn.stream.topic)["__offset"].to_list() == [*range(13), *range(20, RECORDS)]
    assert torn.restore() == [], "a loss that was said is not said again"
