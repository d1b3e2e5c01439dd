"""`headrace schema infer` on a real topic: its text is a stream that reads every record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from headrace import Stream
from headrace.app.cli import build
from headrace.bus.event_reader import EventReader
from headrace.bus.topic_sample import newest_records
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.errors import TopicUnknownError

if TYPE_CHECKING:
    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


def test_the_proposal_for_a_topic_reads_its_records(services: LocalServices, namespace: str) -> None:
    topic = f"{namespace}.payments"
    ensure_topics(services.bootstrap_servers, [TopicPlan(topic, 3)])
    producer = Producer({"bootstrap.servers": services.bootstrap_servers, "log_level": 2})
    values = [
        json.dumps({"cardId": f"c{number}", "amount": number / 4, "paidAt": 1_699_963_200_000 + number})
        for number in range(90)
    ]
    for number, value in enumerate(values):
        producer.produce(topic, value, f"c{number}", partition=number % 2)
    assert producer.flush(10) == 0
    arguments = ["schema", "infer", topic, "--records", "60", "--bootstrap-servers", services.bootstrap_servers]
    found = CliRunner().invoke(build(), arguments)
    assert found.exit_code == 0, found.output
    world: dict[str, Any] = {"__name__": "inferred"}
    exec(compile(found.stdout, "inferred", "exec", dont_inherit=True), world)
    (stream,) = [each for each in world.values() if isinstance(each, Stream)]
    assert (stream.event_time, stream.key_fields) == ("paid_at", ("card_id",))
    assert EventReader(stream).rows([value.encode() for value in values]) is not None
    assert "Inferred from 40 of the newest records" in found.stdout


def test_the_newest_records_of_a_topic_are_those_before_its_end(services: LocalServices, namespace: str) -> None:
    topic = f"{namespace}.numbers"
    ensure_topics(services.bootstrap_servers, [TopicPlan(topic, 2)])
    assert newest_records(services.bootstrap_servers, topic, 10) == []
    producer = Producer({"bootstrap.servers": services.bootstrap_servers, "log_level": 2})
    for number in range(10):
        producer.produce(topic, str(number), partition=0)
    assert producer.flush(10) == 0
    assert [record.value() for record in newest_records(services.bootstrap_servers, topic, 6)] == [b"7", b"8", b"9"]
    with pytest.raises(TopicUnknownError):
        newest_records(services.bootstrap_servers, f"{namespace}.none", 1)
