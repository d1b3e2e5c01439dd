"""The page about CDC from Postgres runs as it stands; a topic that Kafka has compacted is a table like any other."""

from __future__ import annotations

import io
import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

import headrace
from headrace import Entity, Event, EventProducer, FeatureView, Table
from headrace.app.doctor import kafka
from headrace.bus.kafka_clients import admin
from headrace.bus.topics import TopicPlan, ensure_topics, existing_incarnations, retained_offsets
from headrace.event_log.event_log import EventLog
from tests.support.documents import blocks
from tests.support.view_worker import working
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.features.online.redis.redis_store import RedisOnlineStore

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PAGE = "docs/how-to/cdc-from-postgres.md"
PYTHON = [block.text for block in blocks(PAGE, "python")]
TEXTS = [block.text for block in blocks(PAGE, "text")]
LINES = blocks(PAGE, "json")[-1].text.splitlines()
RECORDS = list(zip(LINES[::2], LINES[1::2], strict=True))
"""The key and the value of each record of the page."""


def folded(store: RedisOnlineStore, view: FeatureView) -> int:
    return sum(cursor.next_offset for cursor in store.cursors([view.spec.versioned_name])[0].values())


def printed(text: str, world: dict[str, Any]) -> str:
    """Return what the block prints. The worker in its thread may log meanwhile: so stdout itself is left alone."""
    out = io.StringIO()
    world["print"] = partial(print, file=out)
    exec(compile(text, PAGE, "exec", dont_inherit=True), world)
    return out.getvalue()


def test_the_page(services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "bootstrap_servers": services.bootstrap_servers, "redis_url": services.redis_url,
        "namespace": namespace, "data_dir": str(tmp_path),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", value)
    world: dict[str, Any] = {"__name__": "page"}
    exec(compile(PYTHON[0], PAGE, "exec", dont_inherit=True), world)
    view: FeatureView = world["profile"]
    config = {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}
    ensure_topics(services.bootstrap_servers, [TopicPlan(view.streams[0].topic, 1, config)])
    producer = Producer({"bootstrap.servers": services.bootstrap_servers})
    stamp = 0
    for key, value in RECORDS:
        stamp = (json.loads(value) or {"ts_ms": stamp})["ts_ms"]
        producer.produce(view.streams[0].topic, None if value == "null" else value, key, timestamp=stamp)
    assert producer.flush(20) == 0
    with working(services, namespace, tmp_path, view) as store:
        until(lambda: folded(store, view) == len(RECORDS), 60)
        world["headrace"] = headrace
        assert printed(PYTHON[1], world) == TEXTS[0]
    assert printed(PYTHON[2], world) == TEXTS[1]
    assert len(PYTHON) == 3


# -- a topic that was compacted -------------------------------------------------------------------------------------


class Level(Event):
    """A row."""

    id: int
    level: int


@pytest.mark.long  # Kafka looks for something to compact each 15 s
def test_a_topic_that_kafka_has_compacted(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    """Versions that were read stay in the log. Versions that Kafka removed earlier are not there, and nothing stops."""
    table = Table(f"{namespace}.levels", Level, key="id")
    view = FeatureView("levels", Entity("level", keys={"id": int}), table, features=["level"])
    config = {
        "cleanup.policy": "compact", "segment.ms": "100", "segment.bytes": "1048576", "delete.retention.ms": "0",
        "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000", "file.delete.delay.ms": "100",
    }  # fmt: skip
    ensure_topics(services.bootstrap_servers, [TopicPlan(table.topic, 1, config)])
    producer = EventProducer(services.bootstrap_servers)

    def put(key: int, level: int | None) -> None:
        if level is None:
            producer.delete(table, {"id": key})
        else:
            producer.send(table, Level(id=key, level=level))
        producer.flush()

    for level in range(5):
        put(1, level)
    with working(services, namespace, tmp_path, view) as store:
        until(lambda: folded(store, view) >= 5, 60)
    for level in range(10, 15):
        put(1, level)
        put(2, level)
    put(3, 7)
    put(2, None)
    began, offset = time.monotonic(), -1
    while time.monotonic() - began < 90 and not compacted(services, table.topic):
        time.sleep(0.3)
        put(9, offset)  # a new segment, so that the one before can be compacted
    assert compacted(services, table.topic)
    with working(services, namespace, tmp_path, view) as store:
        end = retained_offsets(admin(services.bootstrap_servers), table.topic, 0).ends
        until(lambda: folded(store, view) == end, 60)
        found = headrace.FeatureClient(store).get_views("levels", [{"id": key} for key in (1, 2, 3)]).to_lists()
    assert found == [[14], [None], [7]]
    rows = EventLog(tmp_path / "events", namespace=namespace).read(table.topic)
    own = rows.filter((rows["id"] == 1) & (rows["__offset"] < 17))
    levels = own["level"].to_list()
    assert levels[:5] == [0, 1, 2, 3, 4]  # read before they were removed
    assert levels[-1] == 14
    assert len(levels) < 10  # others were removed before anybody read them
    there = existing_incarnations(admin(services.bootstrap_servers), [table.topic])[table.topic]
    known = {**config, "retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}
    said = {str(each.severity): each.found for each in kafka._check_stream(table, there, known)}
    assert "it is compacted" in said["ok"]
    assert "delete.retention.ms is 0" in said["warning"]


def compacted(services: LocalServices, topic: str) -> bool:
    """Whether Kafka has removed some of the versions of key 1 that nobody has read."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": services.bootstrap_servers, "group.id": "none", "log_level": 2})
    consumer.assign([TopicPartition(topic, 0, 5)])
    offsets: list[int] = []
    while messages := consumer.consume(1_000, 1.0):
        offsets += [message.offset() or 0 for message in messages]
    consumer.close()
    return len([offset for offset in offsets if offset < 15]) < 8
