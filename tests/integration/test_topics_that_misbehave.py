"""Topics that are cut, emptied from the front, extended, created anew or deleted under a worker (DESIGN §6, §9)."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from headrace.bus.consumer import BatchConsumer
from headrace.bus.kafka_clients import admin
from headrace.bus.source_partition import SourcePartition
from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics, incarnations
from headrace.bus.worker_report import WorkerReport
from headrace.errors import BusUnavailableError, FencedError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.online.cursor import Cursor, CursorState
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient, Status
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.logged_stream import LoggedStream
from headrace.streams.plane.partition import StoppedPartition
from headrace.streams.plane.partition_opener import PartitionOpener
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.plane.plane_metrics import PlaneMetrics
from headrace.streams.repair import accept_loss, find_gaps
from headrace.streams.worker import publish_definitions
from tests.support.control_topics import OBSERVATIONS
from tests.support.crash.definitions import START, START_US, USERS, payments, service, users
from tests.support.waiting import eventually, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.streams.plane.gap import LogGap

pytestmark = pytest.mark.integration
NOW_MS = START_US // 1_000
ONE_PAYMENT = b'{"user": "%s", "at": "' + START.isoformat().encode() + b'", "cents": 1}'


class LastReport(PlaneMetrics):
    """Keeps the worker's last report."""

    def __init__(self) -> None:
        self.report = WorkerReport("nobody", 0, [])

    def reported(self, report: WorkerReport, ends: Mapping[tuple[str, int], int]) -> None:
        assert ends is not None
        self.report = report


@dataclass
class Bench:
    """One topic, and a worker in a thread. ``consumers``: what its workers read by, the last one last."""

    services: LocalServices
    namespace: str
    folder: Path
    consumers: list[BatchConsumer]
    seen: LastReport = field(default_factory=LastReport)
    plane: DataPlane | None = None
    thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.stream, self.view = payments(self.namespace), users(self.namespace)
        self.topic = self.stream.topic
        self.store = RedisOnlineStore(self.services.redis_url, self.namespace)
        self.log = EventLog(self.folder)
        self.client = admin(self.services.bootstrap_servers)
        plans = [TopicPlan(dead_letter_topic(self.topic)), TopicPlan(OBSERVATIONS)]
        ensure_topics(self.services.bootstrap_servers, plans)

    def make_topic(self, partitions: int) -> None:
        """Create it, as soon as an older one of its name is gone."""
        plan = TopicPlan(self.topic, partitions, {"retention.ms": "-1"})
        ensure_topics(self.services.bootstrap_servers, [plan])
        until(lambda: self.incarnation_partitions() == partitions, 10)

    def incarnation_partitions(self) -> int:
        try:
            return incarnations(self.client, [self.topic])[self.topic].partitions
        except BusUnavailableError:
            return 0

    def source(self, partition: int) -> SourcePartition:
        return SourcePartition(
            partition, eventually(lambda: incarnations(self.client, [self.topic])[self.topic].topic_id)
        )

    def send(self, partition: int, count: int) -> None:
        """One payment of one cent each, by user ``u<partition>``; a new producer knows the topic as it is now."""
        producer = Producer({"bootstrap.servers": self.services.bootstrap_servers, "log_level": 2})
        value = ONE_PAYMENT % USERS[partition].encode()
        for _ in range(count):
            producer.produce(self.topic, value, partition=partition, timestamp=NOW_MS)
        assert producer.flush(10) == 0

    def start(self) -> None:
        config = PlaneConfig(
            self.services.bootstrap_servers, group=self.namespace, worker=uuid.uuid4().hex,
            flush_s=0.05, heartbeat_s=0.1, reacquire_s=0.1, reacquire_most_s=0.4,
        )  # fmt: skip
        self.plane = DataPlane(
            config,
            [self.stream],
            FixedViews(
                [self.view.spec], lambda: publish_definitions(self.store, [self.view], [service(self.namespace)])
            ),
            self.store,
            self.log,
            meter=self.seen,
        )
        self.thread = threading.Thread(target=self.plane.run, name=f"{self.namespace}-worker")
        self.thread.start()
        until(self.has_all, 20)

    def has_all(self) -> bool:
        """Whether the worker has taken, or stopped, each partition."""
        assert self.plane is not None
        return len(self.plane.phases()) == self.incarnation_partitions()

    def stop(self) -> None:
        if self.plane is not None and self.thread is not None:
            self.plane.stop()
            self.thread.join(30)
            assert not self.thread.is_alive()
        self.plane = self.thread = None

    def cursors(self) -> dict[SourcePartition, Cursor]:
        return dict(self.store.cursors([f"user@{self.view.version}"])[0])

    def at(self, partition: int) -> tuple[int, CursorState]:
        cursor = self.cursors().get(self.source(partition), Cursor(b"", -1, state=CursorState.REBUILDING))
        return cursor.next_offset, cursor.state

    def await_live(self, partition: int, offset: int) -> None:
        until(lambda: self.at(partition) == (offset, CursorState.LIVE), 20, lambda: (partition, self.cursors()))

    def await_stopped(self, partition: int, offset: int) -> None:
        until(lambda: self.at(partition) == (offset, CursorState.REBUILDING), 20, self.cursors)

    def await_logged(self, partition: int, position: int) -> None:
        until(lambda: self.writer().position(self.source(partition)) == position, 20)

    def writer(self) -> LogWriter:
        return LogWriter(self.log, self.stream)

    def count(self, partition: int) -> tuple[int, Status]:
        """How many payments of the partition's user are counted, and the status."""
        client = FeatureClient(self.store, clock=lambda: START_US)
        found = client.get("risk", {"user": USERS[partition]})
        return found.to_dicts()[0]["user__n_1d"] or 0, found.statuses()["user"]

    def await_count(self, partition: int, count: int) -> None:
        until(lambda: self.count(partition) == (count, Status.PRESENT), 20, lambda: self.count(partition))

    def delete_records(self, partition: int, before: int) -> None:
        for future in self.client.delete_records([TopicPartition(self.topic, partition, before)]).values():
            future.result(10)

    def remake_topic(self) -> None:
        """Delete the topic, and make it anew with one partition."""
        for future in self.client.delete_topics([self.topic]).values():
            future.result(10)
        until(lambda: self.incarnation_partitions() == 0, 10)
        self.make_topic(1)

    def seek(self, partition: int, offset: int) -> None:
        """Let Kafka answer that an offset is out of range."""
        until(partial(self.consumers[-1].seek, self.topic, partition, offset), 10)

    def reported(self, partition: int) -> Any:
        """What the worker's last report says of a partition."""
        source = self.source(partition).text
        return next((each for each in self.seen.report.partitions if each.source == source), None)

    def gaps(self) -> list[LogGap]:
        return find_gaps(self.client, self.log, [self.stream])

    def accept_all(self) -> None:
        for found in self.gaps():
            accept_loss(self.log, self.stream, found, "test")


@pytest.fixture
def bench(services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(services, namespace, tmp_path / "events", [])

    def consumer(*args: Any) -> BatchConsumer:
        bench.consumers.append(BatchConsumer(*args))
        return bench.consumers[-1]

    monkeypatch.setattr("headrace.streams.plane.data_plane.BatchConsumer", consumer)
    yield bench
    bench.stop()
    bench.store.close()


def begun(bench: Bench) -> None:
    """Two partitions, ten rows each, logged and folded; the worker has stopped."""
    bench.make_topic(2)
    bench.send(0, 10)
    bench.send(1, 10)
    bench.start()
    for partition in (0, 1):
        bench.await_live(partition, 10)
        bench.await_logged(partition, 10)
    bench.stop()


def test_a_log_start_beyond_d_stops_that_partition_alone_until_accepted(bench: Bench) -> None:
    begun(bench)
    bench.send(0, 10)
    bench.delete_records(0, 15)  # 10 to 14 are gone
    bench.start()
    bench.await_stopped(0, 10)
    beats = bench.cursors()[bench.source(0)].heartbeat_us
    bench.send(1, 5)
    bench.await_live(1, 15)
    time.sleep(0.5)
    assert bench.cursors()[bench.source(0)].heartbeat_us == beats, "nobody beats for a stopped partition"
    assert bench.count(1) == (15, Status.REBUILDING)
    (stopped,) = bench.seen.report.stopped
    assert (stopped.partition, stopped.log_ends, stopped.topic_begins, stopped.topic_ends) == (0, 10, 15, 20)
    (found,) = bench.gaps()
    assert (found.rows_lost, found.goes_on_at) == (5, 15)
    bench.accept_all()
    bench.await_live(0, 20)  # the running worker goes on by itself
    bench.await_count(0, 15)
    bench.await_count(1, 15)
    assert bench.gaps() == []
    bench.await_logged(0, 20)
    assert bench.log.read_from(bench.topic, bench.source(0), 0).get_column("__offset").to_list() == [
        *range(10), *range(15, 20)
    ]  # fmt: skip
    told = [commit.get("headrace.reason") for commit in bench.log.table(bench.topic).history()]
    assert told.count("test") == 1


def test_a_topic_whose_oldest_records_are_deleted_is_read_from_its_begin_the_first_time(bench: Bench) -> None:
    bench.make_topic(2)
    bench.send(0, 10)
    bench.send(1, 10)
    bench.delete_records(0, 7)
    assert bench.gaps() == []
    bench.start()
    bench.await_live(0, 10)
    bench.await_live(1, 10)
    bench.await_count(0, 3)
    bench.await_count(1, 10)
    bench.await_logged(0, 10)
    told = [commit.get("headrace.reason") for commit in bench.log.table(bench.topic).history()]
    assert sum("for the first time" in (each or "") for each in told) == 1
    bench.stop()
    bench.send(0, 5)
    bench.delete_records(0, 12)  # 10 and 11 had to be read
    bench.start()
    bench.await_stopped(0, 10)
    (found,) = bench.gaps()
    assert (found.log_ends, found.topic_begins) == (10, 12)


def test_a_gap_accepted_while_no_worker_runs_holds_for_the_next_one(bench: Bench) -> None:
    begun(bench)
    bench.send(0, 10)
    bench.delete_records(0, 20)
    (found,) = bench.gaps()
    accept_loss(bench.log, bench.stream, found, "test")
    with pytest.raises(FencedError):
        accept_loss(bench.log, bench.stream, found, "twice")
    bench.start()
    bench.await_live(0, 20)
    until(lambda: bench.reported(0) is not None, 10)
    assert bench.reported(0).available_us == START_US  # of the last row before the gap
    bench.stop()
    bench.start()
    bench.send(0, 1)
    bench.await_count(0, 11)


def test_a_cut_topic_stays_stopped_until_accepted_even_when_it_has_grown_again(bench: Bench) -> None:
    begun(bench)
    bench.writer().note(bench.source(0), 10, 14, why={"test": "as if the topic had lost its last four records"})
    bench.start()
    bench.await_live(1, 10)
    bench.await_stopped(0, 10)
    bench.send(0, 8)  # 10 to 17: beyond the log's end again, and four of them repeat offsets
    bench.send(1, 1)
    bench.await_live(1, 11)
    bench.stop()
    bench.start()
    time.sleep(1.0)
    bench.await_stopped(0, 10)
    (found,) = bench.gaps()
    assert (found.log_ends, found.topic_ends, found.rows_lost, found.goes_on_at) == (14, 10, 4, 14)
    bench.accept_all()
    bench.await_live(0, 18)
    bench.await_count(0, 14)  # of the eight, those from 14 on
    assert bench.gaps() == []


def test_a_cut_that_is_accepted_at_once_reads_on_when_the_topic_reaches_d(bench: Bench) -> None:
    begun(bench)
    bench.writer().note(bench.source(0), 10, 14, why={"test": "cut"})
    bench.accept_all()
    bench.start()
    bench.await_live(0, 14)
    bench.send(0, 6)
    bench.await_live(0, 16)
    bench.await_count(0, 12)


def test_a_gap_under_a_live_worker_stops_the_partition_and_keeps_what_was_read(bench: Bench) -> None:
    begun(bench)
    bench.start()
    bench.send(0, 3)
    bench.await_live(0, 13)
    bench.await_logged(0, 13)
    bench.writer().note(bench.source(0), 13, 20, why={"test": "cut"})
    bench.seek(0, 50)
    bench.await_stopped(0, 13)
    assert bench.count(0) == (13, Status.REBUILDING)
    bench.send(1, 2)
    bench.await_live(1, 12)
    bench.accept_all()
    bench.await_live(0, 20)


def test_an_error_that_passes_stops_nothing(bench: Bench) -> None:
    begun(bench)
    bench.start()
    bench.await_live(0, 10)
    for _ in range(3):
        bench.seek(0, 9_999)
        bench.send(0, 1)
    bench.await_live(0, 13)
    bench.await_count(0, 13)


def test_a_recreated_topic_is_a_new_incarnation_and_its_old_cursors_are_in_nobodys_way(bench: Bench) -> None:
    begun(bench)
    bench.start()
    bench.await_count(0, 10)
    old = bench.source(0).topic_id
    bench.remake_topic()
    assert bench.source(0).topic_id != old
    bench.send(0, 4)
    bench.await_live(0, 4)
    bench.await_count(0, 14)  # the log holds both incarnations
    assert bench.gaps() == []


def test_a_recreated_topic_that_has_lost_its_oldest_records_stops(bench: Bench) -> None:
    begun(bench)
    bench.remake_topic()
    bench.send(0, 4)
    bench.delete_records(0, 2)
    (found,) = bench.gaps()
    assert (found.log_ends, found.topic_begins) == (0, 2)
    bench.start()
    until(lambda: bool(bench.seen.report.stopped), 20)
    assert bench.seen.report.stopped[0].topic_begins == 2


def test_new_partitions_are_read_from_0_by_a_running_worker_and_counted_in_every_cursor(bench: Bench) -> None:
    begun(bench)
    bench.start()
    bench.await_count(0, 10)
    for future in bench.client.create_partitions([NewPartitions(bench.topic, 3)]).values():
        future.result(10)
    until(lambda: bench.incarnation_partitions() == 3, 10)
    bench.send(2, 7)
    bench.await_live(2, 7)
    bench.await_count(2, 7)
    until(lambda: {cursor.partitions for cursor in bench.cursors().values()} == {3}, 10)


@pytest.mark.parametrize(("made", "partition"), [(0, 0), (2, 9)])
def test_an_assigned_partition_that_the_broker_does_not_know_blocks_nothing(
    bench: Bench, made: int, partition: int
) -> None:
    """As when a topic is deleted between its assignment and the worker's questions about it: it is tried again."""
    if made:
        bench.make_topic(made)
    stream = LoggedStream.open(bench.stream, bench.log, time.monotonic)
    opener = PartitionOpener(bench.client, bench.store, {bench.topic: stream}, {bench.topic: []})
    opened = opener.open(bench.topic, partition)
    stream.flusher.shutdown()
    assert isinstance(opened, StoppedPartition)
    assert bench.topic in opened.why
    assert (opened.gap, opened.owned) == (None, None)
