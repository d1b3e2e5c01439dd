"""Aggregates: what a feature remembers of the events in its window.

Null values are skipped by every aggregate of a value; a filter ``where`` keeps the rows on which it is true. Events
hold no NaN and no infinity, and a step of an expression that gives one is null. Over no rows Count, Sum, DecayedSum and
ApproxDistinct are 0, a histogram is all 0, and everything else is null. docs/reference/aggregates.md has the table of
meanings, bounds of error and bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from headrace.base.times import duration_us
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.expression import Expression, as_expression

if TYPE_CHECKING:
    from headrace.base.times import Duration

Value = Expression | str
MOST_LAST = 100
PRECISIONS = range(4, 15)
_BITS = range(1, 10)
_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class Count:
    """The number of rows; of rows with a value where one is given."""

    value: Value | None = None
    where: Expression | None = None
    kind: ClassVar[str] = "count"

    def spec(self) -> dict[str, Any]:
        """The aggregate as plain JSON."""
        return _spec(self)


@dataclass(frozen=True, eq=False)
class _OfValue:
    value: Value
    where: Expression | None = None
    kind: ClassVar[str]

    def spec(self) -> dict[str, Any]:
        """The aggregate as plain JSON."""
        return _spec(self)


class Sum(_OfValue):
    """The sum of a number; of whole numbers exact within 64 bits. A bool counts as 0 or 1."""

    kind = "sum"


class Mean(_OfValue):
    """The arithmetic mean of a number; of a bool the share of true."""

    kind = "mean"


class Variance(_OfValue):
    """The variance of a number over the whole population: divided by n, so that of one row it is 0.

    Made of count, mean and squared distances from it (Chan), so large numbers that lie close together cancel nothing.
    Null where it would not fit into a double.
    """

    kind = "variance"


class Std(_OfValue):
    """The standard deviation of a number over the whole population: the root of :class:`Variance`."""

    kind = "std"


class Min(_OfValue):
    """The smallest value of a number."""

    kind = "min"


class Max(_OfValue):
    """The largest value of a number."""

    kind = "max"


class First(_OfValue):
    """The value with the earliest event time; ties go to the smaller partition, then the smaller offset."""

    kind = "first"


class Last(_OfValue):
    """The value with the latest event time; ties go to the larger partition, then the larger offset."""

    kind = "last"


@dataclass(frozen=True, eq=False)
class LastN:
    """The n newest values, in the order of :class:`Last`: a column each, ``<feature>_1`` the newest; null beyond."""

    value: Value
    n: int
    where: Expression | None = None
    kind: ClassVar[str] = "last_n"

    def __post_init__(self) -> None:
        if type(self.n) is not int or not 1 <= self.n <= MOST_LAST:
            message = f"LastN(n={self.n!r}): n is a whole number from 1 to {MOST_LAST}"
            raise DefinitionError(message)

    def spec(self) -> dict[str, Any]:
        """The aggregate as plain JSON."""
        return _spec(self) | {"n": self.n}


@dataclass(frozen=True, eq=False)
class DecayedSum:
    """The sum of a number in which each value loses half its weight per ``half_life`` of its age at t.

    Where t lies before the newest event, the sum is as it stood at that event. Over a lifetime window it is the
    exponentially weighted sum of all there was.
    """

    value: Value
    half_life: Duration
    where: Expression | None = None
    kind: ClassVar[str] = "decayed_sum"

    def __post_init__(self) -> None:
        with naming("DecayedSum(half_life=…)"):
            half_life_us = duration_us(self.half_life)
        if half_life_us <= 0:
            message = f"DecayedSum(half_life={self.half_life!r}): give a duration longer than 0, such as '7d'"
            raise DefinitionError(message)

    def spec(self) -> dict[str, Any]:
        """The aggregate as plain JSON."""
        return _spec(self) | {"half_life_us": duration_us(self.half_life)}


@dataclass(frozen=True, eq=False)
class ApproxDistinct:
    """The estimated number of distinct values of a number, bool, text or time, as a whole number.

    HyperLogLog with 2^precision registers: the standard error is 1.04 / sqrt(2^precision), 3.3 % by default, and less
    for few values.
    """

    value: Value
    precision: int = 10
    where: Expression | None = None
    kind: ClassVar[str] = "approx_distinct"

    def __post_init__(self) -> None:
        if type(self.precision) is not int or self.precision not in PRECISIONS:
            choices = f"{PRECISIONS[0]} (26 % of error) to {PRECISIONS[-1]} (0.8 %)"
            message = f"ApproxDistinct(precision={self.precision!r}): a whole number from {choices}"
            raise DefinitionError(message)

    def spec(self) -> dict[str, Any]:
        """The aggregate as plain JSON."""
        return _spec(self) | {"precision": self.precision}


@dataclass(frozen=True, eq=False)
class Quantile:
    """The smallest value with at least the part ``q`` of all at or below it, within the relative ``error`` of it.

    ``q`` lies between 0 and 1; a list of them gives a column each, ``<feature>_p50``, ``<feature>_p99_9``. Values go
    into fixed buckets on a log-linear scale over all doubles, so nothing needs to be known of their range; zero is
    exact, and below 1e-307 the error is absolute.
    """

    value: Value
    q: float | Sequence[float]
    error: float = 0.01
    where: Expression | None = None
    kind: ClassVar[str] = "quantile"

    def __post_init__(self) -> None:
        wanted = list(self.q) if isinstance(self.q, Sequence) else [self.q]
        if not wanted or len(set(wanted)) < len(wanted) or not all(map(_is_quantile, wanted)):
            message = (
                f"Quantile(q={self.q!r}): give a number between 0 and 1 of at most {_DECIMALS} decimals, or a list of "
                "different ones; Min and Max are the ends"
            )
            raise DefinitionError(message)
        if self._bits is None:
            message = f"Quantile(error={self.error!r}): a relative error from 0.001 to 0.25"
            raise DefinitionError(message)

    @property
    def _bits(self) -> int | None:
        """The fewest bits by which each power of two is divided finely enough."""
        return next((bits for bits in _BITS if 2.0 ** -(bits + 1) <= self.error <= 2.0 ** -(_BITS[0] + 1)), None)

    def spec(self) -> dict[str, Any]:
        """The aggregate as plain JSON."""
        q = list(map(float, self.q)) if isinstance(self.q, Sequence) else float(self.q)
        return _spec(self) | {"q": q, "bits": self._bits}


def _is_quantile(q: object) -> bool:
    return isinstance(q, float) and 0 < q < 1 and q == round(q, _DECIMALS)


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts between ``edges``: n edges make n + 1 buckets, each closed below and open above; one column a bucket."""

    value: Value
    edges: Sequence[float]
    where: Expression | None = None
    kind: ClassVar[str] = "histogram"

    def __post_init__(self) -> None:
        if not self.edges or any(low >= high for low, high in zip(self.edges, self.edges[1:], strict=False)):
            message = f"Histogram(edges={list(self.edges)}): give at least one edge, each larger than the one before"
            raise DefinitionError(message)

    def spec(self) -> dict[str, Any]:
        """The aggregate as plain JSON."""
        return _spec(self) | {"edges": [float(edge) for edge in self.edges]}


Aggregate = (
    Count | Sum | Mean | Variance | Std | Min | Max | First | Last | LastN | DecayedSum | ApproxDistinct | Quantile
    | Histogram
)  # fmt: skip


def _spec(aggregate: Any) -> dict[str, Any]:
    value, where = aggregate.value, aggregate.where
    return {
        "aggregate": aggregate.kind,
        "value": None if value is None else as_expression(value).tree,
        "where": None if where is None else where.tree,
    }
