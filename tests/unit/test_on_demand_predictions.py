"""Predictions with on-demand features: what the estimator sees, and what is logged of it for audits and training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from headrace.base.times import utc_datetime
from headrace.errors import RequestValueError
from headrace.features.definitions.spec import to_document
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.models.model_events import ServiceRef, ViewRef
from headrace.models.predictions import ServedVector
from headrace.serving.answerer import Answerer
from headrace.serving.features import FeatureClient
from headrace.serving.subscriber import LoadedModel
from tests.support.basket_service import AT_US, NOWHERE, REQUESTS, WANTED, basket
from tests.support.lookups_scene import A1, B1, filled
from tests.support.model_events import PUBLISHED, published

if TYPE_CHECKING:
    import pandas as pd

SERVICE = ServiceRef(
    name="basket",
    hash=basket.version,
    views=[ViewRef(name=view.name, spec_hash=view.version, keys=list(view.entity.join_keys)) for view in basket.views],
    columns=basket.columns(),
    request_features=["price"],
    key="id",
    at="at",
    on_demand=to_document(basket.spec)["on_demand"],
)


class Scene:
    """An application with one version; stands for its estimator, its subscriber and its producer."""

    def __init__(self) -> None:
        store = MemoryOnlineStore()
        filled(store)
        event = published("a", 1, expects=None)
        self.current = LoadedModel(1, self, event, msgspec.structs.replace(PUBLISHED, service=SERVICE))
        self.sent: list[Any] = []
        me: Any = self
        self.answerer = Answerer(me, FeatureClient(store), me, new_id=lambda: "v", namespace="headrace")

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        self.frame = frame
        return np.full((len(frame), 2), 0.5)

    def send(self, _: Any, event: Any, *, timestamp: Any) -> None:
        assert timestamp == utc_datetime(AT_US)
        self.sent.append(event)


def test_on_demand_features_come_before_request_features_and_are_logged() -> None:
    scene = Scene()
    requests = [
        {"id": n, **entity, **own} for n, (entity, own) in enumerate(zip([A1, B1, NOWHERE], REQUESTS, strict=True))
    ]
    scene.answerer.predict_many(requests, as_of=utc_datetime(AT_US))
    assert list(scene.frame.columns) == [*basket.columns(), "price"]
    made = np.array([[np.nan if value is None else value for value in row] for row in WANTED], float)
    assert np.array_equal(scene.frame[["gap", "is_dear", "is_known"]].to_numpy(), made, equal_nan=True)
    vectors = [event for event in scene.sent if isinstance(event, ServedVector)]
    assert [msgspec.to_builtins(vector)["values"][4:] for vector in vectors] == [
        [2.0, 1.0, 1.0],
        [None, None, 1.0],
        [None, None, 0.0],
    ]
    assert {vector.service for vector in vectors} == {basket.version}


def test_a_request_that_lacks_a_value_is_refused_and_nothing_is_logged() -> None:
    scene = Scene()
    with pytest.raises(RequestValueError, match="required field `vip`"):
        scene.answerer.predict({"id": 1, **A1, "price": 3.0})
    assert scene.sent == []


def test_a_request_may_have_its_fields_in_objects_and_is_logged_with_their_names() -> None:
    scene = Scene()
    service = msgspec.structs.replace(SERVICE, key="order.id", request_features=["order.goods.price"])
    scene.current = LoadedModel(
        1, scene, published("a", 1, expects=None), msgspec.structs.replace(PUBLISHED, service=service)
    )
    values = REQUESTS[0]
    nested = {**A1, **values, "order": {"id": 7, "goods": {"price": 2.5}}}
    flat = {**A1, **values, "order.id": 7, "order.goods.price": 2.5}
    for request in (nested, flat):
        answer = scene.answerer.predict(request, as_of=utc_datetime(AT_US))
        assert answer.error is None
        assert scene.frame["order.goods.price"].to_list() == [2.5]
    vectors = [event for event in scene.sent if isinstance(event, ServedVector)]
    assert [vector.key for vector in vectors] == ["7", "7"]
    assert [msgspec.json.decode(vector.request)["order.goods.price"] for vector in vectors] == [2.5, 2.5]
