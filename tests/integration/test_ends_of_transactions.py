"""A topic whose last offsets are no records: when Kafka has deleted all of it, a worker that starts finds no gap."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer, TopicPartition
from structlog.testing import capture_logs

from headrace import Count, Entity, FeatureView, Lifetime, Stream
from headrace.bus.kafka_clients import admin
from headrace.bus.source_partition import SourcePartition
from headrace.bus.topics import TopicPlan, ensure_topics, incarnations, retained_offsets
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.streams.processors.processor import Processor
from headrace.streams.processors.processor_run import ProcessorOptions, ProcessorRun
from headrace.streams.repair import find_gaps
from tests.support.crash.definitions import START, START_US, payments
from tests.support.view_worker import working
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.features.online.redis.redis_store import RedisOnlineStore

pytestmark = pytest.mark.integration
ONE_PAYMENT = b'{"user": "u0", "at": "' + START.isoformat().encode() + b'", "cents": 1}'


class Transactions:
    """Transactions on a topic of one partition, and what the log has of it."""

    def __init__(self, services: LocalServices, namespace: str, folder: Path) -> None:
        self.stream: Stream = payments(namespace)
        self.view = FeatureView(
            "user", entity=Entity("user"), source=self.stream, windows=[Lifetime()], features={"n": Count()}
        )
        ensure_topics(services.bootstrap_servers, [TopicPlan(self.stream.topic, 1, {"retention.ms": "-1"})])
        self._client = admin(services.bootstrap_servers)
        self._producer = Producer({"bootstrap.servers": services.bootstrap_servers, "transactional.id": namespace})
        self._producer.init_transactions(30)
        self.log = EventLog(folder / "events", namespace=namespace)
        self.servers, self.namespace = services.bootstrap_servers, namespace
        self._where = services, namespace, folder

    def working(self) -> AbstractContextManager[RedisOnlineStore]:
        return working(*self._where, self.view)

    def write(self, count: int, *, is_kept: bool = True) -> None:
        self._producer.begin_transaction()
        for _ in range(count):
            self._producer.produce(self.stream.topic, ONE_PAYMENT, partition=0, timestamp=START_US // 1_000)
        self._producer.flush(30)
        (self._producer.commit_transaction if is_kept else self._producer.abort_transaction)(30)

    def delete_all(self) -> int:
        """Delete each record as retention does. Return the end of the topic."""
        end = retained_offsets(self._client, self.stream.topic, 0).ends
        for future in self._client.delete_records([TopicPartition(self.stream.topic, 0, end)]).values():
            future.result(10)
        return end

    def position(self) -> int | None:
        topic_id = incarnations(self._client, [self.stream.topic])[self.stream.topic].topic_id
        return LogWriter(self.log, self.stream).position(SourcePartition(0, topic_id))

    def gaps(self) -> int:
        return len(find_gaps(self._client, self.log, [self.stream]))


@pytest.fixture
def transactions(services: LocalServices, namespace: str, tmp_path: Path) -> Transactions:
    return Transactions(services, namespace, tmp_path)


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda written: written.write(5), id="the end of a transaction"),
        pytest.param(lambda written: written.write(5, is_kept=False), id="records that were given up"),
    ],
)
@pytest.mark.parametrize("begins", [0, 3])
def test_a_topic_that_kafka_has_deleted_up_to_its_end_is_no_gap(
    transactions: Transactions, begins: int, ending: Callable[[Transactions], None]
) -> None:
    if begins:
        transactions.write(begins)
    with transactions.working():
        ending(transactions)
        end = begins + bool(begins) + 6
        until(lambda: transactions.position() == end, 20, transactions.position)
    assert transactions.delete_all() == end
    assert transactions.gaps() == 0
    with transactions.working() as store:
        transactions.write(2)
        until(lambda: transactions.position() == end + 3, 20, transactions.position)
        cursors = store.cursors([transactions.view.spec.versioned_name])[0]
        assert {cursor.next_offset for cursor in cursors.values()} <= {end + 2, end + 3}
    assert transactions.log.read(transactions.stream.topic).get_column("__offset").to_list()[-2:] == [end, end + 1]


def test_processor_finds_no_gap_in_a_topic_that_kafka_has_deleted_up_to_its_end(
    transactions: Transactions, namespace: str
) -> None:
    processor = Processor("seen", transactions.stream, (payments(f"{namespace}.other"),), lambda _: [])
    options = ProcessorOptions(transactions.servers, f"{namespace}.seen", f"{namespace}.seen-1")
    stopping = Event()

    def committed(run: ProcessorRun) -> int | None:
        run.look(stopping)
        return run._next.get((transactions.stream.topic, 0))

    transactions.write(5)
    first, second = ProcessorRun(processor, options), ProcessorRun(processor, options)
    until(lambda: committed(first) == 6, 30)
    first.close()
    assert transactions.delete_all() == 6
    with capture_logs() as said:
        transactions.write(1)
        until(lambda: committed(second) == 8, 30)
    second.close()
    assert [each for each in said if each["log_level"] == "error"] == []


def test_records_that_nobody_has_read_are_a_gap(transactions: Transactions) -> None:
    with transactions.working():
        transactions.write(5)
        until(lambda: transactions.position() == 6, 20, transactions.position)
    transactions.write(1)
    transactions.delete_all()
    assert transactions.gaps() == 1


def test_a_transaction_that_is_open_is_not_passed(transactions: Transactions) -> None:
    transactions.write(3)
    late = Producer({"bootstrap.servers": transactions.servers, "transactional.id": f"{transactions.namespace}-late"})
    late.init_transactions(30)
    late.begin_transaction()
    late.produce(transactions.stream.topic, ONE_PAYMENT, partition=0, timestamp=START_US // 1_000)
    late.flush(30)
    with transactions.working():
        transactions.write(2)  # behind the open one: nobody may see it yet
        until(lambda: transactions.position() == 4, 20, transactions.position)
        late.commit_transaction(30)
        until(lambda: transactions.position() == 9, 20, transactions.position)
    assert transactions.log.read(transactions.stream.topic).get_column("__offset").to_list() == [0, 1, 2, 4, 5, 6]
