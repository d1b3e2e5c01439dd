"""Enriched events have the values of a plain loop over all records, whenever, and in which batches, they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from headrace import Count, Entity, FeatureService, FeatureView, Last, Lifetime, Max, Role, Sum, col
from headrace.errors import NotInLogYetError
from headrace.features.offline.feature_history import FeatureHistory, OwnRecords
from headrace.features.offline.growing_history import GrowingHistory
from headrace.streams.processors.event_features import EventFeatures
from headrace.streams.processors.log_reach import CLOCKS_US, LogReach
from tests.support.every_aggregate import Sale, build, sales, same, view
from tests.support.example_budget import examples
from tests.support.growing_log import TOPIC_ID, GivenRecord, GrowingLog
from tests.support.naive import naive_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.naive_aggregates import Answer

PARTITIONS = 2
EVENT = st.tuples(
    st.integers(0, PARTITIONS - 1), st.integers(-90, 9), st.integers(0, 5), st.sampled_from("ab"), st.integers(0, 1),
    st.none() | st.floats(-10, 20, width=16), st.integers(-1, 4), st.booleans(), st.sampled_from(["ann", None]),
)  # fmt: skip
EVENTS = st.lists(EVENT, min_size=1, max_size=25)
SERVICE = FeatureService(
    "usual", [view], on_demand={"above": col("pieces") - col("sales__mean_1h")}, request={"pieces": int}
)
DELAY_US = view.spec.delay_us


class _Record:
    """A record of a partition, at an offset."""

    def __init__(self, partition: int, offset: int) -> None:
        self._place = partition, offset

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]


class Scene:
    """Records in a log that grows; at the end it has all of them."""

    def __init__(self, raw: list[tuple[Any, ...]], own_event: Any) -> None:
        self.rows, self.own_event = build(raw), own_event
        given = {
            p: [GivenRecord(Sale(**row["event"]), row["record_us"]) for row in self.rows if row["partition"] == p]
            for p in range(PARTITIONS)
        }
        self.log = GrowingLog(sales, given)
        available = {p: self.log.available_us(p) for p in given if given[p]}
        for row in self.rows:
            row["available_us"] = available[row["partition"]][row["offset"]]
        self.now_us = 0

    def grow(self, data: st.DataObject) -> None:
        """Kafka gets all that is stamped up to now, and the log some of it."""
        newest = max(row["record_us"] for row in self.rows)
        oldest = min(row["record_us"] for row in self.rows)
        self.now_us = max(self.now_us, data.draw(st.integers(oldest, newest + 2 * CLOCKS_US), label="now"))
        for partition, records in self.log.records.items():
            there = sum(each.record_us <= self.now_us for each in records)
            self.log.ends[partition] = there
            least = self.log.logged.get(partition, 0)
            self.log.logged[partition] = data.draw(st.integers(least, there), label=f"D of {partition}")

    def finish(self) -> None:
        self.now_us = max(row["record_us"] for row in self.rows) + 10 * CLOCKS_US + 600_000_000
        for partition, records in self.log.records.items():
            self.log.ends[partition] = self.log.logged[partition] = len(records)

    def features(self) -> EventFeatures:
        """What a process that starts now has."""
        stream: Any = sales.with_features(SERVICE, own_event=self.own_event)
        reach = LogReach({sales.topic: sales.spec}, self.log.topic_ends, clock=lambda: self.now_us)
        return EventFeatures(stream, self.log.log, reach, TOPIC_ID, wait_s=0)

    def wanted(self, row: dict[str, Any]) -> list[Answer]:
        """The values by the law, from all records that there ever are."""
        at_us = min(row["time_us"], row["available_us"])
        counted = [other for other in self.rows if self._counts(other, row, at_us)]
        key = (row["event"]["shop"], row["event"]["till"])
        return naive_answers(view.spec, counted, key, at_us)

    def _counts(self, other: dict[str, Any], row: dict[str, Any], at_us: int) -> bool:
        was_known = other["available_us"] <= at_us - DELAY_US
        if other["partition"] != row["partition"]:
            return bool(was_known)
        if self.own_event == "excluded":
            return bool(was_known and other["offset"] < row["offset"])
        return bool(was_known or other["offset"] <= row["offset"])


def made(features: EventFeatures, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """The enriched events of some rows. They come in the order of their partitions, as batches do."""
    messages: Any = [_Record(row["partition"], row["offset"]) for row in rows]
    return [event for _, event, _ in features.outputs(messages, [Sale(**row["event"]) for row in rows])]


def wrong(event: Any, row: dict[str, Any], wanted: Sequence[Answer]) -> dict[str, Any]:
    found = [getattr(event, name) for name in view.spec.columns]
    differing = {
        name: (value, right)
        for name, value, right in zip(view.spec.columns, found, wanted, strict=True)
        if not same(value, *right)
    }
    mean = event.sales__mean_1h
    above = None if mean is None else row["event"]["pieces"] - mean
    return differing if same(event.above, above) else differing | {"above": (event.above, above)}


@settings(max_examples=examples(12), deadline=None)
@given(EVENTS, st.sampled_from(["excluded", "included"]), st.data())
def test_values_are_those_of_a_plain_loop_whenever_they_are_made(
    raw: list[tuple[Any, ...]], own_event: str, data: st.DataObject
) -> None:
    scene = Scene(raw, own_event)
    wanted = [scene.wanted(row) for row in scene.rows]
    left = [(row, answers) for row, answers in zip(scene.rows, wanted, strict=True)]
    features = scene.features()
    for _ in range(data.draw(st.integers(0, 4), label="turns")):
        scene.grow(data)
        if data.draw(st.booleans(), label="restart"):
            features = scene.features()
        left = taken(features, left, data)
    scene.finish()
    while left:
        before = len(left)
        left = taken(features, left, data, at_least=1)
        assert len(left) < before


def taken(features: EventFeatures, left: list[Any], data: st.DataObject, at_least: int = 0) -> list[Any]:
    """Make the events of the next records of each partition, as far as the log allows, and return what is left."""
    chosen: list[Any] = []
    for partition in range(PARTITIONS):
        own = [each for each in left if each[0]["partition"] == partition]
        chosen += own[: data.draw(st.integers(at_least, len(own) or at_least), label=f"of {partition}")]
    if not chosen:
        return left
    try:
        events = made(features, [row for row, _ in chosen])
    except NotInLogYetError:
        if at_least:
            raise
        return left
    for event, (row, wanted) in zip(events, chosen, strict=True):
        assert wrong(event, row, wanted) == {}
    taken_rows = [id(row) for row, _ in chosen]
    return [each for each in left if id(each[0]) not in taken_rows]


def test_an_event_waits_until_no_earlier_record_can_come() -> None:
    """Partition 1 is silent. Its producers may still send an earlier record, its broker may not."""
    scene = Scene([(0, 0, 1, "a", 0, 1.0, 1, True, None), (1, 0, 0, "a", 0, 2.0, 1, True, None)], "excluded")
    (first, _) = scene.rows
    scene.log.logged = {0: 1, 1: 0}
    scene.log.ends = {0: 1, 1: 0}
    scene.now_us = first["record_us"] + 2 * CLOCKS_US
    (event,) = made(scene.features(), [first])
    assert event.sales__n_1h == 0
    scene.log.is_stamped = False
    with pytest.raises(NotInLogYetError, match="waits for partition 1 of 'sales', which brings nothing new"):
        made(scene.features(), [first])
    scene.log.is_stamped, scene.log.ends = True, {0: 1, 1: 1}
    with pytest.raises(NotInLogYetError, match="partition 1 of 'sales', of which workers have not logged all records"):
        made(scene.features(), [first])
    scene.log.logged = {0: 0, 1: 1}
    with pytest.raises(NotInLogYetError, match="offset 0 of partition 0 of 'sales', which workers have not logged"):
        made(scene.features(), [first])


IN_ALL = FeatureView(
    "all_sales", Entity("all", keys=[]), sales, ["1h", Lifetime()], {"n": Count(), "high": Max("pieces")}
)
IN_ROLES = FeatureView(
    "buyer",
    Entity("buyer"),
    [Role(sales, amount=-col("amount")), Role(sales, buyer="shop")],
    ["1h", Lifetime()],
    {"n": Count(), "sum": Sum("amount"), "last": Last("pieces")},
)


@settings(max_examples=examples(4), deadline=None)
@given(EVENTS, st.sampled_from(["excluded", "included"]))
def test_rows_that_a_batch_cannot_use_change_no_value(raw: list[tuple[Any, ...]], rule: Any) -> None:
    """Views of all keys, of roles and of an entity: as from an index of all rows."""
    scene, specs = Scene(raw, rule), [view.spec, IN_ALL.spec, IN_ROLES.spec]
    scene.finish()
    history = GrowingHistory(specs, scene.log.log)
    history.refresh(scene.log.snapshot())
    whole = FeatureHistory(specs, scene.log.log)
    whole.refresh(scene.log.snapshot())
    for rows in (scene.rows, scene.rows[-1:]):
        keys = pl.DataFrame(
            [row["event"] for row in rows], schema={"shop": pl.String, "till": pl.Int64, "buyer": pl.String}
        )
        at_us = np.array([min(row["time_us"], row["available_us"]) for row in rows], np.int64)
        places = pl.DataFrame(
            {
                "__partition": [row["partition"] for row in rows],
                "__topic_id": [TOPIC_ID for _ in rows],
                "__offset": [row["offset"] for row in rows],
            }
        )
        own = OwnRecords(sales.topic, places, rule)
        assert_frame_equal(history.features(keys, at_us, own), whole.features(keys, at_us, own=own))
