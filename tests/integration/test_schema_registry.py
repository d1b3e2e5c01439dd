"""A worker reads what confluent-kafka's serializer registered at a real registry, also while it hangs or is gone."""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from headrace import Avro, EventProducer, Stream
from headrace.base.times import epoch_us
from headrace.bus.formats.registry_record import head_of, schema_id
from headrace.bus.schemas.confluent_schema_registry import ConfluentSchemaRegistry
from headrace.bus.schemas.registry_access import SchemaRegistryAccess
from headrace.bus.schemas.schema_store import SchemaStore
from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics
from headrace.errors import TerminalError
from headrace.event_log.event_log import EventLog
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig, PlaneEnvironment
from headrace.streams.plane.plane_metrics import PlaneMetrics
from tests.support.apicurio import Apicurio
from tests.support.control_topics import OBSERVATIONS
from tests.support.payments_stream import NOON, PAYMENT, Payment
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.bus.worker_report import WorkerReport

pytestmark = [pytest.mark.integration, pytest.mark.long]
FIELDS: list[dict[str, Any]] = [
    {"name": "card", "type": "string"},
    {"name": "amount", "type": "double"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
]
FIRST = {"type": "record", "name": "Payment", "namespace": "shop", "fields": FIELDS}
SECOND = {**FIRST, "fields": [*FIELDS, {"name": "note", "type": ["null", "string"], "default": None}]}
CONTENT = {"card": "c7", "amount": 12.5, "at": NOON, "note": "tea"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    with Apicurio(tmp_path_factory.mktemp("apicurio")) as running:
        yield running


@pytest.fixture
def client(registry: Apicurio) -> Iterator[SchemaRegistryClient]:
    """The client of confluent-kafka."""
    made = SchemaRegistryClient({"url": registry.url})
    yield made
    made.close()


class LastReport(PlaneMetrics):
    """Keeps why partitions are stopped."""

    def __init__(self) -> None:
        self.stopped: dict[int, str] = {}

    def reported(self, report: WorkerReport, ends: Mapping[tuple[str, int], int]) -> None:
        assert ends is not None
        self.stopped = {each.partition: each.why for each in report.stopped}


class Bench:
    """A topic of two partitions, its event log, and workers that read it, one after the other."""

    def __init__(self, services: LocalServices, folder: Path, url: str, namespace: str) -> None:
        self.servers, self.folder, self.url, self.namespace = services.bootstrap_servers, folder, url, namespace
        self.stream = Stream(f"{namespace}.payments", Payment, event_time="at", key="card", format=Avro())
        plans = [TopicPlan(self.stream.topic, 2, {"retention.ms": "-1"}), TopicPlan(OBSERVATIONS)]
        ensure_topics(self.servers, [*plans, TopicPlan(dead_letter_topic(self.stream.topic))])
        self.log = EventLog(folder / "events")
        self.seen = LastReport()

    def serializer(self, client: SchemaRegistryClient, schema: dict[str, Any]) -> Any:
        made = AvroSerializer(client, json.dumps(schema))
        context = SerializationContext(self.stream.topic, MessageField.VALUE)
        return lambda: made(CONTENT, context)

    def send(self, partition: int, *values: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.servers, "log_level": 2})
        for value in values:
            producer.produce(self.stream.topic, value, b"c7", partition=partition, timestamp=epoch_us(NOON) // 1_000)
        assert producer.flush(10) == 0

    @contextmanager
    def worker(self) -> Iterator[None]:
        config = PlaneConfig(
            self.servers, group=self.namespace, worker=uuid.uuid4().hex,
            flush_s=0.05, heartbeat_s=0.1, reacquire_s=0.1, reacquire_most_s=0.4,
        )  # fmt: skip
        schemas = SchemaStore(ConfluentSchemaRegistry(SchemaRegistryAccess(self.url)), self.folder / "schemas")
        plane = DataPlane(
            config,
            [self.stream],
            FixedViews([], lambda: None),
            MemoryOnlineStore(),
            self.log,
            environment=PlaneEnvironment(schemas=schemas),
            meter=self.seen,
        )
        thread = threading.Thread(target=plane.run, name="worker")
        thread.start()
        try:
            yield
        finally:
            plane.stop()
            thread.join(30)
            schemas.close()
            assert not thread.is_alive()

    def rows(self) -> pl.DataFrame:
        if not self.log.exists(self.stream.topic):
            return pl.DataFrame(schema={"__partition": pl.Int32, "__verdict": pl.String})
        found = pl.DataFrame(self.log.table(self.stream.topic).to_pyarrow_dataset().to_table())
        return found.sort("__partition", "__offset")

    def verdicts(self, partition: int) -> list[str]:
        found = self.rows().filter(pl.col("__partition") == partition)
        return [verdict[0] for verdict in found.get_column("__verdict").to_list()]

    def await_verdicts(self, partition: int, *expected: str) -> None:
        until(
            lambda: self.verdicts(partition) == list(expected),
            40,
            lambda: (self.verdicts(partition), self.seen.stopped),
        )


def test_a_worker_waits_for_a_registry_that_hangs_and_reads_without_one_what_it_knows(
    services: LocalServices, tmp_path: Path, namespace: str, registry: Apicurio, client: SchemaRegistryClient
) -> None:
    bench = Bench(services, tmp_path, registry.url, namespace)
    first, second = bench.serializer(client, FIRST), bench.serializer(client, SECOND)
    bench.send(0, first(), first())
    bench.send(1, first())
    newer = second()  # the registry knows the second schema; no worker has asked for it yet
    with bench.worker():
        bench.await_verdicts(0, "a", "a")
        bench.await_verdicts(1, "a")
        registry.suspend()
        bench.send(0, first(), newer, newer)
        bench.send(1, first(), first())
        bench.await_verdicts(1, "a", "a", "a")
        bench.await_verdicts(0, "a", "a", "a")
        until(lambda: f"schema with the id {schema_id(newer)}" in bench.seen.stopped.get(0, ""), 20)
        bench.send(1, first())
        bench.await_verdicts(1, "a", "a", "a", "a")
        registry.resume()
        bench.await_verdicts(0, "a", "a", "a", "a", "a")
        bench.send(0, head_of(987_654) + b"x", b"{}", newer)
        bench.await_verdicts(0, *"aaaaa", "r", "r", "a")
        until(lambda: bench.seen.stopped == {}, 20)
    rows = bench.rows().filter(pl.col("__partition") == 0)
    assert rows.get_column("note").to_list() == [None, None, None, "tea", "tea", None, None, "tea"]
    unknown, plain = rows.get_column("__error").drop_nulls().to_list()
    assert f"{registry.url} has no schema with the id 987654" in unknown
    assert "does not begin with a zero byte" in plain
    registry.suspend()
    try:
        with bench.worker():  # it starts without the registry
            bench.send(1, newer)
            bench.await_verdicts(1, "a", "a", "a", "a", "a")
    finally:
        registry.resume()


def test_a_producer_registers_its_schema_and_a_worker_reads_it(
    services: LocalServices, tmp_path: Path, namespace: str, registry: Apicurio, client: SchemaRegistryClient
) -> None:
    bench = Bench(services, tmp_path, registry.url, namespace)
    schemas = SchemaStore(ConfluentSchemaRegistry(SchemaRegistryAccess(registry.url)))
    producer = EventProducer(bench.servers, schemas=schemas)
    producer.send(bench.stream, PAYMENT, timestamp=NOON)
    producer.flush()
    schemas.close()
    latest = client.get_latest_version(f"{bench.stream.topic}-value")
    assert json.loads(str(latest.schema.schema_str))["name"] == "Payment"
    with bench.worker():
        until(lambda: bench.rows().height == 1, 40)
    assert bench.rows().select("card", "amount", "at", "note").row(0) == ("c7", 12.5, NOON, "tea")


def test_the_registry_says_what_is_compatible(registry: Apicurio, namespace: str, client: SchemaRegistryClient) -> None:
    found = ConfluentSchemaRegistry(SchemaRegistryAccess(registry.url))
    subject = f"{namespace}-value"
    number = client.register_schema(subject, Schema(json.dumps(FIRST), "AVRO"))
    client.set_compatibility(subject, "BACKWARD")
    assert found.id_of(subject, "AVRO", json.dumps(FIRST)) == number
    assert found.is_compatible(subject, "AVRO", json.dumps(SECOND))
    wrong = {**FIRST, "fields": [*FIELDS, {"name": "shop", "type": "string"}]}
    assert not found.is_compatible(subject, "AVRO", json.dumps(wrong))
    with pytest.raises(TerminalError, match="refuses the schema"):
        found.id_of(subject, "AVRO", json.dumps(wrong))
    found.close()
