"""The specs of features: one struct for each kind of aggregate. On the wire ``aggregate`` tells them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, UnsetType

from headrace.bus.vector import vector_kind
from headrace.features.definitions.expression_tree import ExpressionTree
from headrace.features.definitions.spec import result_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.definitions.windows import WindowSpec


OtherKind = Literal["str", "datetime", "date"]
"""The kinds of features that are no numbers. A spec names them, so that a release that lacks them refuses it."""


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True, tag_field="aggregate", forbid_unknown_fields=True):
    """One feature: an aggregate of ``value`` over the rows on which ``where`` is true; null means every row.

    ``name`` is empty until a view names the feature. ``value`` is null if only rows count, not what is in them.
    """

    name: str = ""
    value: ExpressionTree
    where: ExpressionTree

    @property
    def aggregate(self) -> str:
        """The name of the aggregate, such as ``last_n``."""
        return str(self.__struct_config__.tag)

    @property
    def measured(self) -> Sequence[FeatureSpec]:
        """The features whose values and filters this one reads: itself, or the sides of a ratio."""
        return [self]

    @property
    def values(self) -> Sequence[ExpressionTree]:
        """The expressions that the feature itself measures; an expression is null in a count of rows."""
        return [self.value]

    @property
    def trees(self) -> Sequence[ExpressionTree]:
        """All expressions and filters that the feature reads; null for none."""
        return [tree for part in self.measured for tree in (*part.values, part.where)]

    @property
    def columns(self) -> list[str]:
        """The names of the feature's columns, without the view and the window."""
        return [self.name]

    def result(self, of: str) -> str:
        """Return the kind of the feature's columns over values of the kind ``of``, such as int or ``list(str)``."""
        return result_kind(self.aggregate, of)

    def windowed_columns(self, windows: Sequence[WindowSpec]) -> list[str]:
        """Return the names of the feature's columns without the view's name: each column once for each window."""
        return [f"{column}_{window.name}" for column in self.columns for window in windows]


class CountSpec(FeatureSpec, frozen=True, tag="count"):
    """The number of rows, or of values."""


class OfVectors(FeatureSpec, frozen=True, kw_only=True):
    """A feature of numbers, or of vectors. ``dim`` is the length of the vectors, and of the feature then."""

    dim: int | UnsetType = UNSET

    def result(self, of: str) -> str:
        """Return the kind of the feature: a vector of vectors."""
        return super().result(of) if self.dim is UNSET else vector_kind(self.dim)


class SumSpec(OfVectors, frozen=True, tag="sum"):
    """The sum."""


class MeanSpec(OfVectors, frozen=True, tag="mean"):
    """The arithmetic mean."""


class VarianceSpec(FeatureSpec, frozen=True, tag="variance"):
    """The variance over the whole population."""


class StdSpec(FeatureSpec, frozen=True, tag="std"):
    """The root of the variance."""


class MinSpec(FeatureSpec, frozen=True, tag="min"):
    """The smallest value."""


class MaxSpec(FeatureSpec, frozen=True, tag="max"):
    """The largest value."""


class OfAnyKind(OfVectors, frozen=True, kw_only=True):
    """A feature that is one of the values, or several of them. ``kind`` is theirs if they are no numbers."""

    kind: OtherKind | UnsetType = UNSET


class FirstSpec(OfAnyKind, frozen=True, tag="first"):
    """The earliest value."""


class LastSpec(OfAnyKind, frozen=True, tag="last"):
    """The latest value."""


class LastNSpec(OfAnyKind, frozen=True, kw_only=True, tag="last_n"):
    """The ``n`` latest values, one column each; if ``as_list`` is there, one column that is a list of them."""

    n: int
    as_list: Literal[True] | UnsetType = UNSET

    def result(self, of: str) -> str:
        """Return the kind of the values, or of a list of them."""
        own = super().result(of)
        return own if self.as_list is UNSET else f"list({own})"

    @property
    def columns(self) -> list[str]:
        """The columns' names: ``<name>`` of a list, else ``<name>_1`` of the newest value, ``<name>_2``, and so on."""
        if self.as_list is not UNSET:
            return [self.name]
        return [f"{self.name}_{place}" for place in range(1, self.n + 1)]


class DecayedSumSpec(FeatureSpec, frozen=True, kw_only=True, tag="decayed_sum"):
    """The sum in which a value loses half its weight per half-life of its age."""

    half_life_us: int


class ApproxDistinctSpec(FeatureSpec, frozen=True, kw_only=True, tag="approx_distinct"):
    """The estimated number of distinct values, with 2^precision registers."""

    precision: int


class QuantileSpec(FeatureSpec, frozen=True, kw_only=True, tag="quantile"):
    """One quantile, or several quantiles with one column each. A power of two is cut into 2^bits buckets."""

    q: float | tuple[float, ...]
    bits: int

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles as a tuple, also if there is only one."""
        return self.q if isinstance(self.q, tuple) else (self.q,)

    @property
    def columns(self) -> list[str]:
        """The columns' names: ``<name>`` for a single quantile, else ``<name>_p50``, ``<name>_p99_9``, and so on."""
        if not isinstance(self.q, tuple):
            return [self.name]
        return [f"{self.name}_p{100 * q:g}".replace(".", "_") for q in self.q]


class HistogramSpec(FeatureSpec, frozen=True, kw_only=True, tag="histogram"):
    """The counts between ``edges``, one column for each bucket."""

    edges: tuple[float, ...]

    @property
    def columns(self) -> list[str]:
        """The columns' names: ``<name>_b0`` for the bucket below the first edge, then ``<name>_b1``, and so on."""
        return [f"{self.name}_b{bucket}" for bucket in range(len(self.edges) + 1)]


class SinceSpec(FeatureSpec, frozen=True, tag="since"):
    """The seconds from the newest row to t."""


class AgeSpec(FeatureSpec, frozen=True, tag="age"):
    """The seconds from the first row to t."""


GapKind = Literal["mean", "last"]
"""Which gap between rows a feature is."""


class GapSpec(FeatureSpec, frozen=True, kw_only=True, tag="gap"):
    """The mean gap between rows in seconds, or the one between the two newest rows."""

    of: GapKind


class RatioSpec(FeatureSpec, frozen=True, kw_only=True, tag="ratio"):
    """The sum or count ``numerator`` divided by ``denominator``. Each has a value and a filter; the ratio has none."""

    numerator: SumSpec | CountSpec
    denominator: SumSpec | CountSpec

    @property
    def measured(self) -> Sequence[FeatureSpec]:
        """The two sides."""
        return [self.numerator, self.denominator]


class SkewSpec(FeatureSpec, frozen=True, tag="skew"):
    """The skewness over the whole population."""


class KurtosisSpec(FeatureSpec, frozen=True, tag="kurtosis"):
    """The excess kurtosis over the whole population."""


class CorrelationSpec(FeatureSpec, frozen=True, kw_only=True, tag="correlation"):
    """The correlation of ``value`` with ``paired``."""

    paired: ExpressionTree

    @property
    def values(self) -> Sequence[ExpressionTree]:
        """Both expressions."""
        return [self.value, self.paired]


class TrendSpec(FeatureSpec, frozen=True, kw_only=True, tag="trend"):
    """The slope of the value over event time: its change per ``per_us``."""

    per_us: int


class DecayedMeanSpec(FeatureSpec, frozen=True, kw_only=True, tag="decayed_mean"):
    """The mean in which a value loses half its weight per half-life of its age."""

    half_life_us: int


class ByCategorySpec(FeatureSpec, frozen=True, kw_only=True):
    """A feature with a column for each of the categories ``of``, called ``names``, and one for all others."""

    of: tuple[str | int, ...]
    names: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The columns' names: ``<name>_<category>`` for each, and ``<name>_other``."""
        return [f"{self.name}_{name}" for name in (*self.names, "other")]

    def filters_of(self, category: ExpressionTree) -> list[ExpressionTree]:
        """Return the filter of each column; ``category`` is the expression that tells the category of a row."""
        each: list[ExpressionTree] = [["eq", category, ["lit", one]] for one in self.of]
        each.append(["not", ["is_in", category, list(self.of)]])
        return each if self.where is None else [["and", self.where, one] for one in each]


class CountBySpec(ByCategorySpec, frozen=True, kw_only=True, tag="count_by"):
    """The number of rows in each category of the value."""

    @property
    def plain(self) -> list[CountSpec]:
        """The features that its columns are."""
        filters = zip(self.columns, self.filters_of(self.value), strict=True)
        return [CountSpec(name=name, value=None, where=where) for name, where in filters]


class SumBySpec(ByCategorySpec, frozen=True, kw_only=True, tag="sum_by"):
    """The sum of the value in each category of ``by``."""

    by: ExpressionTree

    @property
    def measured(self) -> Sequence[FeatureSpec]:
        """The sum, and the categories."""
        categories = CountBySpec(value=self.by, where=None, of=self.of, names=self.names)
        return [SumSpec(value=self.value, where=self.where), categories]

    @property
    def values(self) -> Sequence[ExpressionTree]:
        """The value and its category."""
        return [self.value, self.by]

    @property
    def plain(self) -> list[SumSpec]:
        """The features that its columns are."""
        filters = zip(self.columns, self.filters_of(self.by), strict=True)
        return [SumSpec(name=name, value=self.value, where=where) for name, where in filters]


class FrequencySpec(FeatureSpec, frozen=True, kw_only=True):
    """A feature of the counts of at most ``capacity`` categories of the value."""

    capacity: int


class TopKSpec(OfAnyKind, frozen=True, kw_only=True, tag="top_k"):
    """The ``n`` most frequent categories, one column each."""

    capacity: int
    n: int

    @property
    def columns(self) -> list[str]:
        """The columns' names: ``<name>_1`` for the most frequent category, then ``<name>_2``, and so on."""
        return [f"{self.name}_{place}" for place in range(1, self.n + 1)]


class ModeSpec(OfAnyKind, frozen=True, kw_only=True, tag="mode"):
    """The most frequent category."""

    capacity: int


class UniqueListSpec(OfAnyKind, frozen=True, kw_only=True, tag="unique_list"):
    """The ``n`` distinct values that came last, as a list."""

    n: int

    def result(self, of: str) -> str:
        """Return the kind of a list of the values."""
        return f"list({super().result(of)})"


class TopShareSpec(FrequencySpec, frozen=True, kw_only=True, tag="top_share"):
    """The share of the rows that the ``n`` most frequent categories have."""

    n: int


class EntropySpec(FrequencySpec, frozen=True, tag="entropy"):
    """The entropy of the categories in bits."""


class RowValueSpec(OfAnyKind, frozen=True, tag="row_value"):
    """The value in the newest row of a table's key; null while ``where`` is not true on that row."""

    def windowed_columns(self, windows: Sequence[WindowSpec]) -> list[str]:  # noqa: ARG002 - a table has none
        """Return the feature's own name: a row has no window."""
        return [self.name]


OwnEventRule = Literal["included", "excluded"]
"""The rule for a request's own event in views that are made from the stream of the requests."""

SUMS_OF_RECORDS = (CountSpec, SumSpec, MeanSpec, HistogramSpec, RatioSpec, CountBySpec, SumBySpec)
"""The features from whose tiles one record can be taken out again: each record has added its own part to them."""

TAKEN_BACK = (*SUMS_OF_RECORDS, VarianceSpec, StdSpec)
"""The features of a view with a role that takes rows back."""

AnyFeatureSpec = (
    CountSpec | SumSpec | MeanSpec | VarianceSpec | StdSpec | MinSpec | MaxSpec | FirstSpec | LastSpec | LastNSpec
    | DecayedSumSpec | ApproxDistinctSpec | QuantileSpec | HistogramSpec | SinceSpec | AgeSpec | GapSpec
    | RatioSpec | SkewSpec | KurtosisSpec | CorrelationSpec | TrendSpec | DecayedMeanSpec | CountBySpec | SumBySpec
    | TopKSpec | ModeSpec | UniqueListSpec | TopShareSpec | EntropySpec | RowValueSpec
)  # fmt: skip
