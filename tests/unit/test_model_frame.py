"""What the estimator sees of a request."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.base.times import utc_datetime
from headrace.errors import DefinitionError
from headrace.models.model_events import ServiceRef
from headrace.serving.answerer import model_frame
from headrace.serving.features import FeatureVectors, ViewAnswer

service = ServiceRef(
    name="delay", hash="0", views=[], columns=["v__n_1h"], request_features=["hour", "distance"], key="id", at="at"
)


def found(rows: int) -> FeatureVectors:
    nothing = np.zeros(rows)
    answer = ViewAnswer("v", "0", ["v__n_1h"], [(nothing, nothing == 0)], [], nothing, [])
    return FeatureVectors(rows, utc_datetime(0), [answer])


def test_the_columns_are_the_features_then_the_request_features() -> None:
    frame = model_frame(service, [{"distance": 5, "hour": None, "id": 1, "more": 2}], found(1))
    assert list(frame.columns) == ["v__n_1h", "hour", "distance"]
    assert frame["distance"].tolist() == [5]


def test_a_request_that_lacks_fields_is_refused_by_name() -> None:
    whole = {"id": 1, "hour": 3, "distance": 5}
    with pytest.raises(DefinitionError) as caught:
        model_frame(service, [whole, {"id": 2, "hour": 3}], found(2))
    message = str(caught.value)
    assert "request 1 of 2 lacks ['distance']" in message
    assert "'delay' wants the key and the request features ['id', 'hour', 'distance']" in message
    assert "the request has ['hour', 'id']" in message


def test_a_request_without_the_key_is_refused_before_anything_is_logged() -> None:
    with pytest.raises(DefinitionError, match=r"lacks \['id'\]"):
        model_frame(service, [{"hour": 3, "distance": 5}], found(1))
