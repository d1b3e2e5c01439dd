"""The audit checks what was served, and what was not served because t was too old; training sets see no more."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import pytest

from headrace.base.times import epoch_us
from headrace.bus.event import Event, encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.definitions.aggregates import Count, Mean
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.offline.tile_index import SortedTiles
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient, Status
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from headrace.trainers.audit.compare import ServedVectorRows, audit

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2020, 1, 1, tzinfo=UTC)
START_US = epoch_us(START)
MINUTE = 60_000_000
SOURCES = [SourcePartition(partition, bytes([3]) * 16) for partition in range(2)]


class Sale(Event):
    """A sale in a shop."""

    shop: str
    at: datetime
    amount: float


sales = Stream("sales", Sale, event_time="at")


class Scene:
    """Two partitions, folded into a store and written to a log; what the one serves is audited by the other.

    Partition 0 has a's sales of minutes 1 to 9, partition 1 one of b at minute 4, each recorded two minutes later.
    """

    def __init__(self, folder: Path, clock: Literal["wall", "stream"]) -> None:
        now = FeatureView("now", Entity("shop"), sales, ["1h"], {"n": Count(), "mean": Mean("amount")}, clock=clock)
        past = FeatureView("past", Entity("shop"), sales, ["1h"], {"n": Count()}, history="4m", clock=clock)
        self.specs, log, store = [now.spec, past.spec], EventLog(folder), MemoryOnlineStore()
        publish_definitions(store, [now, past], [FeatureService("risk", [now, past])])
        writer = LogWriter(log, sales)
        self.vectors: list[dict[str, Any]] = []
        self.client = FeatureClient(store)
        for source, shop, minutes in zip(SOURCES, "ab", (range(1, 10), [4]), strict=True):
            events = [Sale(shop, START + timedelta(minutes=minute), float(minute)) for minute in minutes]
            times = np.array([epoch_us(event.at) + 2 * MINUTE for event in events])
            records = PartitionRecords(np.arange(len(events)), times, [None] * len(events), [encode(e) for e in events])
            rows = RecordJudge(sales).rows(source.topic_id, source.partition, records, NO_CLOCK)
            writer.append(rows, {source: None}, {source: len(events)})
            for spec in self.specs:
                view = ViewPartition(spec, source, store)
                view.acquire(b"w" * 16, 2)
                for end in range(0, len(events), 3):
                    for write in view.fold(LoggedRows.of(rows[: end + 3], "at"), min(end + 3, len(events))):
                        assert store.write([write]) == [True]
                        view.applied(write)
                    for minute in (12, 7, 0) if spec is past.spec else ():
                        self.serve(minute)
        self.history = FeatureHistory(self.specs, log)
        self.history.refresh()

    def serve(self, minute: float) -> None:
        found = self.client.get("risk", {"shop": "a"}, as_of_us=START_US + round(minute * MINUTE))
        self.vectors.append(
            {
                "key": "a",
                "served_at": START + timedelta(minutes=minute),
                "request": '{"shop":"a"}',
                "values": [None if value is None else float(value) for value in found.to_lists()[0]],
                "statuses": json.dumps(found.statuses()),
                "offsets": json.dumps(found.offsets()),
            }
        )

    def frame(self, **changes: Any) -> pl.DataFrame:
        """The vectors, the last one changed."""
        return pl.DataFrame([*self.vectors[:-1], self.vectors[-1] | changes])


@pytest.fixture(params=["wall", "stream"])
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    return Scene(tmp_path, request.param)


def test_what_was_out_of_range_is_counted_and_was_right(scene: Scene) -> None:
    statuses = [json.loads(vector["statuses"]) for vector in scene.vectors]
    outside = [Status.OUT_OF_RANGE in found.values() for found in statuses]
    assert {found["now"] for found in statuses} > {Status.OUT_OF_RANGE}
    assert any(found["now"] != found["past"] == Status.REBUILDING for found in statuses)  # in range for one of them
    found = audit(ServedVectorRows(scene.specs, scene.history, scene.frame()))
    assert (found.checked, found.different, found.out_of_range) == (len(statuses), 0, sum(outside))


def test_saying_out_of_range_of_what_was_in_range_is_a_mismatch(scene: Scene) -> None:
    scene.serve(30)
    said = json.dumps({"now": "out_of_range", "past": "present"})
    frame = scene.frame(statuses=said, values=[None, None, scene.vectors[-1]["values"][2]])
    assert audit(ServedVectorRows(scene.specs, scene.history, frame)).different == 1


@pytest.mark.parametrize("change", [{"statuses": '{"now":"present","past":"present"}'}, {"values": [0.0, None, None]}])
def test_not_saying_it_or_a_number_with_it_is_a_mismatch(scene: Scene, change: dict[str, Any]) -> None:
    scene.serve(0)
    assert scene.vectors[-1]["values"] == [None, None, None]
    found = audit(ServedVectorRows(scene.specs, scene.history, scene.frame(**change)))
    assert found.different == 1
    assert "now__n_1h" in found.by_column


def test_a_training_set_has_no_number_where_the_served_answer_had_none(scene: Scene) -> None:
    keys = pl.DataFrame({"shop": ["a"] * len(scene.vectors)})
    at_us = scene.frame()["served_at"].dt.epoch("us").to_numpy()
    served = scene.history.features(keys, at_us, scene.frame()["offsets"].to_list())
    assert [list(row) for row in served.rows()] == [vector["values"] for vector in scene.vectors]
    never = scene.history.features(keys, at_us, [None] * len(at_us))
    assert never["now__n_1h"].null_count() == 0


def test_nothing_served_is_nothing_to_audit(scene: Scene) -> None:
    assert audit(ServedVectorRows(scene.specs, scene.history, scene.frame().clear())).checked == 0


@pytest.mark.parametrize("far", [2**20, 2**40], ids=["counted", "ranked"])
def test_many_entities_and_far_times_do_not_run_over(far: int) -> None:
    entity, k = np.array([2, 2, 2, far, far + 1]), np.array([-far, 5, far, 5, 5])
    of = SortedTiles(entity, k, np.zeros(5, np.int64), 1)
    asked = np.array([2, 2, far, far + 1, 3, -1])
    low, high = of.ranges(asked, np.array([-(2**50), 6, 5, 6, -(2**50), -(2**50)]), np.full(6, 2**50))
    assert [list(range(*pair)) for pair in zip(low, high, strict=True)] == [[0, 1, 2], [2], [3], [], [], []]
