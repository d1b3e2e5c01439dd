"""On-demand features: a look-up's numpy, a training set's Polars and a plain loop give the same at the same inputs."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from headrace.base.times import epoch_us
from headrace.features.definitions.expression_kinds import kind
from headrace.features.definitions.expression_tree import NOW
from headrace.features.definitions.service_spec import OnDemandFeature, OnDemandSpec, RequestField
from headrace.features.kernel.on_demand import OnDemandFeatures
from headrace.features.kernel.on_demand_polars import on_demand_columns
from tests.support.example_budget import examples
from tests.support.random_expressions import KINDS, TYPES, boolean, compare, numeric, plain, scalars, textual

LOOKED_UP = ["i", "f", "b"]
"""Columns of views; the others are values of the request."""
REQUEST = tuple(
    RequestField(
        name=name,
        kind=cast("Any", of.removeprefix("list(").rstrip(")")),
        nullable=True,
        many=of.startswith("list(") or UNSET,
    )
    for name, of in KINDS.items()
    if name not in [*LOOKED_UP, NOW]
)
NUMPY: dict[str, Any] = {"int": np.int64, "float": np.float64, "bool": bool}
broken = st.sampled_from([math.nan, math.inf, -math.inf])
BROKEN = {"float": broken, "list(float)": st.lists(broken | scalars["float"], max_size=3)}
AT = datetime(2026, 11, 30, 12, 0, 0, 7, tzinfo=UTC)
rows_strategy = st.lists(
    st.fixed_dictionaries(
        {name: st.none() | scalars[of] | BROKEN.get(of, st.none()) for name, of in KINDS.items() if name != NOW}
    ),
    max_size=6,
)


def naive(features: list[OnDemandFeature], row: dict[str, Any]) -> list[Any]:
    """What the documentation says: a number that is not finite is missing, and a feature may read those before it."""
    seen = {name: finite(value) for name, value in row.items()} | {NOW: AT}
    for feature in features:
        seen[feature.name] = plain(feature.value, seen)
    return [seen[feature.name] for feature in features]


def finite(value: Any) -> Any:
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def looked_up(rows: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    values = [row[name] for row in rows]
    present = np.array([value is not None for value in values], bool)
    return np.array([value or 0 for value in values], NUMPY[KINDS[name]]), present


def in_numpy(of: OnDemandFeatures, rows: list[dict[str, Any]]) -> list[list[Any]]:
    given_ = of.given(rows)
    columns = of.values({name: looked_up(rows, name) for name in LOOKED_UP}, given_, len(rows), epoch_us(AT))
    lists = [
        [v if there else None for v, there in zip(*map(np.ndarray.tolist, column), strict=True)] for column in columns
    ]
    return [list(row) for row in zip(*lists, strict=True)]


@settings(max_examples=examples(400), deadline=None)
@given(numeric, boolean, textual, compare, rows_strategy)
def test_numpy_polars_and_a_plain_loop_agree_on_on_demand_features(
    number: Any, truth: Any, text: Any, step: str, rows: list[dict[str, Any]]
) -> None:
    trees = {
        "one": number,
        "two": truth,
        "text": text,
        "three": ["and", ["col", "two"], [step, ["col", "one"], ["col", "g"]]],
    }
    kinds = dict(KINDS)
    features = []
    for name, tree in trees.items():
        kinds[name] = kind(tree, kinds)
        features.append(OnDemandFeature(name=name, kind=cast("Any", kinds[name]), value=tree))
    of = OnDemandFeatures(OnDemandSpec(request=REQUEST, features=tuple(features)))
    wanted = [naive(features, row) for row in rows]
    frame = pl.DataFrame(rows, schema={name: TYPES[kind_] for name, kind_ in KINDS.items() if name != NOW})
    found = on_demand_columns(of, frame.select(LOOKED_UP), frame.drop(LOOKED_UP), [epoch_us(AT)] * len(rows))
    assert found.rows() == [tuple(row) for row in wanted], ("polars", trees)
    assert found.schema == {name: TYPES[kinds[name]] for name in trees}
    assert in_numpy(of, rows) == wanted, ("numpy", trees)
