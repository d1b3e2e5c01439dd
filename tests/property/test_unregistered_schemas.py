"""One verdict for a record whose schema is not registered: the log's and the views', whenever the schema comes or goes.

A worker dies at any moment, and the next one reads again what is not in the log. Meanwhile the registry may have got
the schema, or may not have it any more.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from headrace import Avro, Count, Entity, FeatureClient, FeatureService, FeatureView, Sum
from headrace.base.waiting import UntilAvailable
from headrace.bus.schemas.schema_registry import RegisteredSchema
from headrace.bus.schemas.schema_store import SchemaStore
from headrace.bus.source_partition import SourcePartition
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.streams.plane.folding import Folding
from headrace.streams.plane.logged_stream import LoggedStream
from headrace.streams.plane.partition import OwnedPartition
from headrace.streams.plane.partitions import Partitions
from headrace.streams.plane.plane_metrics import PlaneMetrics
from headrace.streams.plane.record_judge import RecordJudge
from headrace.streams.plane.retries import Retries
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.avro_payments import SCHEMA_IDS, message, payment, schema_text
from tests.support.payments_stream import NOON, payments
from tests.support.schema_registries import MemorySchemaRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.streams.plane.rejected_copies import RejectedCopy

STREAM = payments(Avro())
CARDS = FeatureView(
    "cards", entity=Entity("card", str), source=STREAM, windows=["1d"], features={"n": Count(), "sum": Sum("amount")}
)
SERVICE = FeatureService("risk", [CARDS])
SOURCE = SourcePartition(0, bytes(16))
_MOST_TURNS = 100


class Log:
    """The log of one partition, and the buffer of the worker that runs."""

    def __init__(self) -> None:
        self.rows: list[pl.DataFrame] = []
        self.buffer: list[pl.DataFrame] = []
        self.copies: list[RejectedCopy] = []

    @property
    def end(self) -> int:
        return sum(frame.height for frame in self.rows)

    def add(self, source: SourcePartition, rows: pl.DataFrame, next_offset: int) -> None:
        assert source == SOURCE
        self.buffer.append(rows)
        assert self.end + sum(frame.height for frame in self.buffer) == next_offset

    def commit(self) -> set[SourcePartition]:
        self.rows, self.buffer = self.rows + self.buffer, []
        return set()

    def send(self, copy: RejectedCopy) -> None:
        self.copies.append(copy)

    def flush(self) -> None:
        """As the copies of rejected records."""

    def accepted(self) -> tuple[int, float | None]:
        rows = pl.concat(self.rows).filter(pl.col("__verdict") == "accepted")
        return rows.height, float(rows.get_column("amount").sum()) if rows.height else None


class Scene:
    """Records, what the registry knows, and one worker after the other."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.messages = [message(of, at) for at, of in enumerate(ids)]
        self.registry, self.store, self.log = MemorySchemaRegistry(), MemoryOnlineStore(), Log()
        self.now_s, self.is_timed = 0.0, False
        publish_definitions(self.store, [CARDS], [SERVICE])
        self.start()

    def start(self) -> None:
        """A worker that knows nothing takes the partition."""
        self.log.buffer = []
        double: Any = self.log
        nothing: Any = None
        self.partitions = Partitions(Retries(0, 0, monotonic=lambda: 0.0, chance=lambda: 0.0))
        judge = RecordJudge(STREAM, SchemaStore(self.registry, monotonic=lambda: self.now_s))
        self.folding = Folding(
            {"payments": LoggedStream(STREAM, nothing, nothing, double, judge)},
            self.store,
            self.partitions,
            double,
            until_available=UntilAvailable(threading.Event()),
            monotonic=lambda: self.now_s if self.is_timed else 0.0,
            meter=PlaneMetrics(),
        )
        self.open()

    def open(self) -> None:
        """Acquire the cursors, and catch up to the end of the log."""
        view, end = ViewPartition(CARDS.spec, SOURCE, self.store), self.log.end
        view.acquire(b"w" * 16, 1)
        owned = OwnedPartition("payments", SOURCE, [view], next_offset=end, reads_from=end, partition_count=1)
        self.partitions.add(owned)
        if view.position < end:
            for write in view.fold(LoggedRows.from_rows(pl.concat(self.log.rows), STREAM.event_time), end):
                assert self.store.write([write]) == [True]
                view.applied(write)
        self.partitions.begin(owned, behind=[])

    def read(self, count: int) -> None:
        """A batch. A partition that waits is stopped: its buffer is flushed, and it is opened again."""
        self.now_s += 61
        owned = self.partitions.owned(("payments", 0))
        assert owned is not None
        batch = self.messages[owned.next_offset : owned.next_offset + count]
        if batch:
            self.folding.fold(batch)
        self.folding.settle()
        if self.folding.waiting():
            self.log.commit()
            self.open()

    def kill(self) -> None:
        self.folding.close()
        self.start()

    def register(self, schema_id: int) -> None:
        self.registry.kept[schema_id] = RegisteredSchema(schema_id, "AVRO", schema_text(schema_id))

    def forget(self, schema_id: int) -> None:
        """As a replica of the registry that is behind, or a registry that was restored from a backup."""
        self.registry.kept.pop(schema_id, None)

    def finish(self) -> None:
        """All schemas are registered in the end, and all is read."""
        for schema_id in SCHEMA_IDS:
            self.register(schema_id)
        for _ in range(_MOST_TURNS):
            self.read(3)
            if self.log.end + sum(frame.height for frame in self.log.buffer) == len(self.messages):
                break
        self.log.commit()
        self.folding.close()

    def online(self) -> tuple[int, float | None]:
        found = FeatureClient(self.store).get("risk", {"card": "c"}, as_of=NOON).to_lists()[0]
        return found[0] or 0, found[1] if found[0] else None


steps = st.one_of(
    st.tuples(st.just("read"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["register", "forget"]), st.sampled_from(SCHEMA_IDS)),
    st.tuples(st.sampled_from(["kill", "flush"]), st.none()),
)


@given(st.lists(st.sampled_from(SCHEMA_IDS), min_size=1, max_size=8), st.lists(steps, max_size=14))
def test_the_log_and_the_views_have_one_verdict_on_each_record(ids: list[int], todo: list[tuple[str, Any]]) -> None:
    scene = Scene(ids)
    for name, what in todo:
        match name:
            case "read":
                scene.read(what)
            case "register":
                scene.register(what)
            case "forget":
                scene.forget(what)
            case "kill":
                scene.kill()
            case "flush":
                scene.log.commit()
    scene.finish()
    assert scene.log.end == len(ids)
    assert scene.online() == scene.log.accepted()


def test_a_rejection_is_in_the_log_before_a_view_goes_beyond_it() -> None:
    scene = Scene([1, 2])
    scene.register(1)
    scene.read(2)
    assert scene.log.end == 2, "the next worker might accept the second one"
    assert scene.log.buffer == []
    scene.register(2)
    scene.kill()
    scene.finish()
    assert scene.online() == scene.log.accepted() == (1, 0.0)
    assert len(scene.log.copies) == 1


def test_a_record_that_was_accepted_is_not_rejected_by_a_worker_whose_registry_has_no_such_schema() -> None:
    scene = Scene([1, 1])
    scene.register(1)
    scene.read(2)
    assert scene.log.end == 0
    scene.forget(1)
    scene.kill()
    for _ in range(3):
        scene.read(2)
    assert scene.log.end == 0
    scene.finish()
    assert scene.online() == scene.log.accepted() == (2, 1.0)
    assert scene.log.copies == []


def test_a_log_that_has_lost_a_rejection_does_not_stop_its_partition_for_ever() -> None:
    """As after it was restored from a backup: the cursors are beyond the record, and its schema never comes."""
    scene = Scene([2, 1])
    scene.is_timed = True
    scene.register(1)
    scene.read(2)
    scene.log.rows = []
    scene.kill()
    reads = 0
    while scene.log.end < 2:
        scene.read(2)
        reads += 1
    assert reads == 11, "ten minutes, of which a read takes one"
    assert pl.concat(scene.log.rows).get_column("__verdict").to_list() == ["rejected", "accepted"]
    scene.folding.close()


def test_records_whose_verdicts_never_change_are_not_committed_one_by_one() -> None:
    scene = Scene([1, 1])
    scene.register(1)
    for at, value in enumerate((b"{}", payment(1, 0.0)[:-1])):
        scene.messages[at] = message(1, at, value)
    scene.read(2)
    assert len(scene.log.copies) == 2
    assert scene.log.end == 0
    scene.finish()
