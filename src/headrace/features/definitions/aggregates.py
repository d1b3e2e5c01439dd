"""Aggregates: what a feature computes from the events in its window.

An aggregate of a value skips nulls. A filter ``where`` keeps the rows on which it is true. Events hold no NaN and no
infinity, and a step of an expression that gives one is null. Over no rows, Count, Sum, DecayedSum and ApproxDistinct
are 0 and a histogram is all 0; every other aggregate is null. docs/reference/aggregates.md has a table of the meanings,
the bounds of error and the bytes.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from headrace.base.arguments import expect, expect_items
from headrace.base.times import duration_us
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.categories import CountBy, SumBy
from headrace.features.definitions.feature_spec import (
    ApproxDistinctSpec,
    CountSpec,
    DecayedSumSpec,
    FirstSpec,
    HistogramSpec,
    LastNSpec,
    LastSpec,
    MaxSpec,
    MeanSpec,
    MinSpec,
    QuantileSpec,
    StdSpec,
    SumSpec,
    VarianceSpec,
)
from headrace.features.definitions.frequency import Entropy, Mode, TopK, TopShare, UniqueList
from headrace.features.definitions.measured import OfValue, OfVector, Value, optional_tree, value_tree, where_tree
from headrace.features.definitions.recency import Age, Gap, Since
from headrace.features.definitions.shape import Correlation, DecayedMean, Kurtosis, Ratio, Skew, Trend

if TYPE_CHECKING:
    from headrace.base.times import Duration
    from headrace.features.definitions.expression import Expression

MOST_LAST = 100
PRECISIONS = range(4, 15)
_BITS = range(1, 10)
_DECIMALS = 6
_LARGEST_EDGE = 1e300


@dataclass(frozen=True, eq=False)
class Count:
    """The number of rows; with a value, the number of rows in which it is not null.

    >>> from headrace import Count, col
    >>> departures, late = Count(), Count(where=col("delay_minutes") > 15)
    >>> late.spec.where
    ['gt', ['col', 'delay_minutes'], ['lit', 15]]
    """

    value: Value | None = None
    where: Expression | None = None

    @cached_property
    def spec(self) -> CountSpec:
        """The aggregate as data, without the name that a view gives it."""
        return CountSpec(value=optional_tree(self.value), where=where_tree(self.where))


class Sum(OfVector):
    """The sum of a number. A sum of whole numbers is exact within 64 bits. A bool counts as 0 or 1.

    With ``dim`` it is the sum of :class:`headrace.Vector` values of that length, number by number.

    >>> from headrace import Sum, col
    >>> Sum(col("price") * col("pieces")).spec.value
    ['mul', ['col', 'price'], ['col', 'pieces']]
    """

    _spec = SumSpec


class Mean(OfVector):
    """The arithmetic mean of a number. The mean of a bool is the share of true.

    With ``dim`` it is the mean of :class:`headrace.Vector` values of that length, number by number.

    >>> from headrace import Mean, col
    >>> Mean(col("delay_minutes") > 15).spec.value
    ['gt', ['col', 'delay_minutes'], ['lit', 15]]
    >>> Mean("embedding", dim=64).spec.dim
    64
    """

    _spec = MeanSpec


class Variance(OfValue):
    """The variance of a number over the whole population: divided by n, so the variance of one row is 0.

    It is merged from count, mean and squared distances from the mean (Chan), so large numbers that lie close together
    lose no digits. It is null if it does not fit into a double.

    >>> from headrace import Variance
    >>> Variance("amount").spec.aggregate
    'variance'
    """

    _spec = VarianceSpec


class Std(OfValue):
    """The standard deviation of a number over the whole population: the root of :class:`Variance`.

    >>> from headrace import Std
    >>> Std("amount").spec.aggregate
    'std'
    """

    _spec = StdSpec


class Min(OfValue):
    """The smallest value of a number.

    >>> from headrace import Min
    >>> Min("amount").spec.value
    ['col', 'amount']
    """

    _spec = MinSpec


class Max(OfValue):
    """The largest value of a number.

    >>> from headrace import Max
    >>> Max("amount").spec.value
    ['col', 'amount']
    """

    _spec = MaxSpec


class First(OfVector):
    """The value with the earliest event time. A tie goes to the smaller partition, then to the smaller offset.

    With ``dim`` the value is a :class:`headrace.Vector` of that length.

    >>> from headrace import First
    >>> First("balance").spec.value
    ['col', 'balance']
    """

    _spec = FirstSpec


class Last(OfVector):
    """The value with the latest event time. A tie goes to the larger partition, then to the larger offset.

    With ``dim`` the value is a :class:`headrace.Vector` of that length.

    >>> from headrace import Last
    >>> Last("temperature").spec.value
    ['col', 'temperature']
    """

    _spec = LastSpec


@dataclass(frozen=True, eq=False)
class LastN:
    """The n newest values, in the order of :class:`Last`.

    Each value has a column, ``<feature>_1`` for the newest. A column is null if there are fewer values. With
    ``as_list=True`` there is one column, a list with the newest value first; it is empty if there are no values.

    >>> from headrace import LastN
    >>> LastN("amount", n=3).spec.n
    3
    """

    value: Value
    n: int
    where: Expression | None = None
    as_list: bool = False

    def __post_init__(self) -> None:
        expect("LastN", "as_list", self.as_list, bool, write="True or False")
        if type(self.n) is not int or not 1 <= self.n <= MOST_LAST:
            message = f"LastN(n={self.n!r}): n is a whole number from 1 to {MOST_LAST}"
            raise DefinitionError(message)

    @cached_property
    def spec(self) -> LastNSpec:
        """The aggregate as data, without the name that a view gives it."""
        spec = LastNSpec(value=value_tree(self.value), where=where_tree(self.where), n=self.n)
        return msgspec.structs.replace(spec, as_list=True) if self.as_list else spec


@dataclass(frozen=True, eq=False)
class DecayedSum:
    """The sum of a number, in which each value loses half of its weight in every ``half_life`` of its age at t.

    If t lies before the newest event, the result is the sum at that event. Over a lifetime window the result is the
    exponentially weighted sum of all events.

    >>> from headrace import DecayedSum
    >>> DecayedSum("amount", half_life="7d").spec.half_life_us
    604800000000
    """

    value: Value
    half_life: Duration
    where: Expression | None = None

    def __post_init__(self) -> None:
        with naming("DecayedSum(half_life=…)"):
            half_life_us = duration_us(self.half_life)
        if half_life_us <= 0:
            message = f"DecayedSum(half_life={self.half_life!r}): give a duration longer than 0, such as '7d'"
            raise DefinitionError(message)

    @cached_property
    def spec(self) -> DecayedSumSpec:
        """The aggregate as data, without the name that a view gives it."""
        half_life_us = duration_us(self.half_life)
        return DecayedSumSpec(value=value_tree(self.value), where=where_tree(self.where), half_life_us=half_life_us)


@dataclass(frozen=True, eq=False)
class ApproxDistinct:
    """The estimated number of distinct values of a number, bool, text or time, as a whole number.

    It uses HyperLogLog with 2^precision registers. The standard error is 1.04 / sqrt(2^precision): 3.3 % by default,
    and less for few values.

    >>> from headrace import ApproxDistinct
    >>> ApproxDistinct("merchant", precision=12).spec.precision
    12
    """

    value: Value
    precision: int = 10
    where: Expression | None = None

    def __post_init__(self) -> None:
        if type(self.precision) is not int or self.precision not in PRECISIONS:
            choices = f"{PRECISIONS[0]} (26 % of error) to {PRECISIONS[-1]} (0.8 %)"
            message = f"ApproxDistinct(precision={self.precision!r}): a whole number from {choices}"
            raise DefinitionError(message)

    @cached_property
    def spec(self) -> ApproxDistinctSpec:
        """The aggregate as data, without the name that a view gives it."""
        return ApproxDistinctSpec(value=value_tree(self.value), where=where_tree(self.where), precision=self.precision)


@dataclass(frozen=True, eq=False)
class Quantile:
    """The quantile ``q``: the smallest x such that at least the share ``q`` of all values is ≤ x.

    The answer has a relative ``error``. ``q`` lies between 0 and 1. A list gives one column for each of its numbers:
    ``<feature>_p50``, ``<feature>_p99_9``. Values go into fixed buckets on a log-linear scale over all doubles, so
    their range need not be known. Zero is exact, and below 1e-307 the error is absolute.

    >>> from headrace import Quantile
    >>> Quantile("amount", [0.5, 0.999]).spec.quantiles
    (0.5, 0.999)
    """

    value: Value
    q: float | Sequence[float]
    error: float = 0.01
    where: Expression | None = None

    def __post_init__(self) -> None:
        wanted = list(self.q) if isinstance(self.q, Sequence) else [self.q]
        expect("Quantile", "error", self.error, (int, float), write="a relative error such as 0.01")
        if not wanted or not all(map(_is_quantile, wanted)) or len(set(wanted)) < len(wanted):
            message = (
                f"Quantile(q={self.q!r}): give a number between 0 and 1 of at most {_DECIMALS} decimals, or a list of "
                "different ones; Min and Max are the ends"
            )
            raise DefinitionError(message)
        if _bits(self.error) is None:
            message = f"Quantile(error={self.error!r}): a relative error from 0.001 to 0.25"
            raise DefinitionError(message)

    @cached_property
    def spec(self) -> QuantileSpec:
        """The aggregate as data, without the name that a view gives it."""
        q = tuple(map(float, self.q)) if isinstance(self.q, Sequence) else float(self.q)
        return QuantileSpec(
            value=value_tree(self.value), where=where_tree(self.where), q=q, bits=_bits(self.error) or 0
        )


def _is_edge(edge: float) -> bool:
    return abs(edge) < _LARGEST_EDGE


def _bits(error: float) -> int | None:
    """Return the least number of bits whose buckets keep within ``error``; None if no number of bits does."""
    return next((bits for bits in _BITS if 2.0 ** -(bits + 1) <= error <= 2.0 ** -(_BITS[0] + 1)), None)


def _is_quantile(q: object) -> bool:
    return isinstance(q, float) and 0 < q < 1 and q == round(q, _DECIMALS)


@dataclass(frozen=True, eq=False)
class Histogram:
    """The number of rows between ``edges``. n edges make n + 1 buckets, and each bucket has a column.

    A bucket contains its lower edge and not its upper one.

    >>> from headrace import Histogram
    >>> Histogram("amount", edges=[0, 10, 100]).spec.edges
    (0.0, 10.0, 100.0)
    """

    value: Value
    edges: Sequence[float]
    where: Expression | None = None

    def __post_init__(self) -> None:
        expect_items("Histogram", "edges", self.edges, (int, float), write="numbers such as [0, 10]")
        if not self.edges or not all(map(_is_edge, self.edges)) or any(map(operator.ge, self.edges, self.edges[1:])):
            edges = list(self.edges)
            message = f"Histogram(edges={edges}): give at least one edge, each finite and larger than the one before"
            raise DefinitionError(message)

    @cached_property
    def spec(self) -> HistogramSpec:
        """The aggregate as data, without the name that a view gives it."""
        edges = tuple(map(float, self.edges))
        return HistogramSpec(value=value_tree(self.value), where=where_tree(self.where), edges=edges)


Aggregate = (
    Count | Sum | Mean | Variance | Std | Min | Max | First | Last | LastN | DecayedSum | ApproxDistinct | Quantile
    | Histogram | Since | Age | Gap | Ratio | Skew | Kurtosis | Correlation | Trend | DecayedMean
    | CountBy | SumBy | TopK | TopShare | Mode | Entropy | UniqueList
)  # fmt: skip
