"""The scores that drift compares: those of one version for all logged vectors, whatever version served them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from headrace.base.times import utc_datetime
from headrace.event_log.event_log import EventLog
from headrace.models import artifact
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.manifest import TimeSpan
from headrace.models.model_events import ModelEvent
from headrace.models.model_state import ModelState
from headrace.models.prediction_task import PredictionTask
from headrace.models.predictions import ServedVector
from headrace.trainers.data.label_values import prediction_array
from headrace.trainers.data.model_evidence import EvidenceSources, ModelEvidence
from headrace.trainers.data.shared_vectors import SharedVectors, VectorFeed
from headrace.trainers.data.vector_scores import VectorScores
from headrace.trainers.data.version_scores import yardstick_of
from headrace.trainers.process.trigger_consumer import TriggerConsumer, TriggerOptions
from headrace.trainers.runs.messages import DecisionRecord, decode
from headrace.trainers.triggers import score_drift_rule
from headrace.trainers.triggers.evidence import DAY_US
from headrace.trainers.triggers.rules import any_of, drift, volume
from headrace.trainers.triggers.score_drift import DriftMeasurement
from tests.support.control_topics import DECISIONS, VECTORS
from tests.support.model_events import retired
from tests.support.orders_model import LIVE_FROM, Order, Shop, day, model, request, vector, write
from tests.support.parcels_model import CLASSES, GRADES, HOURS, RANGES, made

if TYPE_CHECKING:
    import pandas as pd

pytestmark = pytest.mark.slow  # a version is fitted for each test

NOTHING = DriftMeasurement(None, None, 0, 0, 6)
WATCHING = replace(model, triggers=any_of(drift("score", psi=0.2, sample="2d"), volume(labels=99_000)))


def feed(log: EventLog, name: str = model.name) -> VectorFeed:
    return SharedVectors(log).feed(name)


class Counting:
    """An estimator that says the amount of an order, between 0 and 1, and counts the rows that it was asked for."""

    def __init__(self) -> None:
        self.rows = 0

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        self.rows += len(frame)
        assert list(frame.columns) == [*model.features.columns(), "amount"]
        found = 1 / (1 + np.exp(-frame["amount"].to_numpy(np.float64)))
        return np.stack([1 - found, found], axis=1)


def logged(order: Order, *, served: float = 3.0, **changes: Any) -> Any:
    """The vector of an order, with the request as an application logs it."""
    found = msgspec.structs.replace(vector(order, served), request=msgspec.json.encode(order).decode())
    return msgspec.structs.replace(found, **changes)


def serve(shop: Shop, *, from_day: int = LIVE_FROM, until: int = 60) -> list[Order]:
    chosen = [each for each in shop.orders if day(from_day) <= int(each.ordered_at.timestamp() * 1e6) < day(until)]
    write(shop.log, VECTORS, [logged(order) for order in chosen])
    return chosen


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A shop whose first version is live from day 30 on."""
    made = Shop(tmp_path)
    ended = made.runner().run(request("first", day(LIVE_FROM)))
    assert ended.outcome == "published", ended.reason
    return made


def publish(shop: Shop, version: int, **changes: Any) -> ModelEvent:
    """Publish another version with the artifact of the first one."""
    first = shop.state.publication(1)
    assert first is not None
    data = msgspec.structs.replace(
        first, version=version, request_id=f"request-{version}", expects=shop.state.live_id, **changes
    )
    event = ModelEvent(id=f"publication-{version}", model=model.name, at_us=day(50), data=data)
    shop.model_events.append(event)
    return event


def evidence_of(shop: Shop) -> ModelEvidence:
    return ModelEvidence(WATCHING, shop.log, EvidenceSources(ArtifactPlaces([shop.folder])))


def test_each_vector_is_scored_once(shop: Shop) -> None:
    estimator = Counting()
    scores = VectorScores(model, feed(shop.log), estimator)
    served = serve(shop, until=32)
    found = scores.frame()
    amounts = np.array([order.amount for order in served])
    assert found["key"].to_list() == [str(order.order_id) for order in served]
    np.testing.assert_allclose(found["score"].to_numpy(), 1 / (1 + np.exp(-amounts)), rtol=1e-12)
    served += serve(shop, from_day=32, until=33)
    assert scores.frame().height == scores.frame().height == estimator.rows == len(served)


def test_vectors_of_other_features_or_in_doubt_are_left_out(shop: Shop) -> None:
    orders = shop.orders[:6]
    changed = [
        logged(orders[0]),
        logged(orders[1], service="another"),
        logged(orders[2], statuses='{"shop":"stale"}'),
        logged(orders[3], request="{}"),
        logged(orders[3], request="no JSON", key="x"),
        logged(orders[3], request="7", key="y"),
        logged(orders[3], values=[], key="z"),
        logged(orders[4], model="another"),
        logged(orders[0], served=4.0, vector_id="again"),
        logged(orders[5]),
    ]
    write(shop.log, VECTORS, changed)
    assert VectorScores(model, feed(shop.log), Counting()).frame()["key"].to_list() == ["0", "5"]
    kept = VectorScores(replace(model, on_stale="keep"), feed(shop.log), Counting()).frame()
    assert kept["key"].to_list() == ["0", "2", "5"]


def test_a_row_that_the_yardstick_cannot_predict_is_left_out(shop: Shop) -> None:
    write(shop.log, VECTORS, [logged(shop.orders[0], request='{"amount":null}'), logged(shop.orders[1])])
    assert VectorScores(model, feed(shop.log), Counting()).frame()["key"].to_list() == ["1"]


def test_a_reference_spans_versions_from_the_first_day_of_a_version_on(shop: Shop) -> None:
    serve(shop)
    publish(shop, 2)
    assert shop.state.version == 2
    found = evidence_of(shop).evidence(day(51), shop.state)
    assert len(found.scores().day) == 0  # version 2 has answered nothing yet
    assert found.by_yardstick is not None
    by_yardstick = found.by_yardstick()
    assert (by_yardstick.version, by_yardstick.lacking) == (1, "")
    assert np.unique(by_yardstick.scores.day).tolist() == list(range(day(LIVE_FROM) // DAY_US, day(51) // DAY_US))
    measured = drift("score", psi=0.2, sample="2d").measure(found)
    assert (measured["yardstick"], measured["sample_days"], measured["reference_days"]) == (1, 2, 16)
    assert measured["psi"] is not None


def test_rows_that_the_yardstick_was_fitted_on_or_that_are_excluded_do_not_count(shop: Shop) -> None:
    serve(shop, from_day=0)
    excluded = [TimeSpan(from_us=day(40), to_us=day(42), reason="broken")]
    found = evidence_of(shop).evidence(day(60), shop.state, excluded)
    assert found.by_yardstick is not None
    published, days = shop.state.published_live, np.unique(found.by_yardstick().scores.day) - day(0) // DAY_US
    assert published is not None
    assert day(28) < published.trained_to_us < day(29)
    assert days.tolist() == [*range(29, 40), *range(42, 60)]


def test_the_yardstick_is_the_oldest_version_of_the_present_features_and_task(shop: Shop) -> None:
    publish(shop, 2)
    publish(shop, 3)

    def yardstick(state: ModelState, of: Any = model) -> int | None:
        found = yardstick_of(state, of)
        return None if found is None else found.version

    assert yardstick(shop.state) == 1
    shop.model_events.append(msgspec.structs.replace(retired("gone", 1), model=model.name))
    assert yardstick(shop.state) == 2
    publish(shop, 4, task=PredictionTask(name="regression"))
    assert yardstick(shop.state) == 2
    assert yardstick(shop.state, replace(model, request_features=[])) is None
    assert yardstick(ModelState()) is None


class Told:
    """The records of a consumer that loads versions from a place, and how often it did."""

    def __init__(self, shop: Shop, of: Any = WATCHING) -> None:
        self.reads = 0
        self.records: list[DecisionRecord] = []
        places = ArtifactPlaces([shop.folder], self._read)
        options = TriggerOptions(sources=EvidenceSources(places))
        self.consumer = TriggerConsumer([of], shop.log, shop.model_events, self._send, options=options)

    def _read(self, uri: str) -> bytes:
        self.reads += 1
        return artifact.fetch(uri)

    def _send(self, topic: str, _key: bytes, value: bytes) -> None:
        if topic == DECISIONS:
            self.records.append(decode(value, DecisionRecord))

    def tick(self, t_us: int) -> Any:
        """The decision of a tick."""
        self.consumer.tick(t_us)
        decision = self.records[-1].decision
        assert decision is not None, self.records[-1].reason
        return decision


def test_a_version_that_is_away_makes_drift_unknown_and_nothing_else(shop: Shop) -> None:
    serve(shop)
    published = shop.state.published_live
    assert published is not None
    file = Path(published.artifact.uri.removeprefix("file://"))
    file.rename(file.with_suffix(".away"))
    told = Told(shop)
    decision = told.tick(day(45))
    by_rule = {verdict.rule: verdict.reason for verdict in decision.verdicts}
    assert "there are no scores to compare: version 1 cannot be loaded: the artifact" in by_rule["drift"]
    assert "of 99,000 matured labels" in by_rule["volume"]
    told.tick(day(45) + 60_000_000)
    assert told.reads == 1
    file.with_suffix(".away").rename(file)
    decision = told.tick(day(45) + 3_600_000_000)
    assert (told.reads, decision.inputs["rules"]["drift"]["yardstick"]) == (2, 1)
    assert decision.inputs["rules"]["drift"]["psi"] is not None
    assert (
        WATCHING.policy.judge(decision.state, decision.t_us, decision.inputs) == decision
    )  # as `triggers replay` does


def test_a_model_without_a_drift_rule_loads_no_version(shop: Shop) -> None:
    serve(shop)
    told = Told(shop, replace(model, triggers=volume(labels=99_000)))
    told.tick(day(45))
    assert told.reads == 0


def test_a_version_is_loaded_once(shop: Shop) -> None:
    serve(shop)
    told = Told(shop)
    for minute in range(3):
        told.tick(day(45) + minute * 60_000_000)
    assert told.reads == 1


class Constant:
    """An estimator that gives each row the same answer."""

    classes_ = CLASSES

    def __init__(self, answer: Any) -> None:
        self._answer = np.array(answer)

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return np.repeat(self._answer[None], len(frame), axis=0)

    predict_proba = predict


@pytest.mark.parametrize(
    ("of", "answer"),
    [(HOURS, 9.5), (GRADES, [0.2, 0.5, 0.3]), (RANGES, [7.0, 10.0, 13.0])],
    ids=["hours", "grades", "ranges"],
)
def test_scores_have_a_value_for_each_class_or_quantile(tmp_path: Path, of: Any, answer: Any) -> None:
    log, parcel = EventLog(tmp_path / "log"), made()[0][0]
    log.create(VECTORS)
    scores = VectorScores(of, feed(log, of.name), Constant(answer))
    assert prediction_array(scores.frame()["score"], of.label.predicts).shape == of.label.predicts.shape(0)
    served = ServedVector(
        vector_id="v", model=of.name, key="0", requested_at=parcel.sent_at, served_at=parcel.sent_at,
        service=of.features.version, values=[1.0], statuses="{}", offsets="{}",
        request=msgspec.json.encode(parcel).decode(),
    )  # fmt: skip
    write(log, VECTORS, [served])
    assert prediction_array(scores.frame()["score"], of.label.predicts).tolist() == [answer]


def test_rules_are_judged_before_the_first_vector_comes(shop: Shop) -> None:
    decision = Told(shop).tick(day(45))
    reasons = {verdict.rule: verdict.reason for verdict in decision.verdicts}
    assert reasons["drift"] == "too few days to compare with: 0 of 6 served days before the sample of 2d"


def test_drift_is_measured_once_a_day_unless_vectors_of_earlier_days_come(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors of today do not count, so they change nothing."""
    measured: list[int] = []

    def count(days: np.ndarray, *_: object, **__: object) -> DriftMeasurement:
        measured.append(len(days))
        return NOTHING

    monkeypatch.setattr(score_drift_rule, "most_drift", count)
    reads, rule = evidence_of(shop), drift("score", psi=0.2, sample="2d")
    write(shop.log, VECTORS, [logged(order) for order in shop.orders[5_000:5_500]])
    now = day(50)

    def look(at: int, *excluded: TimeSpan) -> int:
        rule.measure(reads.evidence(at, shop.state, excluded))
        return len(measured)

    assert [look(now), look(now + 60_000_000), look(now + 120_000_000)] == [1, 1, 1]
    today = msgspec.structs.replace(logged(shop.orders[1]), requested_at=utc_datetime(now + 1), key="today")
    write(shop.log, VECTORS, [today])
    assert look(now + 180_000_000) == 1
    late = msgspec.structs.replace(logged(shop.orders[1]), requested_at=utc_datetime(now - 1), key="late")
    write(shop.log, VECTORS, [late])
    assert [look(now + 240_000_000), look(now + 300_000_000)] == [2, 2]
    span = TimeSpan(from_us=now - DAY_US, to_us=now, reason="broken")
    assert [look(now + 360_000_000, span), look(now + 420_000_000, span)] == [3, 3]
    assert look(now + DAY_US) == 4
    assert measured == [500, 501, measured[2], 502]
