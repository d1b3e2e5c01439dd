"""What the crash tests share: a topic, workers to kill, and the comparison with what was produced."""

from __future__ import annotations

import multiprocessing
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from confluent_kafka import Producer

from headrace.bus.topics import OBSERVATIONS, TopicPlan, admin, dead_letters, ensure_topics, incarnations
from headrace.errors import TransientError
from headrace.features.log import EventLog
from headrace.features.online import Source
from headrace.features.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient, Features, Status
from tests.crash.definitions import PARTITIONS, USERS, Produced, Till, naive, payments, users
from tests.crash.worker import Setting, work

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from headrace.app.local.services import LocalServices

T = TypeVar("T")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["tests.crash.worker", "deltalake", "pyarrow.dataset", "redis", "confluent_kafka.admin"]
)


class Scene:
    """One topic with its log, its namespace and its workers."""

    def __init__(self, services: LocalServices, namespace: str, folder: Path, seed: int) -> None:
        self.topic = payments(namespace).topic
        self.till = Till(seed)
        self.log = EventLog(folder)
        self.store = RedisOnlineStore(services.redis_url, namespace, timeout_s=2.0)
        self.client = FeatureClient(self.store)
        self._view = f"user@{users(namespace).version}"
        self._setting = Setting(
            services.bootstrap_servers, services.redis_url, str(folder), namespace, f"{namespace}-all"
        )
        self._producer = Producer({"bootstrap.servers": services.bootstrap_servers, "enable.idempotence": True})
        self._workers: list[BaseProcess] = []
        never = {"retention.ms": "-1"}
        topics = [(self.topic, PARTITIONS), (dead_letters(self.topic), 1), (OBSERVATIONS, 1)]
        ensure_topics(services.bootstrap_servers, [TopicPlan(name, count, never) for name, count in topics])
        topic_id = eventually(
            lambda: incarnations(admin(services.bootstrap_servers), [self.topic])[self.topic].topic_id
        )
        self._sources = [Source(partition, topic_id) for partition in range(PARTITIONS)]

    def start(self, *, own_group: bool = True, failpoint: str | None = None) -> BaseProcess:
        """Start a worker; with a group of its own it gets all partitions at once, whoever else has them."""
        group = uuid.uuid4().hex if own_group else self._setting.group
        worker = PROCESSES.Process(target=work, args=(replace(self._setting, group=group, failpoint=failpoint),))
        worker.start()
        self._workers.append(worker)
        return worker

    def produce(self, count: int) -> None:
        """Produce the next records and wait for the broker."""
        for record in self.till.take(count):
            self._put(record)
        assert self._producer.flush(30) == 0

    def _put(self, record: Produced) -> None:
        self._producer.produce(
            self.topic,
            record.value,
            b"k",
            partition=record.partition,
            timestamp=record.timestamp_ms,
            on_delivery=_delivered,
        )

    def look_up(self, at_us: int | None = None) -> Features:
        """Every user at t."""
        return self.client.get("risk", [{"user": user} for user in USERS], as_of_us=at_us or self.till.end_us)

    def folded(self) -> list[int]:
        """How far the cursors are, by partition."""
        cursors = self.store.cursors([self._view])[0]
        found = {source.partition: cursor.next_offset for source, cursor in cursors.items()}
        return [found.get(partition, 0) for partition in range(PARTITIONS)]

    def logged(self) -> list[int]:
        """How far the event log is, by partition."""
        if not self.log.exists(self.topic):
            return [0] * PARTITIONS
        table = self.log.table(self.topic)
        return [table.transaction_version(source.text) or 0 for source in self._sources]

    def await_end(self, timeout_s: float = 60.0) -> None:
        """Until cursors and log are at the high watermarks; AssertionError as soon as no worker is left."""
        ends = self.till.ends()
        until(
            lambda: self._alive() and self.folded() == ends == self.logged() and self._served(),
            timeout_s,
            lambda: (ends, self.folded(), self.logged()),
        )

    def _alive(self) -> bool:
        assert any(worker.is_alive() for worker in self._workers), [worker.exitcode for worker in self._workers]
        return True

    def _served(self) -> bool:
        found = self.look_up()
        return {found.statuses(row)["user"] for row in range(len(USERS))} <= {Status.PRESENT, Status.MISSING}

    def check_look_ups(self) -> None:
        """Every online value at several t is that of a plain loop over all that was produced."""
        first, last = self.till.produced[0].timestamp_ms * 1_000, self.till.end_us
        for at_us in (last, last + 45_000_000, (first + last) // 2, first + 5_000_000):
            found = self.look_up(at_us)
            wanted = naive(self.till.produced, self.till.ends(), at_us)
            assert dict(zip(USERS, found.to_lists(), strict=True)) == wanted
        cursors = self.store.cursors([self._view])[0].values()
        assert sum(cursor.rows_total for cursor in cursors) == sum(r.event is not None for r in self.till.produced)

    def check_consistent(self, found: Features) -> list[int]:
        """The values are those of their own V, whatever that is; V of the partitions, the least of all users."""
        wanted: dict[tuple[int, ...], dict[str, list[object]]] = {}
        least = self.till.ends()
        for row, (user, values) in enumerate(zip(USERS, found.to_lists(), strict=True)):
            offsets = {int(text.rpartition("-")[2]): at for text, at in found.offsets(row)["user"].items()}
            below = tuple(offsets.get(partition, 0) for partition in range(PARTITIONS))
            if below not in wanted:
                wanted[below] = naive(self.till.produced, list(below), found.at_us)
            assert values == wanted[below][user], (user, below, found.statuses(row))
            least = [min(pair) for pair in zip(least, below, strict=True)]
        return least

    def check_log(self) -> None:
        """The rows of the log are what was produced, each once, with their content."""
        frame = self.log.read(self.topic).select(
            "__partition", "__offset", "__verdict", "__value", "user", "at", "cents"
        )
        found = [
            (partition, offset, verdict, value, user, None if at is None else round(at.timestamp() * 1e6), cents)
            for partition, offset, verdict, value, user, at, cents in frame.iter_rows()
        ]
        assert sorted(found) == sorted(map(_row, self.till.produced))

    def close(self) -> None:
        """Kill what is left."""
        for worker in self._workers:
            worker.kill()
            worker.join()
        self.store.close()


def _delivered(error: object, _: object) -> None:
    assert error is None, error


def _row(record: Produced) -> tuple[object, ...]:
    event = record.event
    if event is None:
        return (record.partition, record.offset, "rejected", record.value, None, None, None)
    return (record.partition, record.offset, "accepted", None, event["user"], event["at"], event["cents"])


def until(holds: Callable[[], bool], timeout_s: float, say: Callable[[], object] = lambda: "") -> None:
    """Wait until it holds; AssertionError with what ``say`` says after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, say()
        time.sleep(0.02)


def eventually(ask: Callable[[], T]) -> T:
    """The answer, asked for until there is one: a new topic is not known at once."""
    for _ in range(100):
        try:
            return ask()
        except TransientError:
            time.sleep(0.05)
    return ask()
