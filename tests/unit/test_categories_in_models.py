"""Inputs of a model that its estimator gets as categories of pandas: from the definition to the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

import headrace
from headrace.app.project.settings import Settings
from headrace.base.times import utc_datetime
from headrace.errors import DefinitionError, TerminalError
from headrace.features.definitions.spec import to_document
from headrace.models import artifact
from headrace.models.category_columns import with_categories, with_own_categories
from headrace.models.model_event_log import events
from headrace.models.row_scores import row_scores
from headrace.serving.answerer import model_frame
from headrace.serving.features import FeatureVectors, ViewAnswer
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.runs.kept_fits import KeptFits
from headrace.trainers.runs.provenance import service_ref
from tests.support.orders_model import Shop, day, model, request

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.models.model_events import Published
    from headrace.trainers.data.examples import Examples

boosted = replace(
    model,
    train=None,
    estimator=HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=20),
    request_features=["amount", "shop"],
    categories=["shop"],
)
COLUMN = "shop__orders_1d"


def encoders(X: Any, y: Any, run: Any) -> Any:  # noqa: N803 - what everyone calls it
    """A pipeline that encodes the same text twice, with what is missing as a category of its own."""
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    columns = make_column_transformer(
        (ordinal, ["shop"]), (OneHotEncoder(handle_unknown="ignore"), ["shop"]), remainder="passthrough"
    )
    return make_pipeline(columns, LogisticRegression(max_iter=500, random_state=run.seed)).fit(X, y)


def served(published: Published, requests: list[dict[str, Any]], orders: list[float]) -> pd.DataFrame:
    """The estimator's input in an application."""
    rows = len(requests)
    values = np.array(orders), np.ones(rows, bool)
    of = ViewAnswer("shop", "0", [COLUMN], [values], [], np.zeros(rows), [])
    return model_frame(published.service, requests, FeatureVectors(rows, utc_datetime(0), [of]))


@pytest.mark.parametrize("of", [boosted, replace(boosted, train=encoders, estimator=None)], ids=["boosted", "encoders"])
def test_a_model_of_categories_is_trained_and_an_unseen_one_raises_nothing(tmp_path: Path, of: Any) -> None:
    shop = Shop(tmp_path)
    ended = shop.runner(of).run(request("first", day(30)))
    assert ended.outcome == "published", ended.reason
    (event,) = events(shop.model_events.read(), model.name)
    published = cast("Published", event.data)
    assert (published.format, published.service.categories) == (6, ["shop"])
    loaded = artifact.load(artifact.fetch(published.artifact.uri), [])
    examples = ExampleBuilder(of, shop.log).build(day(30))
    assert [str(dtype) for dtype in examples.frame.dtypes] == ["float64", "float64", "category"]
    shops = ["shop-1", "opened yesterday", None, "shop-4"]
    requests = [{"order_id": row, "amount": 0.5, "shop": name} for row, name in enumerate(shops)]
    frame = served(published, requests, [30.0] * 4)
    assert [str(dtype) for dtype in frame.dtypes] == ["float64", "float64", "category"]
    together = row_scores(loaded, frame)
    assert together.errors == {}
    alone = [row_scores(loaded, served(published, [each], [30.0])).scores[0] for each in requests]
    assert together.scores.tolist() == alone


def test_a_row_of_a_training_set_has_the_score_that_an_application_gives_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert shop.runner(boosted).run(request("first", day(30))).outcome == "published"
    (event,) = events(shop.model_events.read(), model.name)
    published = cast("Published", event.data)
    loaded = artifact.load(artifact.fetch(published.artifact.uri), [])
    examples = ExampleBuilder(boosted, shop.log).build(day(30))
    frame = examples.frame.head(40)
    requests = [
        {"order_id": row, "amount": amount, "shop": name}
        for row, (amount, name) in enumerate(zip(frame["amount"], frame["shop"], strict=True))
    ]
    application = served(published, requests, frame[COLUMN].tolist())
    np.testing.assert_array_equal(row_scores(loaded, frame).scores, row_scores(loaded, application).scores)


def test_some_rows_have_their_own_categories_and_equal_rows_have_equal_hashes(tmp_path: Path) -> None:
    examples: Examples = ExampleBuilder(boosted, Shop(tmp_path).log).build(day(30))
    rows = (examples.frame["shop"] == "shop-2").to_numpy()
    part = examples.take(rows)
    assert part.frame["shop"].cat.categories.tolist() == ["shop-2"]
    assert part.content_hash() == examples.take(rows).content_hash() != examples.content_hash()


def test_categories_are_those_of_the_rows_in_order_and_nothing_is_no_category() -> None:
    frame = with_categories(pd.DataFrame({"a": ["y", None, "x", "y"], "b": [2.0, np.nan, 1.0, 2.0]}), ["a", "b"])
    assert (frame["a"].cat.categories.tolist(), frame["b"].cat.categories.tolist()) == (["x", "y"], [1.0, 2.0])
    assert frame.isna().sum().tolist() == [1, 1]
    assert with_own_categories(frame.iloc[:2])["a"].cat.categories.tolist() == ["y"]
    assert with_categories(frame, []) is frame


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["amount"], r"categories name \['amount'\], which have the kinds \{'amount': 'float'\}; the texts and whole"),
        (["colour"], r"\['colour'\], which are no inputs; .* are \['shop__orders_1d', 'shop'\]"),
        (["shop", "shop"], r"categories=\['shop', 'shop'\] names an input twice"),
        ("shop", r"categories='shop'"),
    ],
)
def test_wrong_categories_are_refused_where_they_are_written(names: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        replace(boosted, categories=names)


def test_a_spec_has_its_categories_and_one_without_them_is_as_ever() -> None:
    assert to_document(boosted.spec)["categories"] == ["shop"]
    assert "categories" not in to_document(model.spec)
    assert b"categories" not in msgspec.json.encode(service_ref(model))
    assert replace(boosted, categories=[COLUMN, "shop"]).version != boosted.version


def test_a_fit_without_categories_is_not_compared_with_one_that_has_them(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    plain = replace(boosted, categories=[], train=encoders, estimator=None)
    assert shop.runner(plain).run(request("first", day(30))).outcome == "published"
    (event,) = events(shop.model_events.read(), model.name)
    kept = KeptFits(boosted, shop.registry, shop.pool, [])
    assert kept._unlike(cast("Published", event.data)) == "it has other features"


def test_a_training_set_has_categories_for_pandas(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    settings = Settings(event_log=str(shop.folder / "log"), data_dir=tmp_path)
    spine = pl.DataFrame({"shop": ["shop-1", "shop-9"], "at": [utc_datetime(day(3))] * 2})
    made = headrace.training_set(model.features, spine, time="at", settings=settings)
    assert made.to_pandas(categories=["shop"])["shop"].cat.categories.tolist() == ["shop-1", "shop-9"]
    assert made.to_pandas()["shop"].dtype == object
    with pytest.raises(TerminalError, match=r"categories name \['card'\]; the columns of this training set are"):
        made.to_pandas(categories=["card"])
