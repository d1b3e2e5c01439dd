"""A partition waits for a schema that the registry does not give. No record is lost or judged without its schema."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from headrace import Avro
from headrace.base.waiting import UntilAvailable
from headrace.bus.schemas.schema_store import SchemaStore
from headrace.bus.source_partition import SourcePartition
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.streams.plane.folding import Folding
from headrace.streams.plane.logged_stream import LoggedStream
from headrace.streams.plane.ownership import Ownership
from headrace.streams.plane.partition import OwnedPartition, StoppedPartition
from headrace.streams.plane.partitions import Partitions
from headrace.streams.plane.plane_metrics import PlaneMetrics
from headrace.streams.plane.record_judge import RecordJudge
from headrace.streams.plane.retries import Retries
from tests.support.avro_payments import SCHEMA_IDS, message, payment, schema
from tests.support.payments_stream import payments
from tests.support.schema_registries import MemorySchemaRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from confluent_kafka import Message

SCHEMAS = [schema(schema_id) for schema_id in SCHEMA_IDS]
STREAM = payments(Avro())
UNKNOWN = 9


def record(schema_id: int, number: int) -> bytes:
    """A payment of so much; of an unknown schema if the id is none of the three."""
    return payment(schema_id, float(number), written_by=1 if schema_id == UNKNOWN else None)


class Kafka:
    """The records of two partitions, the log of what was judged, and a consumer that reads on until it is released."""

    def __init__(self, ids: Sequence[Sequence[int]]) -> None:
        self.records = [
            [message(of, at, record(of, at), partition=place) for at, of in enumerate(own)]
            for place, own in enumerate(ids)
        ]
        self.position: list[int | None] = [0, 0]
        self.logged: list[list[tuple[str, float | None]]] = [[], []]

    def poll(self, count: int) -> list[Message]:
        found = []
        for place, at in enumerate(self.position):
            if at is not None:
                found += self.records[place][at : at + count]
                self.position[place] = min(at + count, len(self.records[place]))
        return found

    # -- as a consumer, as a flusher, as what opens partitions ----------------------------------------------------

    def release(self, topic: str, partition: int) -> None:
        self.position[partition] = None

    def resume(self, topic: str, partition: int, offset: int) -> None:
        self.position[partition] = offset

    def add(self, source: SourcePartition, rows: pl.DataFrame, next_offset: int) -> None:
        own = self.logged[source.partition]
        assert rows.get_column("__offset").to_list() == list(range(len(own), next_offset))
        own += rows.select("__verdict", "amount").iter_rows()

    def commit(self) -> set[SourcePartition]:
        return set()

    def open(self, topic: str, partition: int) -> OwnedPartition:
        at = len(self.logged[partition])
        source = SourcePartition(partition, bytes(16))
        return OwnedPartition("payments", source, [], next_offset=at, reads_from=at, partition_count=2)


class Loop:
    """The turns of a worker without its stores."""

    def __init__(self, kafka: Kafka, registry: MemorySchemaRegistry, stop: threading.Event) -> None:
        self.kafka = kafka
        fake: Any = _Silent()
        self.partitions = Partitions(Retries(0, 0, monotonic=lambda: 0.0, chance=lambda: 0.0))
        flusher: Any = kafka
        nothing: Any = None
        judge = RecordJudge(STREAM, SchemaStore(registry))
        until = UntilAvailable(stop)
        self.folding = Folding(
            {"payments": LoggedStream(STREAM, nothing, nothing, flusher, judge)},
            MemoryOnlineStore(),
            self.partitions,
            fake,
            until_available=until,
            monotonic=lambda: 0.0,
            meter=PlaneMetrics(),
        )
        self.ownership = Ownership(
            self.partitions, opener=flusher, acquisition=_Acquiring(self.partitions), folding=self.folding,  # type: ignore[arg-type]
            flushes=fake, consumer=flusher, until_available=until,
        )  # fmt: skip
        for place in (0, 1):
            self.ownership.assigned("payments", place)

    def turn(self, count: int) -> None:
        for _ in range(2):  # the second poll is that of a requested flush
            messages = self.kafka.poll(count)
            if messages:
                self.folding.fold(messages)
        self.ownership.stop_waiting(self.folding.waiting())
        self.ownership.try_again()

    def run(self, records: int) -> None:
        """Turns until so many records were judged: the registry answers on a thread of its own."""
        until = time.monotonic() + 20
        while sum(map(len, self.kafka.logged)) < records and time.monotonic() < until:
            self.turn(4)
            time.sleep(0.001)
        self.turn(4)

    def stopped(self) -> list[int]:
        return [each.partition for each in self.partitions.stopped()]


class _Silent:
    """Does nothing, whatever it is asked for."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class _Acquiring(_Silent):
    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions

    def acquire(self, owned: OwnedPartition) -> None:
        self._partitions.begin(owned, behind=[])


ids = st.lists(st.sampled_from([1, 2, 3, UNKNOWN]), max_size=8)


@given(st.tuples(ids, ids), st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=12))
def test_each_record_is_judged_once_in_order_and_with_its_schema(
    found: tuple[list[int], list[int]], turns: list[tuple[bool, int]]
) -> None:
    registry, kafka = MemorySchemaRegistry(), Kafka(found)
    for each in SCHEMAS:
        registry.add(each)
    loop = Loop(kafka, registry, threading.Event())
    try:
        for is_away, count in turns:
            registry.is_away = is_away
            loop.turn(count)
        registry.is_away = False
        loop.run(sum(map(len, found)))
    finally:
        loop.folding.close()
    assert kafka.logged == [
        [("rejected", None) if of == UNKNOWN else ("accepted", float(at)) for at, of in enumerate(own)] for own in found
    ]
    assert loop.stopped() == []


def test_a_neighbour_goes_on_while_a_partition_waits_and_the_reason_is_named() -> None:
    registry, kafka = MemorySchemaRegistry(), Kafka([[1, 1, 2, 1], [1, 1, 1, 1]])
    for each in SCHEMAS:
        registry.add(each)
    loop = Loop(kafka, registry, threading.Event())
    loop.turn(1)
    registry.is_away = True
    for _ in range(3):
        loop.turn(1)
    assert [len(own) for own in kafka.logged] == [2, 4]
    (stopped,) = loop.partitions.stopped()
    assert isinstance(stopped, StoppedPartition)
    assert stopped.report().why == (
        "waiting for the schema with the id 2 of the schema registry http://schemas: connection refused"
    )
    registry.is_away = False
    loop.run(8)
    loop.folding.close()
    assert [len(own) for own in kafka.logged] == [4, 4]
    assert {verdict for own in kafka.logged for verdict, _ in own} == {"accepted"}
