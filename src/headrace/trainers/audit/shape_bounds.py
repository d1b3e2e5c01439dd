"""The bounds of features of shape: ratios, skewness, kurtosis, correlations, trends and decayed means.

Their sums are exact within 1e-9 of the magnitudes of their terms, as every sum is. How far this moves the feature
depends on what it divides by: ``parts`` are features that tell it, and ``bound`` is made of their values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.features.definitions.expression import Expression
from headrace.features.definitions.feature_spec import (
    CorrelationSpec,
    CountSpec,
    DecayedMeanSpec,
    EntropySpec,
    GapSpec,
    KurtosisSpec,
    MaxSpec,
    RatioSpec,
    SkewSpec,
    SumSpec,
    TrendSpec,
    VarianceSpec,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.features.definitions.expression_tree import ExpressionTree
    from headrace.features.definitions.feature_spec import FeatureSpec
    from headrace.features.definitions.view_spec import ViewSpec

TOLERANCE = 1e-9
_SECOND_US = 1_000_000
Found = dict[str, np.ndarray]
"""The values of a feature's parts, by their names without the feature's."""


@dataclass(frozen=True)
class ShapeBound:
    """How far two correct answers of a kind of feature may be apart."""

    parts: Callable[[ViewSpec, Any], Mapping[str, FeatureSpec]]
    bound: Callable[[Any, Found], np.ndarray]


def _double(spec: ViewSpec, value: ExpressionTree) -> Expression:
    of = Expression(value)
    return of if spec.kind_of(value) == "float" else of.cast(float)


def _squares(spec: ViewSpec, value: ExpressionTree, where: ExpressionTree) -> SumSpec:
    double = _double(spec, value)
    return SumSpec(value=(double * double).tree, where=where)


def _ratio_parts(spec: ViewSpec, feature: RatioSpec) -> Mapping[str, FeatureSpec]:
    found: dict[str, FeatureSpec] = {}
    for name, side in (("above", feature.numerator), ("below", feature.denominator)):
        found[name] = side
        if isinstance(side, SumSpec):
            found[f"{name}_size"] = SumSpec(value=abs(_double(spec, side.value)).tree, where=side.where)
    return found


def _ratio_bound(_: RatioSpec, found: Found) -> np.ndarray:
    part, whole = found["above"].astype(float), found["below"].astype(float)
    of_part, of_whole = (TOLERANCE * found.get(name, np.zeros(1)) for name in ("above_size", "below_size"))
    left = np.abs(whole) - of_whole
    there = left > 0  # else the whole may be 0 as well
    wide = of_part + np.abs(part / np.where(whole == 0, 1.0, whole)) * of_whole
    bound: np.ndarray = np.where(there, wide / np.where(there, left, 1.0), np.inf)
    return bound


def _moment_parts(spec: ViewSpec, feature: SkewSpec | KurtosisSpec) -> Mapping[str, FeatureSpec]:
    return {"it": feature, **_condition_parts(spec, feature.value, feature.where, "x")}


def _moment_bound(feature: SkewSpec | KurtosisSpec, found: Found) -> np.ndarray:
    plain = 1.0 if isinstance(feature, SkewSpec) else 3.0
    bound: np.ndarray = TOLERANCE * (plain + np.abs(found["it"])) * _condition(found, "x")
    return bound


def _correlation_parts(spec: ViewSpec, feature: CorrelationSpec) -> Mapping[str, FeatureSpec]:
    both = ~Expression(feature.value).is_null() & ~Expression(feature.paired).is_null()
    where = (both if feature.where is None else Expression(feature.where) & both).tree
    of_x, of_y = (_condition_parts(spec, v, where, name) for v, name in ((feature.value, "x"), (feature.paired, "y")))
    return {**of_x, **of_y}


def _condition_parts(
    spec: ViewSpec, value: ExpressionTree, where: ExpressionTree, name: str
) -> Mapping[str, FeatureSpec]:
    return {f"{name}_squares": _squares(spec, value, where), f"{name}_var": VarianceSpec(value=value, where=where)}


def _condition(found: Found, name: str) -> np.ndarray:
    """How much larger than their spread the values are: rounding errors grow by it."""
    variance = found[f"{name}_var"]
    there = variance > 0
    condition: np.ndarray = np.where(there, np.sqrt(found[f"{name}_squares"] / np.where(there, variance, 1.0)), 0.0)
    return condition


def _trend_parts(spec: ViewSpec, feature: TrendSpec) -> Mapping[str, FeatureSpec]:
    value, where = feature.value, feature.where
    return {
        "squares": _squares(spec, value, where),
        "rows": CountSpec(value=value, where=where),
        "gap": GapSpec(value=value, where=where, of="mean"),
    }


def _trend_bound(feature: TrendSpec, found: Found) -> np.ndarray:
    between = found["gap"] * np.maximum(found["rows"] - 1, 0) * _SECOND_US
    there = between > 0
    wide = np.sqrt(2 * found["rows"] * found["squares"]) * feature.per_us
    return np.where(there, TOLERANCE * wide / np.where(there, between, 1.0), 0.0)


_SHAPE_BOUNDS: dict[type[FeatureSpec], ShapeBound] = {
    RatioSpec: ShapeBound(_ratio_parts, _ratio_bound),
    SkewSpec: ShapeBound(_moment_parts, _moment_bound),
    KurtosisSpec: ShapeBound(_moment_parts, _moment_bound),
    CorrelationSpec: ShapeBound(
        _correlation_parts, lambda _, found: TOLERANCE * (_condition(found, "x") + _condition(found, "y"))
    ),
    TrendSpec: ShapeBound(_trend_parts, _trend_bound),
    EntropySpec: ShapeBound(
        lambda _, f: {"rows": CountSpec(value=f.value, where=f.where)},
        lambda f, found: TOLERANCE * np.log2(f.capacity + 1) * np.ones(len(found["rows"])),
    ),
    DecayedMeanSpec: ShapeBound(
        lambda spec, f: {"size": MaxSpec(value=abs(_double(spec, f.value)).tree, where=f.where)},
        lambda _, found: TOLERANCE * found["size"],
    ),
}


def shape_bound(feature: FeatureSpec) -> ShapeBound | None:
    """Return the bound of a feature of shape; None for every other feature."""
    return _SHAPE_BOUNDS.get(type(feature))
