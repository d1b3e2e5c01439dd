"""Workers that are killed at every step of their work find the duplicates that a plain loop finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from headrace.base.times import utc_datetime
from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient
from tests.support.control_topics import OBSERVATIONS
from tests.support.crash.faults import TAKE_OVER_STEPS, WORK_STEPS
from tests.support.crash.unique_payments import (
    PARTITIONS,
    USERS,
    payments,
    sent_payments,
    users,
    verdicts,
    work_on_payments,
)
from tests.support.crash.worker import Setting, Worker
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
RECORDS, PIECE = 4_500, 500
STEPS = (*WORK_STEPS, *TAKE_OVER_STEPS)


@pytest.mark.timeout(240)
def test_killed_workers_count_a_payment_that_was_sent_twice_once(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    topic, sent = payments(namespace).topic, sent_payments(RECORDS)
    never = {"retention.ms": "-1"}
    plans = [(topic, PARTITIONS), (dead_letter_topic(topic), 1), (OBSERVATIONS, 1)]
    ensure_topics(services.bootstrap_servers, [TopicPlan(name, count, never) for name, count in plans])
    producer = Producer({"bootstrap.servers": services.bootstrap_servers, "enable.idempotence": True})
    output = str(tmp_path / "worker.txt")
    setting = Setting(
        services.bootstrap_servers, services.redis_url, str(tmp_path / "log"), namespace, output,
        batch_rows=100, flush_s=0.1, catch_up_rows=500,
    )  # fmt: skip
    store, log = RedisOnlineStore(services.redis_url, namespace), EventLog(tmp_path / "log")
    view = f"user@{users(namespace).version}"

    def start(number: int, step: str | None) -> Worker:
        return Worker(replace(setting, group=f"{namespace}-{number}", failpoint=step), work_on_payments)

    def folded() -> int:
        return sum(cursor.next_offset for cursor in store.cursors([view])[0].values())

    def is_beyond(offset: int) -> bool:
        return folded() > offset

    def produce(begin: int) -> None:
        for each in sent[begin : begin + PIECE]:
            producer.produce(topic, each.value, b"k", each.partition, timestamp=each.timestamp_ms)
        assert producer.flush(30) == 0

    steps, deaths = cycle(STEPS), 0
    worker = start(0, None)
    for number, begin in enumerate(range(0, RECORDS, PIECE), start=1):
        if number % 3:
            worker.kill()
            produce(begin)
            dying = start(number, f"{next(steps)}:1")
            assert dying.join(60)
            worker = start(number + 100, None)
        else:  # at any moment, while a second worker takes its partitions over
            second = start(number, None)
            produce(begin)
            until(partial(is_beyond, begin), 60)
            worker.kill()
            worker = second
        deaths += 1
    try:
        until(lambda: folded() == RECORDS and log.read(topic).height == RECORDS, 60)
        wanted = verdicts(sent)
        rows = log.read(topic)
        for partition in range(PARTITIONS):
            own = [verdict for verdict, each in zip(wanted, sent, strict=True) if each.partition == partition]
            assert rows.filter(rows["__partition"] == partition)["__verdict"].to_list() == own
        assert 750 < wanted.count("duplicate") < 1_500
        assert deaths == RECORDS // PIECE
        counted = [each for verdict, each in zip(wanted, sent, strict=True) if verdict == "accepted"]
        payments_of = Counter(each.user for each in counted)
        found = FeatureClient(store).get(
            "risk", [{"user": user} for user in USERS], as_of=utc_datetime(sent[-1].timestamp_ms * 1_000)
        )
        cents = {user: sum(each.cents for each in counted if each.user == user) for user in USERS}
        assert found.to_lists() == [[payments_of[user], cents[user]] for user in USERS]
    finally:
        worker.kill()
        store.close()
