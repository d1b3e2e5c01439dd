"""Aggregates of how values lie: to each other, around their mean, to another value, and along the time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from headrace.base.times import duration_us
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.feature_spec import (
    CorrelationSpec,
    CountSpec,
    DecayedMeanSpec,
    KurtosisSpec,
    RatioSpec,
    SkewSpec,
    SumSpec,
    TrendSpec,
)
from headrace.features.definitions.measured import OfValue, value_tree, where_tree

if TYPE_CHECKING:
    from headrace.base.times import Duration
    from headrace.features.definitions.expression import Expression
    from headrace.features.definitions.feature_spec import FeatureSpec
    from headrace.features.definitions.measured import Value


class HasSpec(Protocol):
    """An aggregate, such as a Sum or a Count."""

    @property
    def spec(self) -> FeatureSpec:
        """The aggregate as data."""
        ...


@dataclass(frozen=True, eq=False)
class Ratio:
    """The sum of ``part`` divided by the sum of ``whole``.

    Each side is a value, or a :class:`Sum` or :class:`Count` with a filter of its own. It is null if the whole has no
    rows, or a sum of 0.

    >>> from headrace import Count, Ratio, Sum, col
    >>> share_spent = Ratio("amount", "limit")
    >>> share_abroad = Ratio(Count(where=col("abroad")), Count())
    >>> spent_abroad = Ratio(Sum("amount", where=col("abroad")), Sum("amount"))
    >>> spent_abroad.spec.numerator.where
    ['col', 'abroad']
    """

    part: Value | HasSpec
    whole: Value | HasSpec

    @cached_property
    def spec(self) -> RatioSpec:
        """The aggregate as data, without the name that a view gives it."""
        return RatioSpec(
            value=None, where=None, numerator=_side("part", self.part), denominator=_side("whole", self.whole)
        )


def _side(name: str, side: Value | HasSpec) -> SumSpec | CountSpec:
    spec = getattr(side, "spec", None)
    if isinstance(spec, SumSpec | CountSpec):
        return spec
    if spec is not None:
        message = f"Ratio({name}={type(side).__name__}(…)): a side is a value, a Sum or a Count"
        raise DefinitionError(message)
    return SumSpec(value=value_tree(side), where=None)  # type: ignore[arg-type] # anything else is refused here


class Skew(OfValue):
    """The skewness of a number over the whole population: n^½ · M3 / M2^1.5, with sums of powers around the mean.

    It is 0 for values that lie evenly around their mean, and above 0 with a long tail of large ones. It is null if the
    variance is below 1e-140, as of equal values, or if a power does not fit into a double.

    >>> from headrace import Skew
    >>> Skew("amount").spec.aggregate
    'skew'
    """

    _spec = SkewSpec


class Kurtosis(OfValue):
    """The excess kurtosis of a number over the whole population: n · M4 / M2² - 3, which is 0 for a normal one.

    It is null where :class:`Skew` is.

    >>> from headrace import Kurtosis
    >>> Kurtosis("amount").spec.aggregate
    'kurtosis'
    """

    _spec = KurtosisSpec


@dataclass(frozen=True, eq=False)
class Correlation:
    """Pearson's correlation of two numbers, from -1 to 1, over the rows in which neither is null.

    It is null if the variance of one of them is below 1e-140, as of equal values, or does not fit into a double.

    >>> from headrace import Correlation
    >>> Correlation("amount", "distance").spec.paired
    ['col', 'distance']
    """

    x: Value
    y: Value
    where: Expression | None = None

    @cached_property
    def spec(self) -> CorrelationSpec:
        """The aggregate as data, without the name that a view gives it."""
        return CorrelationSpec(value=value_tree(self.x), paired=value_tree(self.y), where=where_tree(self.where))


@dataclass(frozen=True, eq=False)
class Trend:
    """The slope of the line that fits a number over event time best (least squares): its change ``per`` a day.

    It is null unless two rows with the value have different times.

    >>> from headrace import Trend
    >>> Trend("balance").spec.per_us, Trend("temperature", per="1h").spec.per_us
    (86400000000, 3600000000)
    """

    value: Value
    per: Duration = "1d"
    where: Expression | None = None

    @cached_property
    def spec(self) -> TrendSpec:
        """The aggregate as data, without the name that a view gives it."""
        return TrendSpec(value=value_tree(self.value), where=where_tree(self.where), per_us=self._per_us)

    def __post_init__(self) -> None:
        _longer_than_0("Trend(per=…)", self.per)

    @property
    def _per_us(self) -> int:
        return duration_us(self.per)


@dataclass(frozen=True, eq=False)
class DecayedMean:
    """The mean of a number in which each value loses half of its weight in every ``half_life`` of its age.

    It is the exponentially weighted moving average. It does not depend on t, but for the rows that the window has.

    >>> from headrace import DecayedMean
    >>> DecayedMean("amount", half_life="7d").spec.half_life_us
    604800000000
    """

    value: Value
    half_life: Duration
    where: Expression | None = None

    def __post_init__(self) -> None:
        _longer_than_0("DecayedMean(half_life=…)", self.half_life)

    @cached_property
    def spec(self) -> DecayedMeanSpec:
        """The aggregate as data, without the name that a view gives it."""
        value, where = value_tree(self.value), where_tree(self.where)
        return DecayedMeanSpec(value=value, where=where, half_life_us=duration_us(self.half_life))


def _longer_than_0(where: str, duration: Duration) -> None:
    with naming(where):
        length = duration_us(duration)
    if length <= 0:
        message = f"{where} is {duration!r}: give a duration longer than 0, such as '7d'"
        raise DefinitionError(message)
