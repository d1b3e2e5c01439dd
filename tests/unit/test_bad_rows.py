"""One request that cannot be predicted costs no other request its answer."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from structlog.testing import capture_logs

from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.event import Event, encode
from headrace.bus.stream import Stream
from headrace.errors import (
    BusUnavailableError,
    EntityKeyError,
    OnlineStoreUnavailableError,
    PredictionError,
    RefusedError,
    RequestValueError,
)
from headrace.features.definitions.spec import to_document
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.models.model_events import ServiceRef, ViewRef
from headrace.models.prediction_task import PredictionTask
from headrace.models.predictions import Prediction, ServedVector
from headrace.models.row_scores import row_scores
from headrace.serving.answerer import Answerer
from headrace.serving.features import FeatureClient
from headrace.serving.follower import RequestFollower, RequestTail
from headrace.serving.subscriber import LoadedModel
from headrace.trainers.runs.fit_task import predict
from tests.support.basket_service import AT_US, basket
from tests.support.lookups_scene import A1, filled
from tests.support.model_events import PUBLISHED, published

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AT = utc_datetime(AT_US)
SERVICE = ServiceRef(
    name="basket",
    hash=basket.version,
    views=[ViewRef(name=view.name, spec_hash=view.version, keys=list(view.entity.join_keys)) for view in basket.views],
    columns=basket.columns(),
    request_features=["price", "kind"],
    key="id",
    at="at",
    on_demand=to_document(basket.spec)["on_demand"],
)


# -- rows of a frame ---------------------------------------------------------------------------------------------------

KINDS = ["good", "raises", "nan", "infinite", "dropped", "one column"]


class Moody:
    """An estimator that is wrong in its own way for each kind of row; a good row's score is its number."""

    def __init__(self) -> None:
        self.calls = 0

    def predict_proba(self, frame: pd.DataFrame) -> Any:
        self.calls += 1
        kinds, numbers = frame["kind"].tolist(), frame["number"].to_numpy(float)
        if "raises" in kinds:
            raise KeyError("raises")
        if "one column" in kinds:
            return np.zeros((len(frame), 1))
        odd = {"nan": math.nan, "infinite": math.inf}
        scores = [odd.get(kind, number) for kind, number in zip(kinds, numbers, strict=True) if kind != "dropped"]
        return [[0.0, score] for score in scores]


@pytest.mark.slow
@given(st.lists(st.sampled_from(KINDS), max_size=40))
def test_exactly_the_bad_rows_have_errors_and_all_others_their_scores(kinds: list[str]) -> None:
    estimator = Moody()
    found = row_scores(estimator, pd.DataFrame({"kind": kinds, "number": range(len(kinds))}))
    good = [row for row, kind in enumerate(kinds) if kind == "good"]
    assert sorted({*range(len(kinds))} - {*found.errors}) == good
    assert found.scores[good].tolist() == good
    assert np.isnan(np.delete(found.scores, good)).all()
    assert all(str(error).startswith("Moody cannot predict this row: ") for error in found.errors.values())
    assert estimator.calls <= max(0, 2 * len(kinds) - 1)


def test_one_bad_row_of_a_thousand_costs_twenty_more_calls() -> None:
    estimator = Moody()
    kinds = ["good"] * 1_024
    kinds[700] = "raises"
    assert [*row_scores(estimator, pd.DataFrame({"kind": kinds, "number": range(1_024)})).errors] == [700]
    assert estimator.calls == 1 + 2 * 10


def test_a_bad_value_does_not_change_the_type_that_others_see() -> None:
    class Strict:
        def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
            assert frame["x"].dtype == np.float64
            return np.full((len(frame), 2), 0.5)

    found = row_scores(Strict(), pd.DataFrame({"x": [1.0, 2.0, 3.0, "a text"]}))
    assert [*found.errors] == [3]


def of_kinds() -> Any:
    """A pipeline with an encoder that knows the kinds a and b alone, and refuses all others."""
    rows = pd.DataFrame({"kind": ["a", "b"] * 20, "price": [1.0, 2.0] * 20})
    encoder = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    return make_pipeline(encoder, LogisticRegression()).fit(rows, [False, True] * 20)


def test_an_unseen_category_is_an_error_of_its_row() -> None:
    rows = pd.DataFrame({"kind": ["a", "new", "b"], "price": [1.0, 1.0, 2.0]})
    found = row_scores(of_kinds(), rows)
    assert [*found.errors] == [1]
    assert "Found unknown categories" in str(found.errors[1])
    alone = [of_kinds().predict_proba(rows.iloc[[row]])[0, 1] for row in (0, 2)]
    assert found.scores[[0, 2]].tolist() == pytest.approx(alone)


def test_a_training_run_names_the_rows_that_its_model_cannot_predict() -> None:
    rows = pd.DataFrame({"kind": ["a", "new", "b", "newer"], "price": [1.0, 1.0, 2.0, 2.0]})
    with pytest.raises(PredictionError, match=r"2 of 4 rows cannot be predicted, the first is row 1: Pipeline cannot"):
        predict(of_kinds(), rows)


# -- requests of an application ----------------------------------------------------------------------------------------


class ByKind:
    """An estimator that knows some kinds; the score of a row is its price."""

    def __init__(self, *known: str) -> None:
        self.known = known

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        if not frame["kind"].isin(self.known).all():
            raise ValueError(f"Found unknown categories {sorted({*frame['kind']} - {*self.known})}")
        return np.column_stack([1 - frame["price"], frame["price"]]).astype(float)


class Application:
    """An answerer over a store in memory. It is also its own subscriber and producer."""

    def __init__(self, fallback: float | None = None, store: Any = None) -> None:
        own = store or MemoryOnlineStore()
        if store is None:
            filled(own)
        self.current = self.version(1, ByKind("a", "b"))
        self.sent: list[Any] = []
        self.refused: list[RefusedError] = []
        self.flushes = 0
        me: Any = self
        self.answerer = Answerer(
            me, FeatureClient(own), me, new_id=lambda: f"v{len(self.sent)}", fallback=fallback, namespace="headrace"
        )

    @staticmethod
    def version(version: int, estimator: Any) -> LoadedModel:
        event = published(str(version), version, expects=None)
        return LoadedModel(version, estimator, event, msgspec.structs.replace(PUBLISHED, service=SERVICE))

    def send(self, _: Any, event: Any, *, timestamp: Any) -> None:
        assert timestamp == AT
        if self.refused:
            raise self.refused.pop()
        encode(event)
        self.sent.append(event)

    def flush(self) -> None:
        self.flushes += 1
        if self.refused:
            raise self.refused.pop()

    @property
    def keys(self) -> list[str]:
        """The keys of the logged vectors."""
        return [event.key for event in self.sent if isinstance(event, ServedVector)]

    def predictions(self, role: str) -> list[tuple[str, float | None]]:
        return [(e.key, e.score) for e in self.sent if isinstance(e, Prediction) and e.role == role]


def basket_request(id_: int, **changes: Any) -> dict[str, Any]:
    return {"id": id_, **A1, "price": id_ / 100, "vip": None, "kind": "a", **changes}


def without(request: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name != field}


BAD: dict[str, tuple[Callable[[int], dict[str, Any]], type[Exception]]] = {
    "an unseen category": (lambda n: basket_request(n, kind="new"), PredictionError),
    "no score": (lambda n: basket_request(n, price=math.nan), RequestValueError),
    "a request feature that lacks": (lambda n: without(basket_request(n), "kind"), RequestValueError),
    "no key": (lambda n: without(basket_request(n), "id"), RequestValueError),
    "no value of an on-demand feature": (lambda n: without(basket_request(n), "vip"), RequestValueError),
    "a value of another type": (lambda n: basket_request(n, price="much"), RequestValueError),
    "a join key of another type": (lambda n: basket_request(n, shop=7), EntityKeyError),
    "a join key that is too large": (lambda n: basket_request(n, till=2**70), EntityKeyError),
    "what cannot be logged": (lambda n: basket_request(n, more=object()), PredictionError),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_request_has_an_error_and_its_neighbours_their_answers(bad: str) -> None:
    make, kind = BAD[bad]
    application = Application()
    with capture_logs() as logged:
        answers = application.answerer.predict_many([basket_request(1), make(2), basket_request(3)], as_of=AT)
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert [answers[0].value, answers[2].value] == [0.01, 0.03]
    assert isinstance(answers[1].error, kind)
    assert (math.isnan(answers[1].value), answers[1].version, answers[1].vector_id) == (True, 0, "")
    assert application.keys == ["1", "3"]
    assert application.predictions("live") == [("1", 0.01), ("3", 0.03)]
    assert application.answerer.failures == 1
    (line,) = logged
    assert (line["event"], line["requests"], line["reason"]) == (
        "requests were not predicted",
        1,
        str(answers[1].error),
    )


@pytest.mark.parametrize("bad", BAD)
def test_a_single_bad_request_is_the_fallback_or_its_error(bad: str) -> None:
    make, kind = BAD[bad]
    with pytest.raises(kind):
        Application().answerer.predict(make(1), as_of=AT)
    answer = Application(fallback=0.25).answerer.predict(make(1), as_of=AT)
    assert (answer.value, answer.version) == (0.25, 0)
    assert isinstance(answer.error, kind)


@pytest.mark.slow
@given(st.lists(st.sampled_from(["good", *BAD]), max_size=12))
def test_any_mix_of_requests_is_answered_in_order(kinds: list[str]) -> None:
    application = Application()
    requests = [basket_request(n) if kind == "good" else BAD[kind][0](n) for n, kind in enumerate(kinds)]
    answers = application.answerer.predict_many(requests, as_of=AT)
    good = [n for n, kind in enumerate(kinds) if kind == "good"]
    assert [n for n, answer in enumerate(answers) if answer.error is None] == good
    assert [answers[n].value for n in good] == [n / 100 for n in good]
    assert application.keys == [str(n) for n in good]
    assert application.answerer.failures == len(kinds) - len(good)


def test_a_shadow_that_cannot_predict_a_request_costs_the_live_version_nothing() -> None:
    application = Application()
    shadow = application.version(9, ByKind("a"))
    requests = [basket_request(1), basket_request(2, kind="b"), basket_request(3, kind="new")]
    answers = application.answerer.predict_many(requests, as_of=AT, shadows=[shadow])
    assert [answer.shadows for answer in answers] == [{9: 0.01, 1: 0.01}, {1: 0.02}, {}]
    assert application.predictions("shadow") == [("1", 0.01)]
    assert application.predictions("live") == [("1", 0.01), ("2", 0.02)]


class ByPrice:
    """An estimator of three classes; the dearer, the likelier is the last."""

    classes_ = ("dear", "cheap", "fair")

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        dear = frame["price"].to_numpy(float)
        return np.column_stack([dear, 0.5 - dear, np.full(len(dear), 0.5)])


def test_a_shadow_may_be_of_another_task_and_each_is_logged_as_its_own() -> None:
    application = Application()
    classes = PredictionTask(name="classes", classes=("cheap", "fair", "dear"))
    other = application.version(9, ByPrice())
    other = replace(other, published=msgspec.structs.replace(other.published, task=classes))
    for live, shadow in ((application.current, other), (other, application.current)):
        application.current, application.sent = live, []
        (answer,) = application.answerer.predict_many([basket_request(2)], as_of=AT, shadows=[shadow])
        assert answer.shadows == {1: 0.02, 9: 0.5}
        assert answer.value == answer.shadows[live.version]
        logged = {e.version: (e.format, e.score, e.values) for e in application.sent if isinstance(e, Prediction)}  # noqa: PD011 - no DataFrame
        assert logged == {1: (1, 0.02, None), 9: (2, None, pytest.approx([0.48, 0.5, 0.02]))}
    assert answer.values == pytest.approx({"cheap": 0.48, "fair": 0.5, "dear": 0.02})  # noqa: PD011
    assert (answer.likeliest, answer.interval) == ("fair", None)


def test_a_store_that_does_not_answer_is_no_error_of_a_request() -> None:
    class Away(MemoryOnlineStore):
        def __getattribute__(self, name: str) -> Any:
            raise OnlineStoreUnavailableError("away")

    with pytest.raises(OnlineStoreUnavailableError):
        Application(fallback=0.1, store=Away()).answerer.predict_many([basket_request(1)], as_of=AT)


def test_records_that_the_broker_has_refused_are_counted_and_cost_no_later_answer() -> None:
    application = Application()
    application.refused = [RefusedError("too large", [None, None]), RefusedError("too large", [None])]
    answers = application.answerer.predict_many([basket_request(1)], as_of=AT)
    assert answers[0].error is None
    assert (application.keys, application.answerer.failures) == (["1"], 3)


# -- requests of a stream ----------------------------------------------------------------------------------------------


class Asked(Event):
    """A request; everything that a producer can get wrong may be absent."""

    id: int
    shop: str
    till: int
    price: float
    kind: str
    sent: datetime
    at: datetime | None = None
    vip: bool | None = None


def followed(
    application: Application,
    values: Sequence[bytes],
    duplicates: Callable[[Sequence[Any]], set[tuple[int, int]]] | None = None,
) -> RequestFollower:
    """What follows a stream of these values."""
    ours = {"topic": lambda: "asked", "partition": lambda: 0, "timestamp": lambda: (1, epoch_us(AT) // 1_000)}
    messages = [
        SimpleNamespace(value=lambda own=own: own, offset=lambda n=n: n, **ours) for n, own in enumerate(values)
    ]
    me: Any = application
    tail: Any = SimpleNamespace(poll=lambda _: messages)
    stream = Stream("asked", Asked, event_time="sent")
    requests = RequestTail(stream, "at", tail, duplicates=duplicates)
    follower = RequestFollower(requests, subscriber=me, answerer=application.answerer, producer=me)
    follower.receive(0.0)
    return follower


def asked(id_: int, **changes: Any) -> bytes:
    content = {"id": id_, **A1, "price": id_ / 100, "kind": "a", "sent": AT, "at": AT + timedelta(seconds=id_)}
    return msgspec.json.encode(content | changes)


def test_a_stream_goes_on_after_requests_that_cannot_be_read_or_predicted() -> None:
    application = Application()
    bad = [b"junk", b"", asked(3, at=None), asked(4, at=datetime(2020, 1, 1)), asked(5, kind="new")]  # noqa: DTZ001
    bad += [asked(6, sent=datetime(2020, 1, 1)), asked(7, sent=AT + timedelta(minutes=6))]  # noqa: DTZ001
    follower = followed(application, [asked(2), *bad, asked(1)])
    served = follower.serve(AT)
    assert (served.requests, served.predicted, served.failed, served.logged) == (3, 2, 1, 2)
    assert application.keys == ["1", "2"]
    assert follower.serve(AT).requests == 0


def test_a_duplicate_of_a_request_is_left_out_and_waits_while_it_is_not_known() -> None:
    application, told = Application(), list[list[int]]()

    def duplicates(records: Sequence[Any]) -> set[tuple[int, int]]:
        told.append([record.offset() for record in records])
        if len(told) == 1:
            raise BusUnavailableError("away")
        return {(0, 2)}

    follower = followed(application, [asked(1), b"junk", asked(1), asked(2)], duplicates)
    assert follower.serve(AT).requests == 0
    follower.receive(0.0)
    assert follower.serve(AT).predicted == 2
    assert application.keys == ["1", "2"]
    assert told == [[0, 1, 2, 3]] * 2
    assert follower.received == 4


def test_requests_wait_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    application = Application()
    follower = followed(application, [asked(1)])

    def away(*_: Any, **__: Any) -> Any:
        raise BusUnavailableError("away")

    with monkeypatch.context() as broken:
        broken.setattr(FeatureClient, "get_views", away)
        for _ in range(2):
            with pytest.raises(BusUnavailableError):
                follower.serve(AT)
    assert follower.serve(AT).predicted == 1
    assert application.keys == ["1"]


def test_an_answer_that_the_broker_refuses_at_the_end_does_not_end_the_stream() -> None:
    application = Application()
    follower = followed(application, [asked(1)])
    application.send = lambda *_, **__: application.refused.append(RefusedError("too large", [None]))  # type: ignore[method-assign]
    application.refused.clear()
    assert follower.serve(AT).predicted == 1
    assert (application.answerer.failures, application.refused) == (2, [])
