"""Payments that flow while somebody looks them up: at each look the answer is right, and at the end all of it is."""

from __future__ import annotations

import json
import random
import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from operator import ge
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics
from headrace.errors import OnlineStoreUnavailableError
from headrace.event_log.event_log import EventLog
from headrace.features.online.cursor import is_live
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient, FeatureVectors, Status
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.worker import publish_definitions
from tests.support.control_topics import OBSERVATIONS
from tests.support.crash.definitions import START, START_US, USERS, payments, service, users
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

PARTITIONS = 2
SERVED = {Status.PRESENT, Status.MISSING}


class Flow:
    """Payments of random users, each partition's in order; remembers what everybody paid below each offset."""

    def __init__(self, servers: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "log_level": 2})
        self._topic, self._random = topic, random.Random(5)
        self.ends = [0] * PARTITIONS
        self._offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._paid: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0])

    def send(self, count: int) -> None:
        """Send some, and wait for the broker."""
        for _ in range(count):
            user, partition = self._random.choice(USERS), self._random.randrange(PARTITIONS)
            cents = self._random.randrange(1, 1_000)
            self._paid[user, partition].append(self._paid[user, partition][-1] + cents)
            self._offsets[user, partition].append(self.ends[partition])
            self.ends[partition] += 1
            value = json.dumps({"user": user, "at": START.isoformat(), "cents": cents})
            self._producer.produce(self._topic, value, partition=partition, timestamp=START_US // 1_000)
        assert self._producer.flush(20) == 0

    def below(self, user: str, offsets: list[int]) -> tuple[int, int]:
        """How often, and how much, a user paid below these offsets."""
        own = [(user, partition) for partition in range(PARTITIONS)]
        counts = [bisect_left(self._offsets[key], offset) for key, offset in zip(own, offsets, strict=True)]
        return sum(counts), sum(self._paid[key][count] for key, count in zip(own, counts, strict=True))


class PaymentsBench:
    """A topic, a worker in a thread over a Redis, and somebody who looks everybody up all the time.

    ``may_be_away``: Redis may not answer for a while.
    """

    def __init__(
        self, services: LocalServices, url: str, namespace: str, folder: Path, *, may_be_away: bool = False
    ) -> None:
        self.stream, self.view = payments(namespace), users(namespace)
        self.store, self._asked = [RedisOnlineStore(url, namespace) for _ in range(2)]
        self._tolerated = (OnlineStoreUnavailableError,) if may_be_away else ()
        self.client = FeatureClient(self._asked, clock=lambda: START_US)
        self.log, self.seen = EventLog(folder), Counter[Status]()
        self.troubles: list[Exception] = []
        self._over = threading.Event()
        never = {"retention.ms": "-1"}
        topics = [(self.stream.topic, PARTITIONS), (dead_letter_topic(self.stream.topic), 1), (OBSERVATIONS, 1)]
        ensure_topics(services.bootstrap_servers, [TopicPlan(name, count, never) for name, count in topics])
        self.flow = Flow(services.bootstrap_servers, self.stream.topic)
        self._plane = DataPlane(
            PlaneConfig(services.bootstrap_servers, group=namespace, flush_s=0.1, heartbeat_s=0.2),
            [self.stream],
            FixedViews(
                [self.view.spec], lambda: publish_definitions(self.store, [self.view], [service(namespace)])
            ),
            self.store, self.log,
        )  # fmt: skip
        self._worker = threading.Thread(target=self._plane.run)
        self._others = [threading.Thread(target=self._until_over, args=(does,)) for does in (self._flow, self.look_up)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Events flow and are looked up; at the end everything is exact."""
        self._worker.start()
        self.flow.send(3_000)
        self.await_end()
        self.look_up()
        for thread in self._others:
            thread.start()
        try:
            yield
            time.sleep(0.3)
            self._end()
            self.await_end()
            self.check_end()
        finally:
            self._end()
            self._plane.stop()
            self._worker.join(30)
            self.store.close()
            self._asked.close()

    def _end(self) -> None:
        self._over.set()
        for thread in self._others:
            thread.join(30)

    def _until_over(self, does: Callable[[], object]) -> None:
        try:
            while not self._over.wait(0.02):
                with suppress(*self._tolerated):
                    does()
        except Exception as error:  # noqa: BLE001 - told by check_end
            self.troubles.append(error)

    def _flow(self) -> None:
        self.flow.send(40)

    def look_up(self) -> FeatureVectors:
        """Everybody, who is each told the values of the V that the answer names."""
        found = self.client.get("risk", [{"user": user} for user in USERS])
        for row, (user, values) in enumerate(zip(USERS, found.to_dicts(), strict=True)):
            at = {int(text.rpartition("-")[2]): offset for text, offset in found.offsets(row)["user"].items()}
            wanted = self.flow.below(user, [at.get(partition, 0) for partition in range(PARTITIONS)])
            assert (values["user__n_1d"], values["user__cents_1d"]) == wanted, (user, at, found.statuses(row))
        self.seen.update(found.views[0].statuses)
        return found

    def await_end(self) -> None:
        """Until the cursors of all shards are where the topic ends."""
        until(lambda: self._cursors() == (self.flow.ends, True), 30, lambda: (self._cursors(), self.flow.ends))

    def await_folded(self) -> None:
        """Until the cursors are past all that was sent so far."""
        sent = list(self.flow.ends)
        until(lambda: all(map(ge, self._cursors()[0], sent)), 30, lambda: (self._cursors(), sent))

    def _cursors(self) -> tuple[list[int], bool]:
        found = self.store.cursors([f"user@{self.view.version}"])[0]
        return [found[source].next_offset for source in sorted(found)], is_live(found)

    def check_end(self) -> None:
        """Each record counts once and stands once in the log; nobody was told anything wrong meanwhile."""
        assert not self.troubles, self.troubles[0]
        assert self.seen.total() > 3 * len(USERS)
        found = self.look_up()
        assert set(found.views[0].statuses) <= SERVED
        for row, user in enumerate(USERS):
            values = found.to_dicts()[row]
            assert (values["user__n_1d"], values["user__cents_1d"]) == self.flow.below(user, self.flow.ends)
        cursors = self.store.cursors([f"user@{self.view.version}"])[0].values()
        assert sum(cursor.rows_total for cursor in cursors) == sum(self.flow.ends)
        self._plane.flush_soon()
        until(lambda: self.log.read(self.stream.topic).height >= sum(self.flow.ends), 10)
        logged = self.log.read(self.stream.topic).select("__partition", "__offset").unique()
        assert logged.height == self.log.read(self.stream.topic).height == sum(self.flow.ends)


def is_served(bench: PaymentsBench) -> bool:
    """Whether everybody is served again."""
    try:
        return set(bench.look_up().views[0].statuses) <= SERVED
    except OnlineStoreUnavailableError:
        return False
