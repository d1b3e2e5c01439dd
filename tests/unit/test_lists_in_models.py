"""Lists as inputs of a model: the estimator gets the same list in training, in serving and from a logged vector."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from headrace import Entity, Event, FeatureService, FeatureView, Gate, Label, LastN, Model, Stream, col, volume
from headrace.base.times import utc_datetime
from headrace.features.offline.feature_history import COLUMN_TYPES
from headrace.features.offline.vector_values import model_matrix, vector_columns
from headrace.models import artifact
from headrace.models.model_events import ServiceRef
from headrace.models.predictions import logged_values
from headrace.models.row_scores import row_scores
from headrace.serving.answerer import model_frame
from headrace.serving.features import FeatureVectors, ViewAnswer
from headrace.trainers.audit.compare import _differ

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
LISTS: dict[str, list[list[Any] | None]] = {
    "list(str)": [["a", "b"], [], None, ["é\n,"]],
    "list(int)": [[2**62, -1], [], None, [0]],
    "list(float)": [[0.1, 2.0], [], None, [1e300]],
    "list(bool)": [[True, False], [], None, [True]],
    "list(date)": [[date(2026, 1, 31)], [], None, [date(1969, 1, 1)]],
    "list(datetime)": [[AT], [], None, [AT]],
}
KINDS = {f"v__{place}": kind for place, kind in enumerate(LISTS)}


class Paid(Event):
    """A card pays."""

    card: str
    merchant: str
    order: int
    at: datetime


paid = Stream("paid", Paid, event_time="at")
card = FeatureView("card", Entity("card"), paid, ["7d"], {"merchants": LastN("merchant", 2, as_list=True)})


def matrix(rows: list[list[Any]]) -> pl.DataFrame:
    """The columns of a training set."""
    columns = zip(*rows, strict=True)
    return pl.DataFrame([pl.Series(name, each, COLUMN_TYPES[KINDS[name]])
                         for name, each in zip(KINDS, columns, strict=True)])  # fmt: skip


ROWS = [list(row) for row in zip(*LISTS.values(), strict=True)]


def test_a_logged_vector_has_lists_as_json_and_they_are_read_again() -> None:
    assert logged_values([["a", "b"], 1.0, [AT], []]) == {
        "values": [None, 1.0, None, None],
        "texts": ['["a","b"]', None, '["2026-01-31T12:00:00Z"]', "[]"],
    }
    vectors = pl.DataFrame([logged_values(row) for row in ROWS[:2]])
    assert vector_columns(vectors, KINDS).equals(matrix(ROWS[:2]))


@pytest.mark.parametrize("text", ["[", "{}", "3", '[{"a": 1}]', ""])
def test_a_logged_text_that_is_no_list_is_null(text: str) -> None:
    vectors = pl.DataFrame({"values": [[None]], "texts": [[text]]}, schema_overrides={"values": pl.List(pl.Float64)})
    assert vector_columns(vectors, {"v__x": "list(int)"}).to_dicts() == [{"v__x": None}]


def test_training_and_serving_give_an_estimator_the_same_lists_and_none_of_them_is_null() -> None:
    columns = []
    for values in LISTS.values():
        found = np.full(len(values), None, object)
        for place, value in enumerate(values):
            found[place] = [] if value is None else value
        columns.append((found, np.array([value is not None for value in values])))
    of = ViewAnswer("v", "0", list(KINDS), columns, [], np.zeros(4), [])
    service = ServiceRef(name="s", hash="0", views=[], columns=list(KINDS), request_features=[], key="id", at="at")
    served = model_frame(service, [{"id": row} for row in range(4)], FeatureVectors(4, utc_datetime(0), [of]))
    trained = model_matrix(matrix(ROWS), pl.DataFrame())
    for name, kind in KINDS.items():
        wanted = [[] if value is None else value for value in LISTS[kind]]
        assert served[name].tolist() == trained[name].tolist() == wanted
        assert {type(value) for value in trained[name]} == {list}


@pytest.mark.parametrize("first", [CountVectorizer(analyzer=list), FeatureHasher(64, input_type="string")])
def test_scikit_learn_takes_a_column_of_lists_and_an_unseen_item_raises_nothing(first: Any) -> None:
    name, kinds = "card__merchants_7d", {"card__merchants_7d": "list(str)"}
    features = pl.DataFrame(
        {name: [["casino"], ["grocery", "casino"], [], ["grocery"]] * 10}, {name: COLUMN_TYPES["list(str)"]}
    )
    estimator = make_pipeline(make_column_transformer((first, name)), LogisticRegression())
    estimator.fit(model_matrix(features, pl.DataFrame()), np.array([1, 1, 0, 0] * 10))
    loaded = artifact.load(artifact.dump(estimator).data, [])
    logged = pl.DataFrame([logged_values([each]) for each in (["casino"], ["grocery"], [], ["opened yesterday"])])
    found = row_scores(loaded, model_matrix(vector_columns(logged, kinds), pl.DataFrame()))
    assert found.errors == {}
    assert found.scores[0] > found.scores[1]


def test_a_model_takes_a_service_with_lists() -> None:
    model = Model(
        "fraud", requests=paid, request_key="order", requested_at="at", features=FeatureService("fraud", [card]),
        label=Label(paid, value=col("order") > 1, on="order", within="1d"), estimator=LogisticRegression(),
        triggers=volume(labels=100), gate=Gate("auc"), own_event="included",
    )  # fmt: skip
    assert model.features.column_kinds == {"card__merchants_7d": "list(str)"}


def test_an_audit_compares_lists_exactly() -> None:
    one = pl.Series([["a", "b"], ["a"], [], None], dtype=pl.List(pl.String))
    other = pl.Series([["b", "a"], ["a"], None, None], dtype=pl.List(pl.String))
    assert _differ(one, other).to_list() == [True, False, True, False]
