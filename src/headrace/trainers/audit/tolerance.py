"""How far two right answers may differ, because a sum of doubles depends on the order of its terms.

Equal means within 1e-9·Σ|x| for a sum, within that over n for a mean, within 1e-9·Σx²/n for a variance, and exactly for
everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.features.definitions.expression import kind
from headrace.features.kernel.tile_kernel import inline, kernel
from headrace.features.offline.view_history import PointInTimeQueries, derived_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from headrace.bus.source_partition import SourcePartition
    from headrace.features.offline.feature_history import FeatureHistory

TOLERANCE = 1e-9
JsonValue = Any


def bounding_spec(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a view of the magnitudes in each sum of another view; None if that has no sums of doubles.

    A feature ``x`` becomes ``x_up`` and ``x_down`` (the sums of positive and negative values), ``x_squares`` and
    ``x_rows``.
    """
    features = [part for feature in spec["features"] if is_bounded(spec, feature) for part in _parts(spec, feature)]
    return {**spec, "view": f"{spec['view']}_bounds", "features": features} if features else None


def is_bounded(spec: Mapping[str, Any], feature: Mapping[str, Any]) -> bool:
    """Whether a feature is a sum of doubles, or computed from one."""
    doubles = feature["aggregate"] in {"mean", "variance", "std", "decayed_sum"}
    return doubles or (feature["aggregate"] == "sum" and _kind(spec, feature["value"]) == "float")


def _parts(spec: Mapping[str, Any], feature: Mapping[str, Any]) -> list[dict[str, Any]]:
    name, value, where = feature["name"], feature["value"], feature["where"]
    total = {"aggregate": "decayed_sum" if feature["aggregate"] == "decayed_sum" else "sum"}
    total |= {"half_life_us": feature["half_life_us"]} if "half_life_us" in feature else {}
    rows = {"name": f"{name}_rows", "aggregate": "count", "value": value, "where": where}
    if _kind(spec, value) == "bool":  # never below 0
        return [{**total, "name": f"{name}_up", "value": value, "where": where}, rows]
    return [
        {**total, "name": f"{name}_up", "value": value, "where": _and(where, ["ge", value, ["lit", 0]])},
        {**total, "name": f"{name}_down", "value": ["neg", value], "where": _and(where, ["lt", value, ["lit", 0]])},
        {"name": f"{name}_squares", "aggregate": "sum", "value": _square(spec, value), "where": where},
        rows,
    ]


def _square(spec: Mapping[str, Any], value: JsonValue) -> JsonValue:
    """The square as a double: whole numbers would overflow."""
    tree = value if _kind(spec, value) == "float" else ["div", value, ["lit", 1.0]]
    return ["mul", tree, tree]


def _and(where: JsonValue, condition: JsonValue) -> JsonValue:
    return condition if where is None else ["and", where, condition]


def _kind(spec: Mapping[str, Any], tree: JsonValue) -> str:
    kinds = {field["name"]: field["kind"] for field in spec["source"]["fields"] if not field["many"]}
    return kind(inline(tree, derived_columns(spec)), kinds)


def tolerances(
    spec: Mapping[str, Any], history: FeatureHistory, keys: pl.DataFrame, at_us: np.ndarray, offsets: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the tolerance of each column that has one, a row a query.

    The tolerance of a standard deviation is that of its square.
    """
    bounding = bounding_spec(spec)
    if bounding is None:
        return {}
    index = history.view(bounding)
    sources: Sequence[SourcePartition] = index.sources
    found = {
        name.removeprefix(f"{bounding['view']}__"): values
        for name, (values, _) in zip(
            kernel(bounding).columns, index.values(PointInTimeQueries(keys, at_us, offsets, sources)), strict=True
        )
    }
    return {
        f"{spec['view']}__{feature['name']}_{window['name']}": _bound(feature, window["name"], found)
        for feature in spec["features"]
        if is_bounded(spec, feature)
        for window in spec["windows"]
    }


def _bound(feature: Mapping[str, Any], window: str, found: Mapping[str, np.ndarray]) -> np.ndarray:
    nothing = np.zeros(1)
    up, down, squares, rows = (
        found.get(f"{feature['name']}_{part}_{window}", nothing) for part in ("up", "down", "squares", "rows")
    )
    within: np.ndarray = TOLERANCE * np.abs(np.add(up, down, dtype=float))
    if feature["aggregate"] in {"variance", "std"}:
        within = TOLERANCE * np.where(np.any(squares), squares, up).astype(float)
    return within if feature["aggregate"] in {"sum", "decayed_sum"} else within / np.maximum(rows, 1)
