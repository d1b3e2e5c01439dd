"""What the rows of a training set may know: labels that the log is sure of, and of a topic the same rows everywhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from headrace import Settings, training_set
from headrace.base.times import utc_datetime
from headrace.bus.event import Event
from headrace.bus.source_partition import SourcePartition
from headrace.bus.stream import Stream
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.aggregates import Count
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.definitions.windows import Lifetime
from headrace.features.offline.spine import Spine
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.data.spine_rows import SpineRows
from headrace.trainers.data.training_set import TrainingSet
from headrace.trainers.triggers.evidence import DAY_US
from headrace.trainers.triggers.trigger_state import TriggerState
from headrace.trainers.triggers.waiting_labels import of_inputs
from tests.support.control_topics import VECTORS
from tests.support.orders_model import SOURCE, Order, Return, day, model, orders, returns, vector, write

if TYPE_CHECKING:
    from pathlib import Path

OTHER = SourcePartition(1, SOURCE.topic_id)
sure = replace(model, label=replace(model.label, missing=False))


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    """Three orders on days 0, 1 and 2; a label, of the first one, half a day later."""
    found = EventLog(tmp_path / "log")
    write(found, orders, [Order(number, "shop-1", 1.0, utc_datetime(day(number))) for number in range(3)])
    write(found, returns, [Return(0, back=True, known_at=utc_datetime(day(0.5)))])
    found.create(VECTORS)
    return found


def labels(log: EventLog, t: float) -> list[bool | None]:
    return ModelLog(sure, log).labelled(day(t))["__label"].to_list()


def labels_of_spine(log: EventLog, t: float) -> list[bool | None]:
    spine = pl.DataFrame({"order_id": [0, 1, 2], "shop": ["shop-1"] * 3}).with_columns(
        at=pl.Series([utc_datetime(day(number)) for number in range(3)])
    )
    found = training_set(sure, spine, as_of=utc_datetime(day(t)), excluded=[], settings=settings_of(log))
    return list(found.to_polars()["label"].to_list())


def settings_of(log: EventLog) -> Settings:
    return Settings(event_log=log.path("").rstrip("/"))


@pytest.mark.slow
def test_a_missing_label_counts_once_the_log_has_all_its_stream_beyond_the_limit(log: EventLog) -> None:
    assert labels(log, 9) == [None] * 3  # the limit is long over, but what came since day 0.5 is not here yet: the
    # first one alone would be a true one among none that are false
    write(log, returns, [Return(7, back=True, known_at=utc_datetime(day(2)))])  # another row as late may still come
    assert labels(log, 9) == [True, None, None]
    write(log, returns, [Return(8, back=True, known_at=utc_datetime(day(2.5)))])
    assert labels(log, 9) == [True, False, None]
    assert labels(log, 1.5) == [True]  # younger than its limit
    assert labels_of_spine(log, 9) == [True, False, None]
    assert labels_of_spine(log, 2.9) == [True, False, None]
    write(log, returns, [Return(9, back=True, known_at=utc_datetime(day(2.6)))], OTHER)
    assert labels(log, 9) == [True, False, None]
    write(log, returns, [Return(10, back=True, known_at=utc_datetime(day(4)))])
    assert labels_of_spine(log, 9) == labels(log, 9) == [True, False, None]  # the other partition may have one
    write(log, returns, [Return(11, back=True, known_at=utc_datetime(day(4)))], OTHER)
    assert labels_of_spine(log, 9) == labels(log, 9) == [True, False, False]


def test_a_recreated_label_topic_does_not_wait_for_its_former_one(log: EventLog) -> None:
    write(log, returns, [Return(8, back=True, known_at=utc_datetime(day(4)))], SourcePartition(0, bytes([8]) * 16))
    assert labels_of_spine(log, 9) == labels(log, 9) == [True, False, False]


def test_a_row_of_a_spine_without_the_labels_key_has_no_label(log: EventLog) -> None:
    write(log, returns, [Return(8, back=True, known_at=utc_datetime(day(4)))])
    at = pl.Series([utc_datetime(day(0)), utc_datetime(day(1))])
    spine = pl.DataFrame({"order_id": [0, None], "shop": ["shop-1"] * 2}).with_columns(at=at)
    found = training_set(sure, spine, as_of=utc_datetime(day(9)), excluded=[], settings=settings_of(log))
    assert found.to_polars()["label"].to_list() == [True, None]


def test_a_served_vector_belongs_to_its_own_request_when_a_key_is_requested_again(log: EventLog) -> None:
    again = Order(0, "shop-1", 1.0, utc_datetime(day(2.5)))
    write(log, orders, [again])
    write(log, VECTORS, [vector(again, 3.0), vector(Order(1, "shop-1", 1.0, utc_datetime(day(1.25))), 2.0)])
    found = ModelLog(sure, log).spine(day(9))
    served = dict(zip(zip(found["order_id"], found["ordered_at"], strict=True), found["__served_us"], strict=True))
    assert served[0, utc_datetime(day(0))] is None  # it would see two days and a half of its future
    assert served[0, utc_datetime(day(2.5))] == day(2.5)
    # The key is requested once, so the vector belongs to that request whatever time the server wrote down.
    assert served[1, utc_datetime(day(1))] == day(1.25)
    assert served[2, utc_datetime(day(2))] is None


def test_a_training_row_without_a_served_vector_is_computed_again_each_time(log: EventLog) -> None:
    sets = ExampleBuilder(model, log)
    assert sets.build(day(9)).frame["shop__orders_1d"].tolist() == [0]
    write(log, orders, [Order(9, "shop-1", 1.0, utc_datetime(day(-0.1)))], OTHER)  # it was on its way
    assert sets.build(day(9)).frame["shop__orders_1d"].tolist() == [1]


def test_no_label_is_missing_while_the_log_has_no_labels(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    write(log, orders, [Order(0, "shop-1", 1.0, utc_datetime(day(0)))])
    log.create(returns)
    assert labels(log, 9) == [None]
    assert ModelLog(sure, log).matured_labels(day(9)) == 0


def test_a_partition_that_holds_labels_up_is_named_with_the_time_of_its_last_record(log: EventLog) -> None:
    def waiting(t: float) -> list[tuple[int, int | None, float | None]]:
        found = ModelLog(sure, log).evidence(day(t), None).waiting
        assert {each.topic for each in found} <= {"returns"}
        return [
            (each.rows, each.partition, None if each.since_us is None else (each.since_us - day(0)) / DAY_US)
            for each in found
        ]

    assert waiting(1) == []  # its label may be known since this moment: that is usual
    assert waiting(1.1) == [(1, 0, 0.5)]
    assert waiting(9) == [(3, 0, 0.5)]
    write(log, returns, [Return(7, back=True, known_at=utc_datetime(day(2.5)))], OTHER)
    assert waiting(9) == [(3, 0, 0.5), (1, 1, 2.5)]
    write(log, returns, [Return(8, back=True, known_at=utc_datetime(day(4)))])
    assert waiting(9) == [(1, 1, 2.5)]
    write(log, returns, [Return(9, back=True, known_at=utc_datetime(day(4)))], OTHER)
    assert waiting(9) == []
    assert labels(log, 9) == [True, False, False]
    assert ModelLog(model, log).evidence(day(9), None).waiting == []  # without missing=False no label waits


def test_a_decision_says_what_labels_wait_for_and_judged_again_it_says_the_same(log: EventLog) -> None:
    evidence = ModelLog(sure, log).evidence(day(9), None)
    decision = sure.policy.evaluate(TriggerState(), evidence)
    wanted = "3 matured requests wait for partition 0 of returns, which has had no record since 2024-10-04T12:00:00Z"
    assert decision.reason == f"0 of 2,000 matured labels for the first version; {wanted}"
    assert sure.policy.judge(decision.state, decision.t_us, decision.inputs) == decision
    assert of_inputs(decision.inputs) == list(evidence.waiting)
    for partition in (0, 1):
        source = SourcePartition(partition, SOURCE.topic_id)
        write(log, returns, [Return(8, back=True, known_at=utc_datetime(day(4)))], source)
    fine = sure.policy.evaluate(TriggerState(), ModelLog(sure, log).evidence(day(9), None))
    assert fine.inputs == {"matured_labels": 3}
    assert fine.reason == "3 of 2,000 matured labels for the first version"


def test_labels_of_a_topic_without_records_wait_for_the_first_one(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    write(log, orders, [Order(0, "shop-1", 1.0, utc_datetime(day(0)))])
    log.create(returns)
    found = ModelLog(sure, log).evidence(day(9), None).waiting
    assert [each.reason for each in found] == ["1 matured requests wait for a first record on returns"]


# -- a topic that is several things at once --------------------------------------------------------------------------


class Visit(Event):
    """A request, an event of its own view and the label of an earlier one."""

    who: str
    at: datetime


visits = Stream("visits", Visit, event_time="at")
own = FeatureView("own", Entity("who"), visits, [Lifetime()], {"n": Count()})
back = replace(
    model,
    requests=visits,
    request_key="who",
    requested_at="at",
    features=FeatureService("own", [own]),
    request_features=[],
    label=replace(model.label, stream=visits, on="who", value=col("who") == "a", within="2d"),
)


class Growing(EventLog):
    """A log to which a visit is added each time that it was read."""

    def rows(self, topic: str, *rest: Any, **named: Any) -> pl.DataFrame:
        """As they are."""
        found = super().rows(topic, *rest, **named)
        if topic == visits.topic:
            write(EventLog(self.path("").rstrip("/")), visits, [visit(found.height)])
        return found


def visit(number: int) -> Visit:
    return Visit("ab"[number % 2], utc_datetime(day(number)))


def test_one_topic_is_read_to_the_same_offset_for_everything(tmp_path: Path) -> None:
    log = Growing(tmp_path / "log")
    write(log, visits, [visit(0), visit(1)])
    log.create(VECTORS)
    sets = ExampleBuilder(back, log)
    first = sets.build(day(9))
    assert first.positions[visits.topic] == {SOURCE: 2}
    assert sets._history.positions() == {visits.topic: {SOURCE: 2}}
    again = sets.build(day(9))
    assert again.positions[visits.topic] == sets._history.positions()[visits.topic] != {SOURCE: 2}
    assert len(again) > len(first)


def test_a_spine_is_made_from_one_snapshot(tmp_path: Path) -> None:
    log = Growing(tmp_path / "log")
    write(log, visits, [visit(number) for number in range(4)])
    log.create(VECTORS)
    spine = Spine.from_table(pl.DataFrame({"who": ["a", "b"], "at": [utc_datetime(day(30))] * 2}))
    made = TrainingSet(SpineRows(back.features, log, spine, "at", day(40), back))
    assert made.to_polars()["own__n_lifetime"].to_list() == [2, 2]
    (pin,) = [pin for pin in made.manifest.streams if pin.topic == visits.topic]
    assert pin.offsets == {SOURCE.text: 4}


@pytest.mark.parametrize("of", ["read", "reader", "select", "read_from", "snapshot"])
def test_every_read_of_a_pinned_log_is_pinned(log: EventLog, of: str) -> None:
    write(log, orders, [Order(9, "shop-1", 1.0, utc_datetime(day(9)))], OTHER)
    pinned = EventLog(log.path("").rstrip("/"), ends={orders.topic: {SOURCE: 2}})
    ways: dict[str, Any] = {
        "read": lambda: pinned.read(orders.topic),
        "reader": lambda: pinned.reader(orders.topic, ["order_id"]).read(),
        "select": lambda: pinned.select(orders.topic, None, ["order_id"]),
        "read_from": lambda: pinned.read_from(orders.topic, SOURCE, 0),
        "snapshot": lambda: pinned.snapshot().select(orders.topic, None),
    }
    assert ways[of]()["order_id"].to_list() == [0, 1]
    assert pinned.read(returns.topic).height == 1
