"""Requests that are events of the model's own views: served, logged, audited and trained by one rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import polars as pl
import pytest

from headrace import (
    Count,
    Entity,
    Event,
    FeatureService,
    FeatureView,
    Gate,
    Label,
    Last,
    Model,
    Stream,
    Sum,
    col,
    volume,
)
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, RecordPlace, SourcePartition
from headrace.errors import RequestValueError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.models.predictions import ServedVector
from headrace.serving.answerer import Answerer
from headrace.serving.feature_vectors import Status
from headrace.serving.features import FeatureClient
from headrace.serving.own_events import OwnEventLookUp
from headrace.serving.subscriber import LoadedModel
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from headrace.trainers.audit.auditor import Auditor
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.runs.provenance import service_ref
from tests.support.control_topics import VECTORS
from tests.support.model_events import PUBLISHED, published
from tests.support.orders_model import write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from headrace.features.definitions.aggregates import Aggregate

START = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = SourcePartition(0, bytes([9]) * 16)
COUNT = 12
END = START + timedelta(seconds=COUNT)


class Payment(Event):
    """A payment by card: the request, and the event of which features are made."""

    payment_id: int
    card: str
    cents: int
    paid_at: datetime


class Settled(Event):
    """What became of a payment."""

    payment_id: int
    fraud: bool
    settled_at: datetime


payments = Stream("payments", Payment, event_time="paid_at")
settled = Stream("settled", Settled, event_time="settled_at")
PAID = [
    Payment(number, "ab"[number % 3 == 0], 100 + number, START + timedelta(seconds=number)) for number in range(COUNT)
]


def model_of(rule: Literal["included", "excluded"]) -> Model:
    features: dict[str, Aggregate] = {"n": Count(), "cents": Sum("cents")}
    if rule == "included":
        features |= {"last": Last("cents")}
    card = FeatureView("card", Entity("card"), payments, ["1h"], features)
    return Model(
        "delay",  # the model of the published version in tests/support
        requests=payments,
        request_key="payment_id",
        requested_at="paid_at",
        features=FeatureService("fraud", [card]),
        label=Label(settled, value=col("fraud"), on="payment_id", within="1h", missing=False),
        train=lambda x, y, run: None,
        triggers=volume(labels=1),
        gate=Gate("auc"),
        own_event=rule,
    )


class Scene:
    """An application, a worker and an event log for one model; stands for estimator, subscriber and producer."""

    def __init__(self, rule: Literal["included", "excluded"], folder: Path) -> None:
        self.model, self.log, self.vectors = model_of(rule), EventLog(folder), list[ServedVector]()
        self.view = self.model.own_views[0]
        self.service = service_ref(self.model)
        store = self.store = MemoryOnlineStore(lambda: 0)
        publish_definitions(store, [self.view], [self.model.features])
        self.owned = ViewPartition(self.view.spec, SOURCE, store)
        self.owned.acquire(b"w" * 16, 1)
        self.client = FeatureClient(store)
        event = published("a", 1, expects=None)
        self.current = LoadedModel(1, self, event, msgspec.structs.replace(PUBLISHED, service=self.service))
        me: Any = self
        self.answerer = Answerer(
            me, self.client, me, new_id=lambda: str(len(self.vectors)), own_event_bound="1ms", namespace="headrace"
        )
        records = PartitionRecords(
            np.arange(COUNT), np.array([epoch_us(p.paid_at) for p in PAID]), [None] * COUNT, [encode(p) for p in PAID]
        )
        self.rows = RecordJudge(payments).rows(SOURCE.topic_id, 0, records, NO_CLOCK)
        LogWriter(self.log, payments).append(self.rows, {SOURCE: None}, {SOURCE: COUNT})

    def fold(self, end: int) -> None:
        """Fold the payments below an offset."""
        fresh = LoggedRows.from_rows(self.rows.filter(pl.col("__offset").is_between(self.folded, end - 1)), "paid_at")
        for one in self.owned.fold(fresh, end):
            assert self.store.write([one]) == [True]
            self.owned.applied(one)
        self.folded = end

    folded = 0

    def predict(self, numbers: Sequence[int], at: datetime = END, **more: Any) -> list[list[Any]]:
        """Predict payments and return the served values."""
        before = len(self.vectors)
        requests = [msgspec.structs.asdict(PAID[number]) for number in numbers]
        records = more.get("records", [RecordPlace(SOURCE, number) for number in numbers])
        self.answers = self.answerer.predict_many(requests, as_of=at, records=records)
        return [msgspec.structs.asdict(vector)["values"] for vector in self.vectors[before:]]

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        return np.full((len(frame), 2), 0.5)

    def send(self, stream: Stream, event: Any, *, timestamp: Any) -> None:
        del timestamp
        if stream is VECTORS:
            self.vectors.append(event)

    def write_log(self) -> None:
        """Write the served vectors, and a label that moves the labels' clock."""
        write(self.log, VECTORS, self.vectors)
        write(self.log, settled, [Settled(PAID[0].payment_id, True, START + timedelta(days=1))])

    def trained(self) -> list[list[Any]]:
        """The training set's features of every payment, in order."""
        data = ExampleBuilder(self.model, self.log).build(epoch_us(START + timedelta(days=1)))
        return data.frame[self.model.features.columns()].to_numpy().tolist()


def others(number: int, below: int) -> list[float]:
    """Number and sum of the payments below an offset by the same card, without one."""
    cents = [float(p.cents) for p in PAID[:below] if p.card == PAID[number].card and p.payment_id != number]
    return [float(len(cents)), sum(cents)]


def test_excluded_is_served_logged_audited_and_trained_without_the_own_event(tmp_path: Path) -> None:
    scene = Scene("excluded", tmp_path)
    scene.fold(5)
    first = scene.predict(range(8))  # five of them are folded, three are not yet
    assert first == [others(number, 5) for number in range(8)]
    scene.fold(COUNT)
    second = scene.predict(range(8, 11))
    assert second == [others(number, COUNT) for number in range(8, 11)]
    scene.write_log()
    report = Auditor(scene.model, scene.log)
    assert (report.audit().checked, report.audit().mismatched) == (11, 0)
    assert report.skew().own_event == {"not_counted": 11}
    never_served = others(11, 11)
    assert scene.trained() == [*first, *second, never_served]


def test_included_waits_until_the_own_event_is_counted(tmp_path: Path) -> None:
    scene, waited = Scene("included", tmp_path), list[float]()

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        scene.fold(scene.folded + 1)

    look_up = OwnEventLookUp(scene.client, monotonic=lambda: 0.0, sleep=sleep)
    requests = [msgspec.structs.asdict(PAID[number]) for number in (2, 1)]
    found = look_up.look_up(scene.service, requests, [RecordPlace(SOURCE, 2), RecordPlace(SOURCE, 1)], END)
    assert len(waited) == 3
    assert found.statuses(0) == found.statuses(1) == {"card": Status.PRESENT}
    assert [row[-1] for row in found.to_lists()] == [102, 102]
    assert {min(of_row["card"].values()) for of_row in (found.offsets(0), found.offsets(1))} == {3}


def test_included_says_behind_after_its_bound_and_trains_on_what_was_served(tmp_path: Path) -> None:
    scene = Scene("included", tmp_path)
    scene.fold(5)
    served = scene.predict([4, 6])
    assert [answer.statuses["card"] for answer in scene.answers] == [Status.PRESENT, Status.BEHIND]
    assert [vector.record for vector in scene.vectors] == [f"{SOURCE.text}-4", f"{SOURCE.text}-6"]
    scene.write_log()
    report = Auditor(scene.model, scene.log)
    assert (report.audit().checked, report.audit().mismatched) == (2, 0)
    assert report.skew().own_event == {"counted": 1, "not_counted": 1}
    trained = scene.trained()
    assert [trained[4], trained[6]] == served
    for number in (0, 3, 11):  # never served: as if the answer had waited
        own = [float(p.cents) for p in PAID[: number + 1] if p.card == PAID[number].card]
        assert trained[number] == [float(len(own)), sum(own), own[-1]]


def test_included_without_the_place_of_the_record_is_an_error_of_that_request(tmp_path: Path) -> None:
    scene = Scene("included", tmp_path)
    scene.fold(3)
    scene.predict([0, 1], records=[RecordPlace(SOURCE, 0), None])
    assert [vector.key for vector in scene.vectors] == ["0"]
    assert scene.answers[0].error is None
    said = str(scene.answers[1].error)
    assert "the model counts a request's own event in ['card']" in said
    assert "EventProducer.deliver returns its place" in said


def test_excluded_without_the_place_is_for_events_that_are_not_produced_yet(tmp_path: Path) -> None:
    scene = Scene("excluded", tmp_path)
    scene.fold(3)
    assert scene.predict([4], records=None) == [others(4, 3)]
    assert scene.vectors[0].record is None
    scene.write_log()
    assert Auditor(scene.model, scene.log).skew().own_event == {"unknown": 1}


def test_excluded_needs_the_fields_of_the_event(tmp_path: Path) -> None:
    scene = Scene("excluded", tmp_path)
    scene.fold(3)
    request = {"payment_id": 1, "card": "a", "paid_at": PAID[1].paid_at}
    with pytest.raises(RequestValueError, match=r"the request lacks \['cents'\]: view 'card' leaves"):
        scene.answerer.predict(request, as_of=END, record=RecordPlace(SOURCE, 1))
    with pytest.raises(RequestValueError, match="is not an event of 'payments'"):
        scene.answerer.predict(request | {"cents": "many"}, as_of=END, record=RecordPlace(SOURCE, 1))


def test_a_publication_with_a_rule_is_of_format_3(tmp_path: Path) -> None:
    own = Scene("excluded", tmp_path).service.own_event
    assert msgspec.json.encode(own) == b'{"rule":"excluded","topic":"payments","views":["card"]}'
