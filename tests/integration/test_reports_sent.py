"""Reports of processes about themselves on a real Kafka: sent without a wait, and never at the cost of the process."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import datetime  # noqa: TC003 - the event type reads it
from typing import TYPE_CHECKING

import pytest
from msgspec import UNSET

from headrace import Event, Stream
from headrace.bus import check_report, heartbeats
from headrace.bus.control_topics import ControlTopics
from headrace.bus.heartbeats import TrainerHeartbeat
from headrace.bus.kafka_clients import admin
from headrace.bus.producer import EventProducer
from headrace.bus.report_sender import HeartbeatSender, ReportSender, process_name
from headrace.bus.tail import TopicTail
from headrace.bus.topics import (
    TopicPlan,
    configurations,
    dead_letter_topic,
    ensure_report_topics,
    ensure_topics,
    has_topic,
)
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.trainers.process.trainer_heartbeat import TrainerHeartbeats
from headrace.trainers.runs.messages import RetrainRequest
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
REQUEST = RetrainRequest(request_id="m-1", model="m", rule="volume", reason="enough", t_us=5, matured_labels=7)


def test_heartbeats_say_each_change_and_the_end(services: LocalServices, namespace: str) -> None:
    servers, topics = services.bootstrap_servers, ControlTopics(namespace)
    ensure_report_topics(servers, topics.observations, heartbeats=topics.heartbeats, findings=topics.findings)
    said = TrainerHeartbeats(process_name(), lambda: 5, 60)
    sender = HeartbeatSender(ReportSender(servers, topics.heartbeats), said.process, said.state)
    said.changed = sender.beat
    sender.start()
    said.began(REQUEST)
    said.reached("fit")
    said.ended()
    sender.stop()
    with closing(TopicTail(servers, [topics.heartbeats], from_beginning=True)) as tail:
        records = tail.drain()
    found = [heartbeats.decode(record.value()) for record in records]
    assert {record.key() for record in records} == {said.process.encode()}
    runs = [each.run for each in found if isinstance(each, TrainerHeartbeat)]
    assert [None if run is UNSET else run.phase for run in runs] == [None, "begins", "fit", None, None]
    assert [each.stopped is True for each in found] == [False, False, False, False, True]


def test_topics_of_reports_are_short_or_a_month_long(services: LocalServices, namespace: str) -> None:
    servers, topics = services.bootstrap_servers, ControlTopics(namespace)
    ensure_report_topics(servers, topics.observations, findings=topics.findings)
    found = configurations(admin(servers), [topics.observations, topics.findings])
    assert found[topics.observations]["retention.ms"] == "3600000"
    assert found[topics.findings]["retention.ms"] == str(30 * 86_400_000)
    assert not has_topic(servers, topics.heartbeats)


def test_a_report_to_a_topic_that_does_not_exist_makes_none_and_stops_nobody(
    services: LocalServices, namespace: str
) -> None:
    topic = ControlTopics(namespace).findings
    sender = ReportSender(services.bootstrap_servers, topic)
    for number in range(3_000):  # more than it keeps
        sender.send(b"k", str(number).encode())
    sender.send(b"k", b"v" * 2_000_000)  # larger than a client takes
    sender.close()
    assert not has_topic(services.bootstrap_servers, topic)


class _Placed(Event):
    order_id: int
    placed_at: datetime


def test_a_worker_whose_reports_have_no_topic_logs_as_ever(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    stream = Stream(f"{namespace}.placed", _Placed, event_time="placed_at", key="order_id")
    servers, log = services.bootstrap_servers, EventLog(tmp_path / "events", namespace=namespace)
    ensure_topics(servers, [TopicPlan(stream.topic), TopicPlan(dead_letter_topic(stream.topic))])
    config = PlaneConfig(servers, group=namespace, namespace=namespace, flush_s=0.1, heartbeat_s=0.2)
    with closing(RedisOnlineStore(services.redis_url, namespace)) as store:
        plane = DataPlane(config, [stream], FixedViews([], lambda: None), store, log)
        thread = threading.Thread(target=plane.run, daemon=True)
        thread.start()
        try:
            producer = EventProducer(servers)
            for count in (1, 2):  # the first reports wait by now
                producer.put(stream.topic, b"1", b"no order")
                producer.flush()
                until(lambda count=count: _logged(log, stream.topic) == count, 20)  # type: ignore[misc]
        finally:
            plane.stop()
            thread.join(20)
    assert not thread.is_alive()


def _logged(log: EventLog, topic: str) -> int:
    return log.read(topic).height if log.exists(topic) else 0


def test_reports_go_out_again_once_the_topic_is_there(services: LocalServices, namespace: str) -> None:
    servers, topics = services.bootstrap_servers, ControlTopics(namespace)
    sender = ReportSender(servers, topics.findings)
    report = check_report.CheckReport(check="doctor", subject="deployment", at_us=5, by="a", numbers={}, findings=[])
    sender.send(report.key.encode(), check_report.encode(report))
    ensure_report_topics(servers, topics.observations, findings=topics.findings)
    with closing(TopicTail(servers, [topics.findings], from_beginning=True)) as tail:

        def is_there() -> bool:
            sender.send(report.key.encode(), check_report.encode(report))
            return bool(tail.poll(0.2))

        until(is_there, 60)
    sender.close()
