"""The bounds within which two correct answers may differ: a sum of doubles depends on the order of its terms.

Equal means within 1e-9·Σ|x| for a sum, within that over n for a mean, within 1e-9·Σx²/n for a variance, and exactly for
everything else. The x of a vector is its largest number, without its sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np
from msgspec import UNSET

from headrace.features.definitions.expression import Expression
from headrace.features.definitions.feature_spec import (
    CountSpec,
    DecayedSumSpec,
    MeanSpec,
    StdSpec,
    SumBySpec,
    SumSpec,
    VarianceSpec,
)
from headrace.features.definitions.functions import max_of
from headrace.features.definitions.vectors import is_of_vectors
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.view_history import PointInTimeQueries
from headrace.trainers.audit.shape_bounds import TOLERANCE, shape_bound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from headrace.bus.source_partition import SourcePartition
    from headrace.features.definitions.feature_spec import AnyFeatureSpec, FeatureSpec
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.offline.feature_history import FeatureHistory


def bounding_spec(spec: ViewSpec) -> ViewSpec | None:
    """Return a view of the magnitudes in each sum of another view; None if that has no sums of doubles.

    A feature ``x`` becomes ``x_up`` and ``x_down``, the sums of its values above 0 and below 0, ``x_squares`` and
    ``x_rows``.
    """
    if spec.roles is not UNSET:  # a row that takes another one back adds to the magnitudes as well
        roles = tuple(msgspec.structs.replace(role, takes_back=UNSET) for role in spec.roles)
        spec = msgspec.structs.replace(spec, roles=roles)
    features = [part for feature in _plain(spec) if is_bounded(spec, feature) for part in _parts(spec, feature)]
    return msgspec.structs.replace(spec, name=f"{spec.name}_bounds", features=tuple(features)) if features else None


def _plain(spec: ViewSpec) -> list[FeatureSpec]:
    """The features of a view, with the sum of each category as one of its own."""
    return [
        one for feature in spec.features for one in (feature.plain if isinstance(feature, SumBySpec) else [feature])
    ]


def is_bounded(spec: ViewSpec, feature: FeatureSpec) -> bool:
    """Return whether a feature is a sum of doubles, or made of one."""
    if is_of_vectors(feature):
        return isinstance(feature, SumSpec | MeanSpec)
    if shape_bound(feature) is not None or isinstance(feature, MeanSpec | VarianceSpec | StdSpec | DecayedSumSpec):
        return True
    return isinstance(feature, SumSpec) and spec.kind_of(feature.value) == "float"


def _parts(spec: ViewSpec, feature: FeatureSpec) -> list[AnyFeatureSpec]:
    of_shape = shape_bound(feature)
    if of_shape is not None:
        named = of_shape.parts(spec, feature).items()
        return [cast("AnyFeatureSpec", msgspec.structs.replace(p, name=f"{feature.name}_{name}")) for name, p in named]
    value = Expression(feature.value)
    if is_of_vectors(feature):  # of each vector its largest number, which none of the others is beyond
        value = max_of(value.list.max(), -value.list.min())
    rows = CountSpec(name=f"{feature.name}_rows", value=feature.value, where=feature.where)
    kind = spec.kind_of(feature.value)
    if kind == "bool" or is_of_vectors(feature):  # never below 0
        return [_total(feature, "up", value), rows]
    double = value if kind == "float" else value / 1.0  # a square of whole numbers would run over
    squares = SumSpec(name=f"{feature.name}_squares", value=(double * double).tree, where=feature.where)
    return [_total(feature, "up", value, value >= 0), _total(feature, "down", -value, value < 0), squares, rows]


def _total(
    feature: FeatureSpec, part: str, value: Expression, only: Expression | None = None
) -> SumSpec | DecayedSumSpec:
    """The same sum as the feature's, of another value; of the feature's rows only those on which ``only`` is true."""
    name, where = f"{feature.name}_{part}", feature.where
    if only is not None:
        where = only.tree if where is None else (Expression(where) & only).tree
    if isinstance(feature, DecayedSumSpec):
        return DecayedSumSpec(name=name, value=value.tree, where=where, half_life_us=feature.half_life_us)
    return SumSpec(name=name, value=value.tree, where=where)


def tolerances(
    spec: ViewSpec, history: FeatureHistory, keys: pl.DataFrame, at_us: np.ndarray, offsets: np.ndarray
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
        name.removeprefix(f"{bounding.name}__"): values
        for name, (values, _) in zip(
            kernel(bounding).columns, index.values(PointInTimeQueries(keys, at_us, offsets, sources)), strict=True
        )
    }
    return {
        f"{spec.name}__{feature.name}_{window.name}": _bound(feature, window.name, found)
        for feature in _plain(spec)
        if is_bounded(spec, feature)
        for window in spec.windows
    }


def _bound(feature: FeatureSpec, window: str, found: Mapping[str, np.ndarray]) -> np.ndarray:
    of_shape = shape_bound(feature)
    if of_shape is not None:
        begin, end = f"{feature.name}_", f"_{window}"
        own = {n[len(begin) : -len(end)]: v for n, v in found.items() if n.startswith(begin) and n.endswith(end)}
        return of_shape.bound(feature, own)
    nothing = np.zeros(1)
    up, down, squares, rows = (
        found.get(f"{feature.name}_{part}_{window}", nothing) for part in ("up", "down", "squares", "rows")
    )
    within: np.ndarray = TOLERANCE * np.abs(np.add(up, down, dtype=float))
    if isinstance(feature, VarianceSpec | StdSpec):
        within = TOLERANCE * np.where(np.any(squares), squares, up).astype(float)
    return within if isinstance(feature, SumSpec | DecayedSumSpec) else within / np.maximum(rows, 1)
