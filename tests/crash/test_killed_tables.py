"""Workers that are killed at every step of their work have the newest rows of a plain loop, online and in the log."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from confluent_kafka import Producer
from redis import Redis

from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics
from headrace.event_log.event_log import EventLog
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient
from tests.support.control_topics import OBSERVATIONS
from tests.support.crash.accounts_table import (
    ACCOUNTS,
    PARTITIONS,
    accounts,
    newest,
    newest_rows,
    sent_versions,
    work_on_accounts,
)
from tests.support.crash.faults import CATCH_UP_STEPS, TAKE_OVER_STEPS, WORK_STEPS
from tests.support.crash.worker import Setting, Worker
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
RECORDS, PIECE = 4_000, 500
STEPS = (*WORK_STEPS, *TAKE_OVER_STEPS)


@pytest.mark.timeout(240)
def test_killed_workers_have_the_newest_row_of_each_key(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    table, view, sent = accounts(namespace), newest(namespace), sent_versions(RECORDS)
    never = {"retention.ms": "-1"}
    plans = [(table.topic, PARTITIONS), (dead_letter_topic(table.topic), 1), (OBSERVATIONS, 1)]
    ensure_topics(services.bootstrap_servers, [TopicPlan(name, count, never) for name, count in plans])
    producer = Producer({"bootstrap.servers": services.bootstrap_servers, "enable.idempotence": True})
    output = str(tmp_path / "worker.txt")
    setting = Setting(
        services.bootstrap_servers, services.redis_url, str(tmp_path / "log"), namespace, output,
        batch_rows=100, flush_s=0.1, catch_up_rows=500,
    )  # fmt: skip
    store, log = RedisOnlineStore(services.redis_url, namespace), EventLog(tmp_path / "log")

    def start(number: int, step: str | None) -> Worker:
        return Worker(replace(setting, group=f"{namespace}-{number}", failpoint=step), work_on_accounts)

    def folded() -> int:
        return sum(cursor.next_offset for cursor in store.cursors([view.spec.versioned_name])[0].values())

    def is_beyond(offset: int) -> bool:
        return folded() > offset

    def produce(begin: int) -> None:
        for each in sent[begin : begin + PIECE]:
            producer.produce(table.topic, each.value, b"%d" % each.account, each.partition, timestamp=each.timestamp_ms)
        assert producer.flush(30) == 0

    def die(number: int, step: str) -> None:
        dying = start(number, f"{step}:1")
        assert dying.join(60)

    steps = cycle(STEPS)
    worker = start(0, None)
    try:
        for number, begin in enumerate(range(0, RECORDS, PIECE), start=1):
            worker.kill()
            produce(begin)
            die(number, next(steps))
            worker = start(number + 100, None)
            until(partial(is_beyond, begin), 60)
        until(lambda: folded() == RECORDS and log.read(table.topic).height == RECORDS, 60)
        worker.kill()
        with Redis.from_url(services.redis_url) as redis:  # the views are made again from the log
            redis.delete(*redis.scan_iter(match=f"*{namespace}*", count=1_000))
        for number, step in enumerate(CATCH_UP_STEPS):
            die(number + 200, step)
        worker = start(300, None)
        until(lambda: folded() == RECORDS, 60)

        wanted = newest_rows(sent)
        assert 10 < sum(cents is not None for cents, _ in wanted.values()) < len(ACCOUNTS)
        keys = [{"account": account} for account in ACCOUNTS]
        found = FeatureClient(store).get("newest", keys)
        assert found.to_lists() == list(wanted.values())
        assert set(map(str, (found.statuses(row)["newest"] for row in range(found.rows)))) == {"present"}
        history = FeatureHistory([view.spec], log)
        history.refresh()
        trained = history.features(pl.DataFrame(keys), np.full(len(keys), 2**52))
        assert list(map(list, trained.iter_rows())) == list(wanted.values())
        rows = log.read(table.topic)
        assert rows.select("__partition", "__offset").n_unique() == RECORDS
        assert set(rows["__op"].unique()) == {"upsert", "delete"}
    finally:
        worker.kill()
        store.close()
