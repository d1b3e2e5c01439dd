"""The task of a label: how its estimator's answers become predictions, and what goes to the bus."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from headrace.app.past_predictions import PastPredictions
from headrace.bus.event import Event, encode
from headrace.bus.event_reader import EventReader
from headrace.bus.stream import Stream
from headrace.errors import CodecError
from headrace.event_log.event_log import EventLog
from headrace.models.prediction_task import BINARY, PredictionTask, read_predictions
from headrace.models.predictions import Prediction, logged_fields
from headrace.models.row_scores import row_scores
from headrace.trainers.data.model_log import ModelLog
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.documents import ROOT
from tests.support.orders_model import write
from tests.support.parcels_model import HOURS, deliveries, parcels

if TYPE_CHECKING:
    from pathlib import Path

GRADES = PredictionTask(name="classes", classes=("good", "fair", "poor"))
MINUTES = PredictionTask(name="regression")
RANGE = PredictionTask(name="quantile", quantiles=(0.1, 0.5, 0.9))
FRAME = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
PAGE = (ROOT / "docs/reference/messages.md").read_text("utf-8")
AT = datetime(2013, 1, 1, tzinfo=UTC)
FIELDS: dict[str, Any] = {
    "prediction_id": "a-1", "vector_id": "a", "model": "delay", "version": 1, "role": "live", "key": "7",
    "requested_at": AT, "served_at": AT,
}  # fmt: skip
SAME = (
    b'{"prediction_id":"a-1","vector_id":"a","model":"delay","version":1,"role":"live","key":"7",'
    b'"requested_at":"2013-01-01T00:00:00Z","served_at":"2013-01-01T00:00:00Z",'
)


class Answers:
    """An estimator with given answers."""

    def __init__(self, answers: Any, classes: list[str] | None = None) -> None:
        self._answers = np.array(answers)
        if classes is not None:
            self.classes_ = classes

    def predict(self, frame: pd.DataFrame) -> Any:
        return self._answers[: len(frame)]

    predict_proba = predict


def test_probabilities_are_in_the_order_of_the_declared_classes() -> None:
    sorted_by_name = Answers([[0.2, 0.7, 0.1]] * 3, ["fair", "good", "poor"])
    assert read_predictions(sorted_by_name, FRAME, GRADES).tolist() == [[0.7, 0.2, 0.1]] * 3
    fitted = LogisticRegression().fit(FRAME, ["poor", "good", "fair"])
    found = read_predictions(fitted, FRAME, GRADES)
    assert [GRADES.classes[place] for place in found.argmax(axis=1)] == fitted.predict(FRAME).tolist()


def test_a_class_that_the_estimator_has_not_seen_has_no_chance() -> None:
    found = read_predictions(Answers([[0.4, 0.6]] * 3, ["fair", "poor"]), FRAME, GRADES)
    assert found.tolist() == [[0.0, 0.4, 0.6]] * 3


def test_a_class_that_the_label_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"the estimator has the classes \['bad', 'good'\], the label has \['good'"):
        read_predictions(Answers([[0.4, 0.6]] * 3, ["bad", "good"]), FRAME, GRADES)


def test_quantiles_come_from_one_estimator_or_from_one_for_each_and_never_cross() -> None:
    table = [[1.0, 5.0, 9.0], [2.0, 1.0, 3.0], [4.0, 4.0, 4.0]]
    one, each = Answers(table), [Answers(column) for column in np.array(table).T]
    for estimator in (one, each, tuple(each)):
        found = read_predictions(estimator, FRAME, RANGE)
        assert found.tolist() == [[1.0, 5.0, 9.0], [1.0, 2.0, 3.0], [4.0, 4.0, 4.0]]


@pytest.mark.parametrize(
    ("answers", "task", "said"),
    [
        ([[1.0]] * 3, MINUTES, r"predict gave an array of shape \(1, 1\), wanted \(1,\)"),
        ([1.0] * 3, RANGE, r"wanted \(1, 3\)"),
        ([[0.5, 0.5]] * 3, GRADES, r"predict_proba gave an array of shape \(1, 2\), wanted \(1, 3\)"),
        ([1.0, float("nan"), 3.0], MINUTES, "its score is nan, which is no number"),
        ([[0.1, 0.9, 0.0], [0.1, float("inf"), 0.0]], GRADES, "which is no probability"),
    ],
)
def test_a_row_without_a_prediction_says_why(answers: list[Any], task: PredictionTask, said: str) -> None:
    found = row_scores(Answers(answers), FRAME.head(len(answers)), task)
    (error, *_) = found.errors.values()
    with pytest.raises(type(error), match=said):
        raise error
    rows = sorted(set(range(len(answers))) - set(found.errors))
    assert np.isfinite(found.scores[rows]).all()
    assert np.isnan(found.scores[[*found.errors]]).all()
    assert found.scores.shape == task.shape(len(answers))


def test_the_one_number_of_a_prediction() -> None:
    assert (BINARY.value(np.float64(0.25)), MINUTES.value(np.float64(-3.5))) == (0.25, -3.5)
    assert (BINARY.values(0.25), MINUTES.values(-3.5)) == ({}, {})
    assert GRADES.value(np.array([0.2, 0.5, 0.3])) == 0.5
    assert GRADES.values(np.array([0.2, 0.5, 0.3])) == {"good": 0.2, "fair": 0.5, "poor": 0.3}
    assert RANGE.value(np.array([1.0, 5.0, 9.0])) == 5.0
    assert RANGE.values(np.array([1.0, 5.0, 9.0])) == {0.1: 1.0, 0.5: 5.0, 0.9: 9.0}


@pytest.mark.parametrize(
    ("prediction", "task", "rest"),
    [
        (0.25, BINARY, b'"score":0.25,"acted":false,"control":false}'),
        (-3.5, MINUTES, b'"acted":false,"control":false,"format":2,"values":[-3.5]}'),
        (
            [0.2, 0.5, 0.3],
            GRADES,
            b'"acted":false,"control":false,"format":2,"values":[0.2,0.5,0.3],"outputs":["good","fair","poor"]}',
        ),
        (
            [1.0, 5.0, 9.0],
            RANGE,
            b'"acted":false,"control":false,"format":2,"values":[1.0,5.0,9.0],"outputs":["0.1","0.5","0.9"]}',
        ),
    ],
)
def test_the_bytes_of_a_prediction(prediction: Any, task: PredictionTask, rest: bytes) -> None:
    """The bytes for a label that is true or false are the same as in every earlier release."""
    made = Prediction(**FIELDS, **logged_fields(prediction, task))
    assert encode(made) == SAME + rest
    assert '{"prediction_id":"a-1",…,' + rest.decode() in PAGE.splitlines()
    assert EventReader(PREDICTIONS).read(SAME + rest) == made


class PredictionOfFormat1(Event):
    """A prediction as earlier releases read it."""

    prediction_id: str
    vector_id: str
    model: str
    version: int
    role: str
    key: str
    requested_at: datetime
    served_at: datetime
    score: float
    acted: bool = False
    control: bool = False


def test_an_earlier_release_reads_format_1_and_refuses_format_2() -> None:
    own: dict[str, Any] = {"score": 0.25}
    read = msgspec.json.Decoder(PredictionOfFormat1).decode
    assert encode(read(encode(Prediction(**FIELDS, **own)))) == encode(PredictionOfFormat1(**FIELDS, **own))
    with pytest.raises(msgspec.ValidationError, match="missing required field `score`"):
        read(encode(Prediction(**FIELDS, **logged_fields(-3.5, MINUTES))))


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (b'"format":3,"ranks":[1]}', "a prediction has format 3, this release reads formats up to 2: upgrade headrace"),
        (b'"acted":false}', "a prediction of format 1 has no `score`"),
        (b'"score":null}', "a prediction of format 1 has no `score`"),
        (b'"score":0.5,"format":2}', "a prediction of format 2 has no `values`"),
    ],
)
def test_a_prediction_that_says_nothing_or_is_newer_is_rejected_with_the_reason(rest: bytes, said: str) -> None:
    with pytest.raises(CodecError, match=said):
        EventReader(PREDICTIONS).read(SAME + rest)


def test_a_log_of_an_earlier_release_is_read_and_gets_the_new_columns(tmp_path: Path) -> None:
    """Its predictions are listed before a worker of this release has started, and are the same after it."""
    log = EventLog(tmp_path / "log")
    old = Stream(PREDICTIONS.topic, PredictionOfFormat1, event_time="served_at", tolerance="1d")
    write(log, old, [PredictionOfFormat1(**FIELDS, score=0.25)])
    past = PastPredictions(lambda _: HOURS, log, dict)
    (before,) = past.newest(9)
    assert (before["prediction_id"], before["score"]) == ("a-1", 0.25)
    new = {**FIELDS, "prediction_id": "b-1", "model": "parcels"}
    write(log, PREDICTIONS, [Prediction(**new, **logged_fields(-3.5, MINUTES))])
    found = {row["prediction_id"]: row for row in past.newest(9)}
    assert found["a-1"] == {**before, "format": 1, "values": None, "outputs": None}
    assert (found["b-1"]["score"], found["b-1"]["format"], found["b-1"]["values"]) == (None, 2, [-3.5])
    for stream in (parcels, deliveries, VECTORS):
        log.create(stream)
    assert ModelLog(HOURS, log).predictions().get_column("score").to_list() == [-3.5]
