"""`headrace ingest` from another topic: the page about it, kills between batches, dead letters, a secured Kafka."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition

from headrace.app.local.process import free_ports
from headrace.bus.kafka_clients import admin, reader
from headrace.bus.topics import TopicPlan, ensure_topics
from tests.support.documents import blocks
from tests.support.ingest_project import PAGE, IngestProject, answered, logged, records, stopped
from tests.support.secured_kafka import PASSWORD, SecuredKafka
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
(TOML,) = (block.text for block in blocks(PAGE, "toml") if "topic =" in block.text)
CLOUD = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/shop", "ce_type": "Payment"}


class Scene:
    """A project that copies a topic, and a producer to that topic."""

    def __init__(self, services: LocalServices, namespace: str, folder: Path, toml: str = TOML) -> None:
        self.servers, self.source = services.bootstrap_servers, f"{namespace}.shops"
        assert "shops.payments" in toml
        self.project = IngestProject(services, namespace, folder, toml.replace("shops.payments", self.source))
        ensure_topics(self.servers, [TopicPlan(self.source, 2)])
        self.group = f"{namespace}-ingest-shops"

    def put(self, *values: bytes | None, headers: Mapping[str, str] | None = None, servers: str = "") -> None:
        producer = Producer({"bootstrap.servers": servers or self.servers})
        for number, value in enumerate(values):
            producer.produce(self.source, value, b"theirs", number % 2, headers=dict(headers or {}))
            producer.poll(0)
        assert producer.flush(30) == 0

    def copied(self) -> list[Any]:
        return records(self.servers, self.project.topic)

    def committed(self) -> int:
        consumer = reader(self.servers, "unused", {"group.id": self.group})
        places = [TopicPartition(self.source, partition) for partition in range(2)]
        try:
            return sum(max(each.offset, 0) for each in consumer.committed(places, 10))
        except KafkaException:  # the first group of this Kafka is not there yet
            return 0
        finally:
            consumer.close()

    def await_committed(self, count: int) -> None:
        until(lambda: self.committed() == count, 30, self.project.log)


def payment(number: int, **other: Any) -> bytes:
    row = {"payment_id": number, "card": "c7", "amount": 1.0, "paid_at": "2026-03-02T09:00:00Z", "more": [1]}
    return json.dumps(row | other).encode()


def test_the_page(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    scene = Scene(services, namespace, tmp_path)
    scene.put(payment(1), payment(2), headers=CLOUD)
    scene.put(payment(3))  # no CloudEvent
    with scene.project.ingest() as process:
        scene.await_committed(3)
        scene.put(payment(4), headers=CLOUD)
        scene.await_committed(4)
        assert stopped(process) == 0
    with scene.project.ingest() as process:  # the group goes on where it was
        scene.put(payment(5), headers=CLOUD)
        scene.await_committed(5)
        assert stopped(process) == 0
    found = scene.copied()
    assert sorted(json.loads(each.value())["payment_id"] for each in found) == [1, 2, 4, 5]
    assert {each.key() for each in found} == {b"c7"}
    assert all("more" not in json.loads(each.value()) for each in found)
    (kept,) = (tmp_path / ".headrace" / "ingest" / "shops" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(kept)["at"] == f"{scene.source}-0-1"
    assert json.loads(kept)["row"] == payment(3).decode()


@pytest.mark.long
def test_a_killed_process_sends_a_batch_again_and_what_is_no_event_becomes_a_dead_letter(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    scene = Scene(services, namespace, tmp_path, TOML.replace('format = "cloudevents"\n', ""))
    scene.put(*map(payment, range(12_000)))
    with scene.project.ingest(FAILPOINT="after-ingest-flush:2") as process:
        assert process.wait(60) == -signal.SIGKILL
    before = scene.committed()
    scene.put(b"\xff{", None, payment(7, card=None), headers={"trace": "abc"})
    with scene.project.ingest() as process:
        scene.await_committed(12_003)
        assert stopped(process) == 0
    sent = len(scene.copied())
    assert 12_003 <= sent <= 12_003 + 5_000
    assert before < 12_000
    poison = {each.value(): each.key() for each in scene.copied() if each.headers() == [("trace", b"abc")]}
    assert poison == dict.fromkeys([b"\xff{", None, payment(7, card=None)], b"theirs")
    found = logged(services, namespace, tmp_path, scene.project.stream(), sent)
    once = found.filter(pl.col("__verdict") == "accepted").get_column("payment_id")
    assert sorted(once) == list(range(12_000))
    assert found.filter(pl.col("__verdict") == "rejected").height == 3


def test_a_topic_that_is_not_there_is_waited_for(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    later = TOML.replace('"shops.payments"', '"shops.payments.later"')
    (port,) = free_ports(1)
    scene = Scene(services, namespace, tmp_path, later)
    scene.source += ".later"
    with scene.project.ingest("--metrics-port", str(port)) as process:
        until(lambda: "has no topic" in scene.project.log(), 30, scene.project.log)
        assert answered(port, "/readyz")[0] == 503
        ensure_topics(scene.servers, [TopicPlan(scene.source, 2)])
        scene.put(payment(1), headers=CLOUD)
        scene.await_committed(1)
        until(lambda: answered(port, "/readyz")[0] == 200, 20, scene.project.log)
        assert 'headrace_ingest_rows_total{source="shops"} 1.0' in answered(port, "/metrics")[1]
        assert stopped(process) == 0


@pytest.mark.long
def test_records_that_were_deleted_before_they_were_read_are_named(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    scene = Scene(services, namespace, tmp_path)
    scene.put(payment(1), headers=CLOUD)
    with scene.project.ingest() as process:
        scene.await_committed(1)
        assert stopped(process) == 0
    scene.put(payment(2), payment(3), payment(4), headers=CLOUD)
    place = TopicPartition(scene.source, 0, 2)
    client = admin(scene.servers)
    client.delete_records([place])[place].result(10)
    with scene.project.ingest() as process:
        scene.await_committed(4)
        assert stopped(process) == 0
    assert "records were deleted before they were read" in scene.project.log()
    assert sorted(json.loads(each.value())["payment_id"] for each in scene.copied()) == [1, 3, 4]


@pytest.mark.long
def test_a_topic_of_a_kafka_that_lets_in_only_whom_it_knows(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    kafka = SecuredKafka(tmp_path / "kafka")
    kafka.start()
    try:
        (tmp_path / "project").mkdir()
        (tmp_path / "project" / "secret").write_text(f"{PASSWORD}\n")
        given = kafka.by_password()
        del given["sasl.password"]
        given["sasl.password.file"] = "secret"
        table = ", ".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in given.items())
        more = f'bootstrap_servers = "{kafka.sasl}"\nkafka = {{{table}}}\n'
        scene = Scene(services, namespace, tmp_path / "project", TOML + more)
        ensure_topics(kafka.bootstrap_servers, [TopicPlan(scene.source, 2)])
        scene.put(payment(1), payment(2), headers=CLOUD, servers=kafka.bootstrap_servers)
        with scene.project.ingest() as process:
            until(lambda: len(scene.copied()) == 2, 60, scene.project.log)
            assert stopped(process) == 0
        assert PASSWORD not in scene.project.log()
        (tmp_path / "project" / "secret").write_text("wrong\n")
        with scene.project.ingest() as process:
            until(lambda: "sasl.password in [kafka]" in scene.project.log(), 60, scene.project.log)
            assert stopped(process) == 0
    finally:
        kafka.stop()
