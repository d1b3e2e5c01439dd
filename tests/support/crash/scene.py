"""What the crash tests share: a topic on which events flow, and workers to kill."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition
from redis import Redis

from headrace.base.times import utc_datetime
from headrace.bus.kafka_clients import admin, producer, reader
from headrace.bus.source_partition import SourcePartition
from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics, incarnations
from headrace.errors import TransientError
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient, FeatureVectors, Status
from tests.support.control_topics import OBSERVATIONS
from tests.support.crash.definitions import PARTITIONS, USERS, Produced, Till, payments, users
from tests.support.crash.worker import Setting, Worker
from tests.support.waiting import eventually, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from confluent_kafka import KafkaError, Message
    from deltalake import DeltaTable

    from headrace.app.local.valkey import LocalValkey
    from tests.support.crash.disk import Disk

_FLOW_EACH_S = 0.02


class Scene:
    """One topic with its event log, its Redis, its namespace and its workers.

    ``deaths`` counts the workers that were killed, by the step at which it happened.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        valkey: LocalValkey,
        namespace: str,
        folder: Path,
        *,
        seed: int,
        disk: Disk | None = None,
        event_log: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``folder`` is for the event log; ``disk`` is the one that it lies on, if it can be full.

        ``bootstrap_servers`` may have the properties that let clients in.
        ``event_log`` is another place for it. ``environment``: variables of the workers.
        """
        self.valkey, self.disk = valkey, disk
        self.topic = payments(namespace).topic
        self.till = Till(seed)
        event_log = event_log or str(folder)
        self.log = EventLog(event_log)
        self.store = RedisOnlineStore(valkey.url, namespace, timeout="2s")
        self.redis = Redis.from_url(valkey.url)
        self.client = FeatureClient(self.store)
        self.view = f"user@{users(namespace).version}"
        self.deaths: Counter[str] = Counter()
        self.workers: list[Worker] = []
        self._setting = Setting(
            bootstrap_servers, valkey.url, event_log, namespace, os.devnull, environment=environment or {}
        )
        self._folder = folder
        self._started = 0
        self.group = f"{namespace}-all"
        self._producer = producer(bootstrap_servers, {"enable.idempotence": True})
        self._one_at_a_time = threading.Lock()
        self._one_report_at_a_time = threading.Lock()
        self._undelivered: list[object] = []
        self._acknowledged = [0] * PARTITIONS  # how many, by partition
        self._table: DeltaTable | None = None
        self._make_topics(bootstrap_servers)

    def _make_topics(self, bootstrap_servers: str) -> None:
        never = {"retention.ms": "-1"}
        topics = [(self.topic, PARTITIONS), (dead_letter_topic(self.topic), 1), (OBSERVATIONS, 1)]
        ensure_topics(bootstrap_servers, [TopicPlan(name, count, never) for name, count in topics])
        topic_id = eventually(lambda: incarnations(admin(bootstrap_servers), [self.topic])[self.topic].topic_id)
        self.sources = [SourcePartition(partition, topic_id) for partition in range(PARTITIONS)]

    # -- workers ----------------------------------------------------------------------------------------------------

    def start(
        self, *, group: str | None = None, failpoint: str | None = None, flush_s: float = Setting.flush_s
    ) -> Worker:
        """Start a worker; with a group of its own (None) it gets all partitions at once, whoever else has them."""
        group = group or uuid.uuid4().hex
        self._started += 1
        output = _output(self._folder, self.disk, self._started)
        worker = Worker(replace(self._setting, group=group, failpoint=failpoint, flush_s=flush_s, output=output))
        self.workers.append(worker)
        return worker

    @property
    def worker(self) -> Worker:
        """The one that was started last."""
        return self.workers[-1]

    def kill(self, worker: Worker, step: str) -> None:
        """As by kill -9, and counted."""
        worker.kill()
        self._count(worker, step)

    def await_death(self, worker: Worker, step: str, timeout_s: float = 120.0) -> None:
        """Until it has died of its failpoint; more to do brings it there."""
        deadline = time.monotonic() + timeout_s
        while not worker.join(0.05):
            assert time.monotonic() < deadline, (
                f"never came to {step}",
                self.till.ends(),
                self.folded(),
                self.logged(),
            )
            self.produce(20)
        self._count(worker, step)

    def _count(self, worker: Worker, step: str) -> None:
        assert worker.exitcode == -9, (step, worker.exitcode)
        self.deaths[step] += 1
        self.workers.remove(worker)

    # -- events -----------------------------------------------------------------------------------------------------

    def produce(self, count: int, broken: float = 0.01) -> None:
        """Produce the next records and wait until the broker has them and all earlier ones.

        Later records of ``flow`` are not waited for: with them the producer's queue may never be empty.
        """
        wanted = self._put(count, broken)

        def acknowledged() -> bool:
            self._producer.poll(0.01)
            return all(have >= end for have, end in zip(self._acknowledged, wanted, strict=True))

        until(acknowledged, 180, lambda: ("not acknowledged", wanted, self._acknowledged))
        assert not self._undelivered, self._undelivered[:3]

    def _put(self, count: int, broken: float = 0.01) -> list[int]:
        """Produce the next records. Return the number of records produced by now, by partition."""
        with self._one_at_a_time:
            for record in self.till.take(count, broken):
                self._producer.produce(
                    self.topic,
                    record.value,
                    b"k",
                    partition=record.partition,
                    timestamp=record.timestamp_ms,
                    on_delivery=partial(self._delivered, record),
                )
            ends = self.till.ends()
        self._producer.poll(0)
        return ends

    def _delivered(self, record: Produced, error: KafkaError | None, message: Message) -> None:
        at = message.offset()  # None: sent again after the broker died, and found to be there already
        if error is not None or at not in {record.offset, None}:
            self._undelivered.append((record.partition, record.offset, error, at))
        with self._one_report_at_a_time:  # two threads poll: reports come in any order
            self._acknowledged[record.partition] += 1

    @contextmanager
    def flow(self, rows_per_s: int = 500) -> Iterator[None]:
        """Records come all the time; then all are delivered."""
        stop = threading.Event()
        each = max(1, round(rows_per_s * _FLOW_EACH_S))

        def run() -> None:
            while not stop.wait(_FLOW_EACH_S):
                self._put(each)

        with ThreadPoolExecutor(1) as thread:
            flowing = thread.submit(run)
            try:
                yield
            finally:
                stop.set()
        flowing.result()
        self.produce(1)

    def misplaced(self) -> list[tuple[int, int]]:
        """Partition and offset of what the broker holds otherwise than it was produced."""
        consumer = reader(self._setting.bootstrap_servers, "crash-suite")
        consumer.assign([TopicPartition(self.topic, partition, 0) for partition in range(PARTITIONS)])
        wanted = {(record.partition, record.offset): record.value for record in list(self.till.produced)}
        found: dict[tuple[int | None, int | None], bytes | None] = {}
        while len(found) < len(wanted) and (messages := consumer.consume(10_000, 10)):
            found |= {(message.partition(), message.offset()): message.value() for message in messages}
        consumer.close()
        return [place for place, value in wanted.items() if found.get(place) != value]

    # -- how far it is ----------------------------------------------------------------------------------------------

    def look_up(self, at_us: int | None = None) -> FeatureVectors:
        """Every user at t."""
        return self.client.get(
            "risk", [{"user": user} for user in USERS], as_of=utc_datetime(at_us or self.till.end_us)
        )

    def folded(self) -> list[int]:
        """How far the cursors are, by partition."""
        cursors = self.store.cursors([self.view])[0]
        found = {source.partition: cursor.next_offset for source, cursor in cursors.items()}
        return [found.get(partition, 0) for partition in range(PARTITIONS)]

    def logged(self) -> list[int]:
        """How far the event log is, by partition."""
        if self._table is None:
            if not self.log.exists(self.topic):
                return [0] * PARTITIONS
            self._table = self.log.table(self.topic)
        with self.log.storage(self.topic):
            self._table.update_incremental()
            return [self._table.transaction_version(source.text) or 0 for source in self.sources]

    def await_end(self, timeout_s: float = 60.0) -> None:
        """Until cursors and log are at the high watermarks; AssertionError as soon as no worker is left."""
        ends = self.till.ends()
        until(lambda: self.reached(ends), timeout_s, lambda: (ends, self.state()))
        assert ends == self.folded() == self.logged()

    def reached(self, ends: list[int]) -> bool:
        """Whether log and look-ups have everything below some offsets; not while a store does not answer."""
        assert any(worker.is_alive() for worker in self.workers), "no worker is left"
        try:
            done = all(_beyond(positions, ends) for positions in (self.folded(), self.logged()))
            return done and served(self.look_up())
        except TransientError:
            return False

    def state(self) -> dict[str, object]:
        """What there is to see where it does not become exact."""
        found = self.look_up()
        return {
            "ends": self.till.ends(),
            "folded": self.folded(),
            "logged": self.logged(),
            "cursors": list(self.store.cursors([self.view])[0].values()),
            "statuses": Counter(str(found.statuses(row)["user"]) for row in range(found.rows)),
            "workers": [worker.exitcode for worker in self.workers],
            "outputs": [worker.output for worker in self.workers],
        }

    def close(self) -> None:
        """Kill what is left."""
        for worker in self.workers:
            worker.kill()
        self.store.close()
        self.redis.close()


def _output(folder: Path, disk: Disk | None, number: int) -> str:
    """The file for the messages of a worker: never on the disk that may be full."""
    if disk is None:
        return f"{folder}-worker-{number}.txt"
    return f"{disk.folder}-worker-{number}.txt" if disk.is_mounted else os.devnull


def served(found: FeatureVectors) -> bool:
    """Whether each of its values is the present one."""
    statuses = {found.statuses(row)["user"] for row in range(found.rows)}
    return statuses <= {Status.PRESENT, Status.MISSING}


def _beyond(positions: list[int], ends: list[int]) -> bool:
    return all(position >= end for position, end in zip(positions, ends, strict=True))
