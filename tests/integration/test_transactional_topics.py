"""A worker reads a topic of transactions: it has no record of one that was given up, and no gap where one ends."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import redis
from confluent_kafka import Producer

from headrace import Count, Entity, FeatureClient, FeatureView, Lifetime, Sum
from headrace.bus.tail import TopicTail
from headrace.errors import FeaturesUnknownError
from headrace.event_log.event_log import EventLog
from tests.support.ingest_project import rows
from tests.support.processor_project import PARTITIONS, ProcessorProject, offsets
from tests.support.view_worker import working
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


class Written:
    """Transactions on the topic of alerts, and what is to be found."""

    def __init__(self, project: ProcessorProject, namespace: str) -> None:
        self._topic, self._number = project.alerts, 0
        self._plain = Producer({"bootstrap.servers": project.servers})
        self._producer = Producer({"bootstrap.servers": project.servers, "transactional.id": namespace})
        self._producer.init_transactions(30)
        self.expected: Counter[str] = Counter()

    def write(self, count: int, *, is_kept: bool) -> None:
        """One transaction, committed or given up, and a record without a transaction."""
        self._producer.begin_transaction()
        for _ in range(count):
            self._put(self._producer, is_kept=is_kept)
        self._producer.flush(30)
        (self._producer.commit_transaction if is_kept else self._producer.abort_transaction)(30)

    def plain(self) -> None:
        self._put(self._plain, is_kept=True)
        self._plain.flush(30)

    def _put(self, producer: Producer, *, is_kept: bool) -> None:
        shop = f"s{self._number % 7}"
        row = {"payment_id": self._number, "shop": shop, "amount": 1.0, "paid_at": "2026-03-02T09:00:00Z"}
        producer.produce(self._topic, json.dumps(row).encode(), shop.encode(), self._number % PARTITIONS)
        self._number += 1
        self.expected[shop] += is_kept


def test_a_worker_folds_a_topic_of_transactions_exactly(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    project = ProcessorProject(services, namespace, tmp_path)
    alerts, written = project.definitions()["alerts"], Written(project, namespace)
    view = FeatureView(
        "shop",
        entity=Entity("shop"),
        source=alerts,
        windows=[Lifetime()],
        features={"n": Count(), "sum": Sum("amount")},
    )
    log = EventLog(tmp_path / "events", namespace=namespace)

    def is_exact() -> bool:
        try:
            with FeatureClient.from_url(services.redis_url, namespace) as client:
                found = client.get("shop", [{"shop": shop} for shop in written.expected]).to_dicts()
        except FeaturesUnknownError:  # the worker has not come so far
            return False
        counts: dict[str, Any] = {
            shop: row["shop__n_lifetime"] for shop, row in zip(written.expected, found, strict=True)
        }
        sums = [row["shop__sum_lifetime"] for row in found]
        return counts == dict(written.expected) and sums == [float(count) for count in written.expected.values()]

    def is_logged() -> bool:
        return log.exists(alerts.topic) and rows(log, alerts.topic).height == written.expected.total()

    for turn in range(3):  # each begins behind an end of a transaction that was given up
        written.write(30, is_kept=True)
        with working(services, namespace, tmp_path, view):
            written.write(50, is_kept=False)
            written.plain()
            written.write(30 + turn, is_kept=True)
            written.write(20, is_kept=False)
            until(is_logged, 30)
            until(is_exact, 30)
        written.write(10, is_kept=False)
    found = rows(log, alerts.topic)
    assert found.get_column("payment_id").n_unique() == found.height == written.expected.total()
    assert offsets(project.servers, alerts.topic) > found.height
    with redis.Redis.from_url(services.redis_url) as store:  # all is folded again, from the log
        for key in store.scan_iter(f"*{namespace}*"):
            store.delete(key)
    with working(services, namespace, tmp_path, view):
        until(is_exact, 30)
    with closing(TopicTail(project.servers, [alerts.topic], from_beginning=True)) as tail:
        assert len(tail.drain()) == written.expected.total()
