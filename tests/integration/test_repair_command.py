"""`headrace repair` on real Kafka: what it lists, what it asks, and what it leaves in the event log."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer, TopicPartition
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.bus.event import Event
from headrace.bus.kafka_clients import admin
from headrace.bus.source_partition import SourcePartition
from headrace.bus.stream import Stream
from headrace.bus.topics import TopicPlan, ensure_topics, incarnations
from headrace.errors import SettingsError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
run = CliRunner()


class Ping(Event):
    at: datetime


STREAM = """
from datetime import datetime
from headrace.bus.event import Event
from headrace.bus.stream import Stream
class Ping(Event):
    at: datetime
pings = Stream("{topic}", Ping, event_time="at")
"""


@pytest.fixture
def topic(services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic of two partitions that begin at 3 and 0; the event log of the first one ends at 1."""
    topic = f"{namespace}.pings"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
    monkeypatch.setenv("HEADRACE_REDIS_URL", services.redis_url)
    (tmp_path / "headrace.toml").write_text(f'[project]\nstreams = ["{namespace}"]\n')
    (tmp_path / f"{namespace}.py").write_text(STREAM.format(topic=topic))
    ensure_topics(services.bootstrap_servers, [TopicPlan(topic, 2)])
    producer = Producer({"bootstrap.servers": services.bootstrap_servers})
    for number in range(5):
        producer.produce(topic, str(number).encode(), partition=0)
    assert producer.flush(10) == 0
    client = admin(services.bootstrap_servers)  # the futures end with it
    for future in client.delete_records([TopicPartition(topic, 0, 3)]).values():
        future.result(10)
    log, stream = EventLog(tmp_path / ".headrace" / "events"), Stream(topic, Ping, event_time="at")
    log.create(stream)
    topic_id = eventually(lambda: incarnations(client, [topic])[topic].topic_id)
    LogWriter(log, stream).note(SourcePartition(0, topic_id), None, 1, why={})
    return topic


def test_a_gap_is_listed_accepted_once_and_then_gone(topic: str, services: LocalServices, tmp_path: Path) -> None:
    listed = run.invoke(build(), ["repair", "--json"])
    assert listed.exit_code == 1
    (gap,) = json.loads(listed.stdout)
    assert (gap["topic"], gap["partition"], gap["log_ends"]) == (topic, 0, 1)
    assert (gap["topic_begins"], gap["topic_ends"], gap["rows_lost"]) == (3, 5, 2)
    assert "--accept-loss" in listed.stderr
    plain = run.invoke(build(), ["repair"])
    assert (plain.exit_code, topic in plain.stdout) == (1, True)
    assert "nothing to repair" in run.invoke(build(), ["repair", "--partition", "1"]).stdout

    refused = run.invoke(build(), ["repair", "--accept-loss"], input="n\n")
    assert refused.exit_code == 1
    assert "2 rows in 1 partitions" in refused.stderr
    assert run.invoke(build(), ["repair"]).exit_code == 1

    done = run.invoke(build(), ["repair", "--accept-loss", "--yes", "--stream", topic, "--reason", "disk died"])
    assert (done.exit_code, f"{topic}-0 goes on at 3" in done.stderr) == (0, True)
    after = run.invoke(build(), ["repair", "--accept-loss"])
    assert (after.exit_code, "nothing to repair" in after.stdout) == (0, True)
    topic_id = eventually(lambda: incarnations(admin(services.bootstrap_servers), [topic])[topic].topic_id)
    table = EventLog(tmp_path / ".headrace" / "events").table(topic)
    assert table.transaction_version(f"{topic_id.hex()}-0") == 3
    assert table.history(1)[0]["headrace.reason"] == "disk died"


def test_an_unknown_stream_is_refused_with_the_known_streams(topic: str) -> None:
    asked = run.invoke(build(), ["repair", "--stream", "no.such"])
    assert isinstance(asked.exception, SettingsError)
    assert topic in str(asked.exception)
