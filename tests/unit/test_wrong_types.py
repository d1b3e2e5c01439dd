"""A definition or a look-up that is given another type says what came and what to write, where it was written."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - the event's type is read when it is defined
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from headrace import (
    Count,
    Entity,
    Event,
    FeatureClient,
    FeatureService,
    FeatureView,
    Gate,
    Label,
    Model,
    Stream,
    Sum,
    any_of,
    col,
    consecutive,
    drift,
    hysteresis,
    volume,
)
from headrace.errors import DefinitionError, EntityKeyError
from headrace.features.offline.spine import keys_of
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.streams.worker import publish_definitions

if TYPE_CHECKING:
    from collections.abc import Callable


class Order(Event):
    """An event with a field of each kind."""

    id: int
    shop: str
    ok: bool
    at: datetime


orders = Stream("orders", Order, event_time="at")
visits = Stream("visits", Order, event_time="at")
_view: Any = partial(FeatureView, "v", entity=Entity("id", int), source=visits, windows=["1h"], features={"n": Count()})
_label: Any = partial(Label, orders, value=col("ok"), on="id", within="1h")


def train(x: Any, y: Any, run: Any) -> Any:
    raise NotImplementedError


_model: Any = partial(
    Model,
    "m",
    requests=orders,
    request_key="id",
    requested_at="at",
    features=FeatureService("f", [_view()]),
    label=_label(),
    train=train,
    triggers=volume(labels=1),
    gate=Gate("auc"),
)
_count: Any = Count
_name: Any = 5
_sum: Any = Sum
_service: Any = FeatureService
_stream: Any = Stream
_volume: Any = volume
_drift: Any = drift
_any_of: Any = any_of
_consecutive: Any = consecutive
_hysteresis: Any = hysteresis
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "label value": (lambda: _label(value=True), r"value=True is a bool; write a condition, such as col"),
    "label field": (lambda: _label(value="ok"), r"value='ok' is a str; write a condition"),
    "estimator": (
        lambda: _model(train=LogisticRegression()),
        r"train=LogisticRegression\(\) cannot be called as train\(X,",
    ),
    "estimator class": (lambda: _model(train=LogisticRegression), "train=LogisticRegression cannot be called as"),
    "no function": (lambda: _model(train=None), "neither train= nor estimator= is given; give one"),
    "too few arguments": (lambda: _model(train=lambda x, y: (x, y)), "train=<lambda> cannot be called as train"),
    "rule": (lambda: _model(triggers="volume"), "triggers='volume' is not a trigger rule"),
    "rule function": (lambda: _model(triggers=volume), "triggers=the function volume is not a trigger rule"),
    "gate": (lambda: _model(gate="auc"), r"gate='auc' is a str; write a Gate, such as Gate\('auc'\)"),
    "label": (lambda: _model(label=col("ok")), "is an Expression; write a Label"),
    "features": (lambda: _model(features=[_view()]), "is a list; write a FeatureService"),
    "requests": (lambda: _model(requests=Order), "requests=Order is a class; write a Stream"),
    "first_after": (lambda: _model(first_after="many"), "first_after='many' is a str; write a whole number"),
    "first_after bool": (lambda: _model(first_after=True), "first_after=True is a bool; write a whole number"),
    "request_features": (lambda: _model(request_features="shop"), "request_features='shop' is a str; write a list"),
    "model name": (lambda: Model(_name, **_model.keywords), "model name 5: use letters"),
    "windows": (lambda: _view(windows="1h"), r"windows='1h' is a str; write a list, such as \['1h'"),
    "aggregate class": (lambda: _view(features={"n": Count}), r"feature 'n' is <class .*; write an aggregate"),
    "features of a view": (lambda: _view(features=[Count()]), "is a list; write a dict, such as"),
    "entity": (lambda: _view(entity="id"), "entity='id' is a str; write an Entity"),
    "source": (lambda: _view(source=Order), "source=Order is a class; write a Stream"),
    "where": (lambda: _view(where="ok"), "where='ok' is a str; write a condition"),
    "where of a feature": (lambda: _view(features={"n": _count(where=True)}), "where=True is a bool"),
    "value of a feature": (
        lambda: _view(features={"n": _sum(5)}),
        "value=5 is an int; write a field's name",
    ),
    "views": (lambda: _service("f", _view()), "is a FeatureView; write a list of feature views"),
    "view by name": (lambda: _service("f", ["v"]), "item='v' is a str; write a list of feature"),
    "event": (lambda: _stream("o", dict, event_time="at"), "is not an event type; write a class that"),
    "topic": (lambda: _stream("a b", Order, event_time="at"), "stream 'a b': a topic is 1 to 249 letters"),
    "labels": (lambda: _volume(labels="many"), r"volume\(labels=…\): 'many' is str; write a number"),
    "psi": (lambda: _drift("score", psi="x", sample="14d"), "'x' is str; write a number above 0"),
    "no rules": (any_of, "any_of has no rules; give it at least one"),
    "rules": (lambda: _any_of(volume), "the function volume is not a trigger rule"),
    "days": (lambda: _consecutive(volume(labels=1), "3"), "days='3'"),
    "rearm": (lambda: _hysteresis(volume(labels=1), rearm="x"), "rearm='x'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_type_in_a_definition_is_named(name: str) -> None:
    make, said = WRONG[name]
    with pytest.raises(DefinitionError, match=said):
        make()


def test_a_callable_object_may_train() -> None:
    class Trainer:
        def __call__(self, x: Any, y: Any, run: Any) -> Any:
            raise NotImplementedError

    assert isinstance(_model(train=Trainer()), Model)


@pytest.fixture(scope="module")
def client() -> FeatureClient:
    store, view = MemoryOnlineStore(), _view()
    publish_definitions(store, [view], [FeatureService("f", [view])])
    return FeatureClient(store)


@pytest.mark.parametrize("key", [5, np.int64(5), np.uint64(5), np.int8(5)], ids=repr)
def test_any_whole_number_is_an_int_key(client: FeatureClient, key: Any) -> None:
    assert client.get("f", {"id": key}).to_lists() == [[0]]


@pytest.mark.parametrize("key", [True, np.bool_(True), 5.0, np.float64(5), "5", b"5", float("nan"), pd.NA], ids=repr)
def test_a_key_of_another_type_is_named(client: FeatureClient, key: Any) -> None:
    with pytest.raises(EntityKeyError, match="; wanted int"):
        client.get("f", {"id": key})


@pytest.mark.parametrize("key", [2**63, np.uint64(2**63), -(2**63) - 1], ids=repr)
def test_a_key_beyond_64_bits_is_named(client: FeatureClient, key: Any) -> None:
    with pytest.raises(EntityKeyError, match=r"an int has at most 64 bits"):
        client.get("f", {"id": key})


@pytest.mark.parametrize(
    ("entities", "said"),
    [
        (pd.DataFrame({"id": [1]}), r"the entities are a DataFrame: .* \.to_dict\('records'\)"),
        (pl.DataFrame({"id": [1]}), r"the entities are a DataFrame: .* \.to_dicts\(\)"),
        ("JFK", "the entities are a str: give a mapping"),
        (5, "the entities are a int: give a mapping"),
        ([{"id": 1}, None], "entity 1 is a NoneType, not a mapping"),
    ],
    ids=["pandas", "Polars", "str", "int", "None"],
)
def test_entities_of_another_type_are_named(client: FeatureClient, entities: Any, said: str) -> None:
    with pytest.raises(EntityKeyError, match=said):
        client.get("f", entities)


def test_unsigned_keys_of_a_spine_are_int_keys_as_long_as_they_fit() -> None:
    assert (
        keys_of(pl.DataFrame({"id": pl.Series([1, 2**63 - 1], dtype=pl.UInt64)}), {"id": "int"})["id"].dtype == pl.Int64
    )
    with pytest.raises(DefinitionError, match="join key 'id' is UInt64, with values beyond 64 bits"):
        keys_of(pl.DataFrame({"id": pl.Series([2**63], dtype=pl.UInt64)}), {"id": "int"})
