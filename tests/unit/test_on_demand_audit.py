"""Audit and skew of on-demand features: the same value at the same inputs, to the bit, whatever sums may differ by."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from headrace.base.times import utc_datetime
from headrace.features.definitions.aggregates import Count, Mean
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.functions import now
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.kernel.on_demand import on_demand
from headrace.streams.worker import publish_definitions
from headrace.trainers.audit.compare import ServedVectorRows, audit, skew
from tests.support.audit_scene import MINUTE, START, START_US, AuditScene, sales

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NOW = FeatureView("now", Entity("shop"), sales, ["1h"], {"n": Count(), "mean": Mean("amount")})
PAST = FeatureView("past", Entity("shop"), sales, ["1h"], {"n": Count()}, history="4m")
basket = FeatureService(
    "basket",
    [NOW, PAST],
    on_demand={
        "scaled": col("now__mean_1h") * 1e9,
        "is_new": (col("asked_at").minute() > 20) & (col("now__n_1h") > 0),
        "each": col("past__n_1h") - col("pieces"),
        "is_odd": col("coupon").is_in(["odd"]),
        "minute": now().minute(),
        "usual": col("amounts").list.mean() + now().seconds_since(col("asked_at")),
    },
    request={"asked_at": datetime, "pieces": int, "coupon": str | None, "amounts": list[float] | None},
)
REQUEST = {"pieces": 2**53 + 1, "coupon": None, "amounts": [1.5, None, 2.5]}


@pytest.fixture
def scene(tmp_path: Path) -> AuditScene:
    found = AuditScene(tmp_path, "wall")
    publish_definitions(found.store, [], [basket])
    found.vectors = []
    for minute in (12, 12, 30, 7):
        serve(found, minute)
    return found


def serve(scene: AuditScene, minute: int) -> None:
    """One more vector, as an application logs it."""
    at = START + timedelta(minutes=minute)
    request = {"shop": "a", "asked_at": at.isoformat(), **REQUEST}
    found = scene.client.get("basket", request, as_of=utc_datetime(START_US + minute * MINUTE))
    scene.vectors.append(
        {
            "key": "a",
            "served_at": at,
            "request": json.dumps(request),
            "values": [None if value is None else float(value) for value in found.to_lists()[0]],
            "statuses": json.dumps(found.statuses()),
            "offsets": json.dumps(found.offsets()),
        }
    )


def served(scene: AuditScene, **changes: Any) -> ServedVectorRows:
    return ServedVectorRows(scene.specs, scene.history, scene.frame(**changes), on_demand(basket.spec.on_demand))


def values(scene: AuditScene, **changes: float | None) -> list[float | None]:
    """Those of the last vector, some changed."""
    return list((dict(zip(basket.columns(), scene.vectors[-1]["values"], strict=True)) | changes).values())


def test_rightly_served_on_demand_values_match(scene: AuditScene) -> None:
    found = audit(served(scene))
    assert (found.checked, found.different, found.by_column) == (4, 0, {})
    assert {vector["values"][4] for vector in scene.vectors} == {0.0, 1.0}
    assert len({vector["values"][7] for vector in scene.vectors}) == 3, "now() is the time of each look-up"
    assert {vector["values"][8] for vector in scene.vectors} == {2.0}
    assert any(vector["values"][3] is None for vector in scene.vectors), "a view was out of range"


@pytest.mark.parametrize(
    "change", [{"is_new": 0.0}, {"scaled": 1.0}, {"each": None}, {"is_odd": 0.0}, {"minute": 7.5}, {"usual": None}]
)
def test_an_on_demand_value_that_disagrees_with_its_inputs_is_a_mismatch(
    scene: AuditScene, change: Mapping[str, float | None]
) -> None:
    serve(scene, 30)
    found = audit(served(scene, values=values(scene, **change)))
    assert (found.different, found.by_column) == (1, dict.fromkeys(change, 1))
    (example,) = found.examples
    assert list(example["values"]) == list(change)


def test_a_sum_within_its_bound_is_used_as_served(scene: AuditScene) -> None:
    serve(scene, 30)
    near = np.nextafter(scene.vectors[-1]["values"][1], np.inf)
    assert audit(served(scene, values=values(scene, now__mean_1h=near, scaled=near * 1e9))).different == 0
    assert audit(served(scene, values=values(scene, now__mean_1h=near))).by_column == {"scaled": 1}


def test_a_wrong_input_makes_its_on_demand_features_mismatch(scene: AuditScene) -> None:
    serve(scene, 30)
    found = audit(served(scene, values=values(scene, now__mean_1h=0.0, scaled=0.0)))
    assert found.by_column == {"now__mean_1h": 1, "scaled": 1}


def test_skew_compares_with_what_a_training_set_would_have(scene: AuditScene) -> None:
    serve(scene, 30)
    seen = json.loads(scene.vectors[-1]["offsets"])
    early = json.dumps({view: dict.fromkeys(offsets, 0) for view, offsets in seen.items()})
    lagged = served(
        scene, offsets=early, values=[0.0, None, 0.0, None, 0.0, -float(2**53), None, *scene.vectors[-1]["values"][7:]]
    )
    assert audit(lagged).different == 0
    found = skew(lagged.only(np.arange(5) == 4))
    assert (found.checked, found.different) == (1, 1)
    assert found.by_column == {"now__n_1h": 1, "now__mean_1h": 1, "past__n_1h": 1, "scaled": 1, "is_new": 1, "each": 1}
