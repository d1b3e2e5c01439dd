"""The components that each aggregate keeps in a tile: those of each of its columns."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.features.definitions.expression_kinds import is_decimal
from headrace.features.definitions.feature_spec import (
    AgeSpec,
    ApproxDistinctSpec,
    CorrelationSpec,
    CountBySpec,
    CountSpec,
    DecayedMeanSpec,
    DecayedSumSpec,
    EntropySpec,
    FeatureSpec,
    GapSpec,
    HistogramSpec,
    KurtosisSpec,
    LastNSpec,
    MaxSpec,
    MeanSpec,
    MinSpec,
    ModeSpec,
    QuantileSpec,
    RatioSpec,
    SinceSpec,
    SkewSpec,
    StdSpec,
    SumBySpec,
    SumSpec,
    TopKSpec,
    TopShareSpec,
    TrendSpec,
    UniqueListSpec,
    VarianceSpec,
)
from headrace.features.definitions.vectors import is_of_vectors
from headrace.features.kernel.category_sketch import ENTROPY
from headrace.features.kernel.sketches import MILLION
from headrace.features.kernel.states import Component
from headrace.features.kernel.vector_sketch import MEAN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.features.definitions.expression_tree import ExpressionTree

_DTYPES = {"int": "<i8", "bool": "<i8", "float": "<f8", "datetime": "<i8", "str": "text"}


@dataclass(frozen=True)
class TypedValue:
    """The value of a feature over the stream's fields, its kind, and whether it may be null.

    ``takes_back``: rows of the view may take earlier ones back, so that every state is a sum. ``others`` are the
    further values of a feature that has several.
    """

    value: ExpressionTree
    kind: str
    nullable: bool
    takes_back: bool = False
    others: tuple[TypedValue, ...] = ()

    def count(self, where: ExpressionTree) -> Component:
        """Return the number of rows in which the value is not null."""
        return Component("count", "add", "<i8", self.value if self.nullable else None, where)

    def total(self, where: ExpressionTree) -> Component:
        """Return the sum of the value in doubles."""
        return Component("value", "add", "<f8", self.value, where)


class FeaturePart(NamedTuple):
    """One column of a feature: which item it is, and the components that it is computed from."""

    item: int
    components: Sequence[Component]


def parts_of(feature: FeatureSpec, shape: TypedValue) -> Sequence[FeaturePart]:
    """Return the parts of a feature, one for each of its columns."""
    own = Component("value", feature.aggregate, _DTYPES.get(shape.kind, "<i8"), shape.value, feature.where)
    if is_of_vectors(feature):
        return _of_vectors(feature, own)
    if type(feature) in _PARTS:
        return _PARTS[type(feature)](feature, shape, own)
    of_type = _COMPONENTS.get(type(feature))
    return [FeaturePart(0, [own] if of_type is None else of_type(feature, shape, own))]


def _of_vectors(feature: FeatureSpec, own: Component) -> list[FeaturePart]:
    vectors = replace(own, dtype="vector", argument=feature.dim)  # type: ignore[attr-defined] # a vector has it
    if isinstance(feature, SumSpec | MeanSpec):
        return [FeaturePart(MEAN if isinstance(feature, MeanSpec) else 0, [replace(vectors, op="add")])]
    return [FeaturePart(0, [vectors])]


def _last_n(feature: LastNSpec, _: TypedValue, own: Component) -> list[FeaturePart]:
    columns = len(feature.columns)  # one, if it is a list
    return [FeaturePart(item, [replace(own, op="newest", argument=feature.n)]) for item in range(columns)]


def _quantiles(feature: QuantileSpec, _: TypedValue, own: Component) -> list[FeaturePart]:
    buckets = replace(own, op="buckets", dtype="<f8", argument=feature.bits)
    return [FeaturePart(round(q * MILLION), [buckets]) for q in feature.quantiles]


def _histogram(feature: HistogramSpec, _: TypedValue, own: Component) -> list[FeaturePart]:
    bounds = itertools.pairwise([None, *feature.edges, None])
    return [
        FeaturePart(bucket, [Component("count", "add", "<i8", own.value, own.where, low, high)])
        for bucket, (low, high) in enumerate(bounds)
    ]


def _by_category(feature: CountBySpec | SumBySpec, shape: TypedValue, _: Component) -> list[FeaturePart]:
    return [part for plain in feature.plain for part in parts_of(plain, _uncounted(plain, shape))]


def _categories(own: Component, capacity: int) -> Component:
    return replace(own, op="categories", argument=capacity)


def _uncounted(plain: CountSpec | SumSpec, shape: TypedValue) -> TypedValue:
    """The value that a feature of one category measures: a count measures none, as its filter is null for no value."""
    return replace(shape, value=None, nullable=False) if isinstance(plain, CountSpec) else shape


def _sum(_: SumSpec, shape: TypedValue, own: Component) -> list[Component]:
    plain = replace(own, op="add")
    return [plain, replace(plain, dtype="<f8")] if is_decimal(shape.kind) else [plain]


def _spread(feature: VarianceSpec | StdSpec, shape: TypedValue, own: Component) -> list[Component]:
    if shape.takes_back:
        return [shape.count(feature.where), shape.total(feature.where), _squares(own, shape.kind)]
    return [replace(own, op="moments", dtype="<f8")]


def _squares(own: Component, kind: str) -> Component:
    """The sum of the squares of a value. The square of a bool is the bool."""
    double = ["div", own.value, ["lit", 1.0]]
    return replace(own, op="add", dtype="<f8", value=own.value if kind == "bool" else ["mul", double, double])


def _ratio(feature: RatioSpec, shape: TypedValue, _: Component) -> list[Component]:
    """Part and whole, and the rows of a whole that is a sum."""
    read = []
    for side, of in ((feature.numerator, shape), (feature.denominator, shape.others[0])):
        read.append(of.count(side.where) if isinstance(side, CountSpec) else of.total(side.where))
    rows = [shape.others[0].count(feature.denominator.where)] if isinstance(feature.denominator, SumSpec) else []
    return read + rows


def _time(feature: SinceSpec | AgeSpec, shape: TypedValue, _: Component) -> list[Component]:
    of = "max" if isinstance(feature, SinceSpec) else "min"
    return [replace(shape.count(feature.where), measure="time", op=of)]


def _gap(feature: GapSpec, shape: TypedValue, _: Component) -> list[Component]:
    count = shape.count(feature.where)
    if feature.of == "last":
        return [replace(count, measure="time", op="two_newest")]
    return [*(replace(count, measure="time", op=op) for op in ("max", "min")), count]


def _in_doubles(_: FeatureSpec, __: TypedValue, own: Component) -> list[Component]:
    return [replace(own, dtype="<f8")]


def _decayed(feature: DecayedSumSpec | DecayedMeanSpec, _: TypedValue, own: Component) -> list[Component]:
    op = "decayed" if isinstance(feature, DecayedSumSpec) else own.op
    return [replace(own, op=op, dtype="<f8", argument=feature.half_life_us)]


_PARTS: dict[type[FeatureSpec], Callable[[Any, TypedValue, Component], list[FeaturePart]]] = {
    LastNSpec: _last_n,
    QuantileSpec: _quantiles,
    HistogramSpec: _histogram,
    CountBySpec: _by_category,
    SumBySpec: _by_category,
    TopKSpec: lambda f, _, own: [FeaturePart(place, [_categories(own, f.capacity)]) for place in range(f.n)],
    ModeSpec: lambda f, _, own: [FeaturePart(0, [_categories(own, f.capacity)])],
    TopShareSpec: lambda f, _, own: [FeaturePart(-f.n, [_categories(own, f.capacity)])],
    UniqueListSpec: lambda f, _, own: [FeaturePart(0, [replace(own, op="unique", argument=f.n)])],
    EntropySpec: lambda f, _, own: [FeaturePart(ENTROPY, [_categories(own, f.capacity)])],
}
"""The parts of features with several columns, or with one of the items of a sketch."""
_COMPONENTS: dict[type[FeatureSpec], Callable[[Any, TypedValue, Component], list[Component]]] = {
    CountSpec: lambda feature, shape, _: [shape.count(feature.where)],
    SumSpec: _sum,
    MeanSpec: lambda feature, shape, _: [shape.total(feature.where), shape.count(feature.where)],
    MinSpec: lambda feature, shape, own: [own, shape.count(feature.where)],
    MaxSpec: lambda feature, shape, own: [own, shape.count(feature.where)],
    VarianceSpec: _spread,
    StdSpec: _spread,
    DecayedSumSpec: _decayed,
    DecayedMeanSpec: _decayed,
    ApproxDistinctSpec: lambda feature, _, own: [replace(own, op="registers", argument=feature.precision)],
    SinceSpec: _time,
    AgeSpec: _time,
    GapSpec: _gap,
    RatioSpec: _ratio,
    SkewSpec: _in_doubles,
    KurtosisSpec: _in_doubles,
    TrendSpec: _in_doubles,
    CorrelationSpec: lambda _, shape, own: [replace(own, dtype="<f8", other=shape.others[0].value)],
}
"""The components of a feature that has one column. The first and the last value have only their own."""
