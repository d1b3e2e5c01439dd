"""The components that each aggregate keeps in a tile, and the computation of its columns from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headrace.features.definitions.decimals import places_of
from headrace.features.definitions.expression_kinds import is_decimal
from headrace.features.definitions.feature_spec import DecayedSumSpec, GapSpec, StdSpec, TrendSpec, VarianceSpec
from headrace.features.kernel.feature_parts import TypedValue, parts_of
from headrace.features.kernel.recency import gap_last, gap_mean, since
from headrace.features.kernel.shape import correlation, decayed_mean, kurtosis, ratio, skew, trend
from headrace.features.kernel.states import FOREVER, NEVER, Component, DecayedState, StateColumns, Values

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.features.definitions.feature_spec import FeatureSpec

_IN_TILES_AS_NUMBERS = {"bool": "bool", "datetime": "datetime64[us]", "date": "datetime64[D]"}
EXACT_OF_DECIMALS = frozenset({
    "count", "count_by", "sum", "sum_by", "mean", "min", "max", "first", "last", "last_n", "unique_list",
    "row_value",
    "approx_distinct",
})  # fmt: skip
"""The aggregates that take a decimal as the number of its units. The others take it as a double."""
_LARGEST_EXACT = 2**53
_IN_TOLERANCE = frozenset({
    "sum", "mean", "variance", "std", "decayed_sum", "decayed_mean", "ratio", "skew", "kurtosis", "correlation",
    "trend", "entropy",
})  # fmt: skip


@dataclass(frozen=True)
class OutputColumn:
    """One column of a feature, without its window, and the components that it is computed from.

    ``item`` tells the columns of one feature apart: a bucket, a place from the newest, or a quantile in millionths.
    ``places`` are those of a decimal, whose state has whole numbers of its smallest unit. ``of_sums``: a variance is
    made of a count, a sum and a sum of squares.
    """

    feature: str
    kind: str
    result: str  # int float bool str datetime date, or a list of one of these
    components: tuple[int, ...]
    item: int = 0
    half_life_us: int = 0
    places: int | None = None
    of_sums: bool = False
    per_us: int = 0

    @property
    def is_list(self) -> bool:
        """True if a value is a list."""
        return self.result.startswith("list(")

    @property
    def exact(self) -> bool:
        """True if two answers at the same V and t are equal to the bit, False if they are equal within a tolerance."""
        return self.kind not in _IN_TOLERANCE


def _kind(feature: FeatureSpec) -> str:
    """The word for how a feature's columns are finished."""
    if isinstance(feature, GapSpec):
        return f"gap_{feature.of}"
    return {"count_by": "count", "sum_by": "sum"}.get(feature.aggregate, feature.aggregate)


def compile_feature(feature: FeatureSpec, shape: TypedValue, index: Callable[[Component], int]) -> list[OutputColumn]:
    """Return the output columns of one feature; ``index`` gives the place of each component that they read."""
    half_life_us = feature.half_life_us if isinstance(feature, DecayedSumSpec) else 0
    result = feature.result(shape.kind)
    places = places_of(shape.kind) if is_decimal(shape.kind) and result in {"float", "list(float)"} else None
    return [
        OutputColumn(
            name,
            _kind(feature),
            result,
            tuple(map(index, part.components)),
            part.item,
            half_life_us,
            places,
            shape.takes_back and isinstance(feature, VarianceSpec | StdSpec),
            feature.per_us if isinstance(feature, TrendSpec) else 0,
        )
        for name, part in zip(feature.columns, parts_of(feature, shape), strict=True)
    ]


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
    dtype = _IN_TILES_AS_NUMBERS.get(output.result.removeprefix("list(").removesuffix(")"))
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
    "ratio": lambda _, columns, __: ratio(columns),
    "skew": lambda _, columns, __: skew(columns),
    "kurtosis": lambda _, columns, __: kurtosis(columns),
    "correlation": lambda _, columns, __: correlation(columns),
    "trend": lambda output, columns, _: trend(columns, output.per_us),
    "decayed_mean": lambda _, columns, __: decayed_mean(columns),
    "gap_mean": lambda _, columns, __: gap_mean(columns),
    "gap_last": lambda _, columns, __: gap_last(columns),
}
