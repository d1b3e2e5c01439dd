"""The components that each aggregate keeps in a tile, and the computation of its columns from them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headrace.features.definitions.decimals import places_of
from headrace.features.definitions.expression_kinds import is_decimal
from headrace.features.definitions.feature_spec import (
    AgeSpec,
    ApproxDistinctSpec,
    CountSpec,
    DecayedSumSpec,
    GapSpec,
    HistogramSpec,
    LastNSpec,
    MaxSpec,
    MeanSpec,
    MinSpec,
    QuantileSpec,
    SinceSpec,
    StdSpec,
    SumSpec,
    VarianceSpec,
)
from headrace.features.definitions.spec import result_kind
from headrace.features.kernel.recency import gap_last, gap_mean, since
from headrace.features.kernel.sketches import MILLION
from headrace.features.kernel.states import FOREVER, NEVER, Component, DecayedState, StateColumns, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.features.definitions.expression_tree import ExpressionTree
    from headrace.features.definitions.feature_spec import FeatureSpec

_DTYPES = {"int": "<i8", "bool": "<i8", "float": "<f8", "datetime": "<i8", "str": "text"}
_IN_TILES_AS_NUMBERS = {"bool": "bool", "datetime": "datetime64[us]", "date": "datetime64[D]"}
EXACT_OF_DECIMALS = frozenset(
    {"count", "sum", "mean", "min", "max", "first", "last", "last_n", "row_value", "approx_distinct"}
)
"""The aggregates that take a decimal as the number of its units. The others take it as a double."""
_LARGEST_EXACT = 2**53
_IN_TOLERANCE = frozenset({"sum", "mean", "variance", "std", "decayed_sum"})


@dataclass(frozen=True)
class OutputColumn:
    """One column of a feature, without its window, and the components that it is computed from.

    ``item`` tells the columns of one feature apart: a bucket, a place from the newest, or a quantile in millionths.
    ``places`` are those of a decimal, whose state has whole numbers of its smallest unit. ``of_sums``: a variance is
    made of a count, a sum and a sum of squares.
    """

    feature: str
    kind: str
    result: str  # int float bool str datetime date
    components: tuple[int, ...]
    item: int = 0
    half_life_us: int = 0
    places: int | None = None
    of_sums: bool = False

    @property
    def exact(self) -> bool:
        """True if two answers at the same V and t are equal to the bit, False if they are equal within a tolerance."""
        return self.kind not in _IN_TOLERANCE


@dataclass(frozen=True)
class TypedValue:
    """The value of a feature over the stream's fields, its kind, and whether it may be null.

    ``takes_back``: rows of the view may take earlier ones back, so that every state is a sum.
    """

    value: ExpressionTree
    kind: str
    nullable: bool
    takes_back: bool = False


def compile_feature(feature: FeatureSpec, shape: TypedValue, index: Callable[[Component], int]) -> list[OutputColumn]:
    """Return the output columns of one feature; ``index`` gives the place of each component that they read."""
    half_life_us = feature.half_life_us if isinstance(feature, DecayedSumSpec) else 0
    result = result_kind(feature.aggregate, shape.kind)
    places = places_of(shape.kind) if is_decimal(shape.kind) and result == "float" else None
    return [
        OutputColumn(
            name,
            f"gap_{feature.of}" if isinstance(feature, GapSpec) else feature.aggregate,
            result,
            tuple(map(index, part.components)),
            part.item,
            half_life_us,
            places,
            shape.takes_back and isinstance(feature, VarianceSpec | StdSpec),
        )
        for name, part in zip(feature.columns, _parts(feature, shape), strict=True)
    ]


class _Part(NamedTuple):
    """One column of a feature: which item it is, and the components that it is computed from."""

    item: int
    components: Sequence[Component]


def _parts(feature: FeatureSpec, shape: TypedValue) -> Sequence[_Part]:
    count = Component("count", "add", "<i8", shape.value if shape.nullable else None, feature.where)
    own = Component("value", feature.aggregate, _DTYPES.get(shape.kind, "<i8"), shape.value, feature.where)
    match feature:
        case LastNSpec(n=n):
            return [_Part(item, [replace(own, op="newest", argument=n)]) for item in range(n)]
        case QuantileSpec(bits=bits):
            buckets = replace(own, op="buckets", dtype="<f8", argument=bits)
            return [_Part(round(q * MILLION), [buckets]) for q in feature.quantiles]
        case HistogramSpec(edges=edges):
            bounds = itertools.pairwise([None, *edges, None])
            return [
                _Part(bucket, [Component("count", "add", "<i8", own.value, own.where, low, high)])
                for bucket, (low, high) in enumerate(bounds)
            ]
    if shape.takes_back and isinstance(feature, VarianceSpec | StdSpec):
        return [_Part(0, [count, replace(own, op="add", dtype="<f8"), _squares(own, shape.kind)])]
    if isinstance(feature, SinceSpec | AgeSpec | GapSpec):
        return [_Part(0, _times(feature, count))]
    return [_Part(0, _components(feature, own, count, shape.kind))]


def _times(feature: SinceSpec | AgeSpec | GapSpec, count: Component) -> Sequence[Component]:
    """The components of a feature of the times of the rows that ``count`` counts."""
    newest, first = (replace(count, measure="time", op=op) for op in ("max", "min"))
    match feature:
        case SinceSpec():
            return [newest]
        case AgeSpec():
            return [first]
        case GapSpec(of="last"):
            return [replace(newest, op="two_newest")]
    return [newest, first, count]


def _components(feature: FeatureSpec, own: Component, count: Component, kind: str) -> Sequence[Component]:
    """The components of a feature that has one column."""
    match feature:
        case CountSpec():
            read = [count]
        case SumSpec():
            read = [replace(own, op="add")]
            read += [replace(own, op="add", dtype="<f8")] if is_decimal(kind) else []
        case MeanSpec():
            read = [replace(own, op="add", dtype="<f8"), count]
        case MinSpec() | MaxSpec():
            read = [own, count]
        case VarianceSpec() | StdSpec():
            read = [replace(own, op="moments", dtype="<f8")]
        case DecayedSumSpec(half_life_us=half_life_us):
            read = [replace(own, op="decayed", dtype="<f8", argument=half_life_us)]
        case ApproxDistinctSpec(precision=precision):
            read = [replace(own, op="registers", argument=precision)]
        case _:  # the first and the last value
            read = [own]
    return read


def _squares(own: Component, kind: str) -> Component:
    """The sum of the squares of a value. The square of a bool is the bool."""
    double = ["div", own.value, ["lit", 1.0]]
    return replace(own, op="add", dtype="<f8", value=own.value if kind == "bool" else ["mul", double, double])


def finish(output: OutputColumn, columns: StateColumns, at_us: np.ndarray) -> Values:
    """Return the values of an output over merged states at t, from the physical columns of its components."""
    if output.kind == "sum" and output.places is not None:
        return _decimal_sum(output.places, *columns)
    if output.of_sums:
        return _variance_of_sums(output, columns)
    values, there = _FINISH[output.kind](output, columns, at_us)
    return typed(output, values), there


def _decimal_sum(places: int, units: np.ndarray, about: np.ndarray) -> Values:
    """Return exact sums: the units wrap at 64 bits, and the sum in doubles says how often they did."""
    found, wraps = _doubles(units, places), np.rint((about - units) / 2.0**64)
    for place in np.flatnonzero(wraps).tolist():
        found[place] = (int(units[place]) + (int(wraps[place]) << 64)) / 10**places
    return found, np.ones(len(found), bool)


def _plain(_: OutputColumn, columns: StateColumns, __: np.ndarray) -> Values:
    return columns[0], np.isfinite(columns[0])  # a sum beyond the largest double is not known


def _mean(_: OutputColumn, columns: StateColumns, __: np.ndarray) -> Values:
    there = (columns[1] > 0) & np.isfinite(columns[0])
    return np.divide(columns[0], columns[1], out=np.zeros(len(there)), where=there), there


def _extreme(_: OutputColumn, columns: StateColumns, __: np.ndarray) -> Values:
    there = columns[1] > 0
    return np.where(there, columns[0], 0), there


def _one(output: OutputColumn, columns: StateColumns, _: np.ndarray) -> Values:
    time, __, value = columns
    return value, time != (FOREVER if output.kind == "first" else NEVER)


def _row_value(_: OutputColumn, columns: StateColumns, __: np.ndarray) -> Values:
    _time, _offset, has_value, value = columns
    return value, has_value > 0


def _variance(output: OutputColumn, columns: StateColumns, _: np.ndarray) -> Values:
    count, __, squares = columns
    there = (count > 0) & np.isfinite(squares)
    variance = np.divide(squares, count, out=np.zeros(len(there)), where=there)
    return np.sqrt(variance) if output.kind == "std" else variance, there


def _variance_of_sums(output: OutputColumn, columns: StateColumns) -> Values:
    """Return variances of rows that other rows may have taken back: exact only within 1e-9 of the squares."""
    count, total, squares = columns
    there = (count > 0) & np.isfinite(squares) & np.isfinite(total)
    of = np.where(there, count, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.where(there, np.maximum(squares / of - (total / of) ** 2, 0.0), 0.0)
    return np.sqrt(variance) if output.kind == "std" else variance, there


def _decayed(output: OutputColumn, columns: StateColumns, at_us: np.ndarray) -> Values:
    time, total = columns
    return DecayedState(output.half_life_us).aged(total, time, at_us), np.isfinite(total)


def typed(output: OutputColumn, values: np.ndarray) -> np.ndarray:
    """Return values in the type of the output.

    A tile holds a bool as a number, a time in microseconds, a date in days, and a decimal in its units.
    """
    if output.places is not None:
        return _doubles(values, output.places)
    dtype = _IN_TILES_AS_NUMBERS.get(output.result)
    return values if dtype is None else values.astype(dtype)


def _doubles(units: np.ndarray, places: int) -> np.ndarray:
    """Return the double that is nearest to each number of units."""
    found: np.ndarray = units / 10.0**places
    if units.dtype.kind == "i":
        large = np.flatnonzero((units > _LARGEST_EXACT) | (units < -_LARGEST_EXACT))
        found[large] = [unit / 10**places for unit in units[large].tolist()]  # numpy would round twice
    return found


_FINISH: dict[str, Callable[[OutputColumn, StateColumns, np.ndarray], Values]] = {
    "count": _plain,
    "histogram": _plain,
    "sum": _plain,
    "mean": _mean,
    "min": _extreme,
    "max": _extreme,
    "first": _one,
    "last": _one,
    "row_value": _row_value,
    "variance": _variance,
    "std": _variance,
    "decayed_sum": _decayed,
    "since": lambda _, columns, at_us: since(columns, at_us),
    "age": lambda _, columns, at_us: since(columns, at_us),
    "gap_mean": lambda _, columns, __: gap_mean(columns),
    "gap_last": lambda _, columns, __: gap_last(columns),
}
