"""Aggregates: what a feature remembers of the events in its window.

Null values are skipped by every aggregate of a value; a filter ``where`` keeps the rows on which it is true. Over no
rows Count is 0, Sum is 0, a histogram is all 0, and everything else is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from headrace.errors import DefinitionError
from headrace.features.expression import Expression, as_expression

if TYPE_CHECKING:
    from collections.abc import Sequence

Value = Expression | str


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


class Min(_OfValue):
    """The smallest value of a number."""

    kind = "min"


class Max(_OfValue):
    """The largest value of a number."""

    kind = "max"


class Last(_OfValue):
    """The value with the latest event time; ties go to the larger partition, then the larger offset."""

    kind = "last"


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


Aggregate = Count | Sum | Mean | Min | Max | Last | Histogram


def _spec(aggregate: Any) -> dict[str, Any]:
    value, where = aggregate.value, aggregate.where
    return {
        "aggregate": aggregate.kind,
        "value": None if value is None else as_expression(value).tree,
        "where": None if where is None else where.tree,
    }
