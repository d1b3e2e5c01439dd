"""On-demand features in training sets: the same expressions over what the log says, in every way to make a set."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

import headrace
from headrace import FeatureService, Model, Settings, col, now
from headrace.base.times import utc_datetime
from headrace.errors import DefinitionError, TerminalError
from headrace.features.definitions.spec import to_document
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.rebuilt_rows import rows_of_manifest
from headrace.trainers.runs.provenance import service_ref
from tests.support.orders_model import DAYS, Shop, day, model
from tests.support.orders_model import shop as shop_view

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.features.definitions.expression import Expression

AS_OF = utc_datetime(day(DAYS + 2))
ON_DEMAND = {"weight": col("shop__orders_1d") * col("amount"), "is_dear": col("weight") > 10}


def of(on_demand: dict[str, Expression], **request: Any) -> Model:
    return replace(model, features=FeatureService("shops", [shop_view], on_demand=on_demand, request=request))


MODEL = of(ON_DEMAND, amount=float)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


def made(shop: Shop, what: Any, spine: Any = None) -> headrace.TrainingSet:
    settings = Settings(event_log=str(shop.folder / "log"))
    return headrace.training_set(what, spine, as_of=AS_OF, excluded=[], settings=settings)


def check(frame: pl.DataFrame) -> None:
    """Each row has what a loop makes of its own columns."""
    assert not frame.is_empty()
    for row in frame.to_dicts():
        weight = row["shop__orders_1d"] * row["amount"]
        assert (row["weight"], row["is_dear"]) == (weight, weight > 10)


def test_the_requests_of_a_model_get_on_demand_features(shop: Shop) -> None:
    found = made(shop, MODEL)
    assert found.feature_columns == ["shop__orders_1d", "weight", "is_dear"]
    check(found.to_polars())
    assert found.to_polars()["is_dear"].n_unique() == 2
    assert found.manifest.service == MODEL.features.version != model.features.version


def test_a_spine_gets_on_demand_features_in_pieces_too(shop: Shop, tmp_path: Path) -> None:
    spine = made(shop, model).to_polars().select("shop", "ordered_at", "amount")[:50]
    found = made(shop, MODEL.features, spine)
    check(found.to_polars())
    found.to_parquet(tmp_path / "set.parquet")
    assert pl.read_parquet(tmp_path / "set.parquet").equals(found.to_polars())
    again = rows_of_manifest(found.manifest, MODEL.features, str(shop.folder / "log"), spine=headrace_spine(spine))
    assert pl.concat(list(again.pieces())).equals(found.to_polars())
    with pytest.raises(TerminalError, match="or in its on-demand features"):
        rows_of_manifest(found.manifest, model.features, str(shop.folder / "log"), spine=headrace_spine(spine))


def headrace_spine(frame: pl.DataFrame) -> Any:
    from headrace.features.offline.spine import Spine

    return Spine.from_table(frame)


def test_now_is_the_time_of_the_row_or_of_the_look_up(shop: Shop) -> None:
    on_demand = {"wait": now().seconds_since(col("ordered_at")), "hour": now().hour(zone="America/New_York")}
    with_now = of(on_demand, ordered_at=datetime)
    spine = made(shop, model).to_polars().select("shop", "ordered_at")[:50]
    rows = made(shop, with_now.features, spine).to_polars().to_dicts()
    zone = ZoneInfo("America/New_York")
    assert [(row["wait"], row["hour"]) for row in rows] == [
        (0.0, row["ordered_at"].astimezone(zone).hour) for row in spine.to_dicts()
    ]
    served = made(shop, with_now).to_polars()
    assert (served["wait"] >= 0).all()
    assert served["wait"].to_list() == pytest.approx(
        ExampleBuilder(with_now, shop.log).build(day(DAYS + 2)).frame["wait"].tolist()[: served.height]
    )


def test_a_trainer_sees_on_demand_features_and_each_row_is_computed_once(shop: Shop) -> None:
    sets = ExampleBuilder(MODEL, shop.log)
    few, many = sets.build(day(30)), sets.build(day(40))
    for frame in (few.frame, many.frame):
        assert list(frame.columns) == ["shop__orders_1d", "weight", "is_dear", "amount"]
        assert np.array_equal(frame["weight"], frame["shop__orders_1d"] * frame["amount"])
        assert np.array_equal(frame["is_dear"], frame["weight"] > 10)
    assert 0 < len(few) < len(many)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spine: spine.drop("amount"), "lack the request's value 'amount' (float)"),
        (lambda spine: spine.with_columns(amount=pl.lit("1")), "'amount' as String; the service has it as float"),
        (lambda spine: spine.with_columns(weight=1.0), "columns with the names of features: ['weight']"),
    ],
)
def test_a_wrong_spine_is_refused_before_the_log_is_read(shop: Shop, change: Any, said: str) -> None:
    spine = pl.DataFrame({"shop": ["a"], "at": [AS_OF], "amount": [1.0]})
    with pytest.raises(DefinitionError) as caught:
        made(shop, MODEL.features, change(spine))
    assert said in str(caught.value)


def test_a_feature_named_like_the_label_keeps_its_name(shop: Shop) -> None:
    found = made(shop, of({"label": col("shop__orders_1d") + 1}))
    frame = found.to_polars()
    assert found.label_column == "returns_label"
    assert frame["label"].equals((frame["shop__orders_1d"] + 1).alias("label"))


@pytest.mark.parametrize(
    ("on_demand", "request_", "said"),
    [
        ({"amount": col("shop__orders_1d") + 1}, {}, "on_demand 'amount' is also a field of Order ('orders')"),
        ({"x": col("price") > 1}, {"price": float}, "wants 'price' (float) with a request"),
        ({"x": col("amount") > 1}, {"amount": int}, "Field(name='amount', kind='float'"),
    ],
)
def test_a_model_whose_requests_do_not_bring_the_values_is_refused(
    on_demand: dict[str, Expression], request_: dict[str, Any], said: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        of(on_demand, **request_)
    assert "model 'returns'" in str(caught.value)
    assert said in str(caught.value)


def test_a_whole_number_of_a_request_is_a_float_too() -> None:
    assert of({"x": col("order_id") / 2}, order_id=float).features.columns()[-1] == "x"


def test_the_spec_and_the_event_of_a_model_carry_on_demand_features() -> None:
    assert MODEL.spec.on_demand == MODEL.features.spec.on_demand
    assert "on_demand" not in to_document(model.spec)
    assert service_ref(MODEL).on_demand == to_document(MODEL.features.spec)["on_demand"]
    assert service_ref(MODEL).columns == ["shop__orders_1d", "weight", "is_dear"]
