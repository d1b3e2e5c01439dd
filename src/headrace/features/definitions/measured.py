"""What an aggregate measures in a row: a value, and a filter that says which rows count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, ClassVar

from msgspec import UNSET

from headrace.base.arguments import expect
from headrace.bus.vector import check_dim
from headrace.features.definitions.expression import Expression, as_expression

if TYPE_CHECKING:
    from headrace.features.definitions.expression_tree import ExpressionTree
    from headrace.features.definitions.feature_spec import FeatureSpec, OfVectors

Value = Expression | str


@dataclass(frozen=True, eq=False)
class OfValue:
    """An aggregate of a value that has no other parameter than a filter."""

    value: Value
    where: Expression | None = None
    _spec: ClassVar[type[FeatureSpec]]

    @cached_property
    def spec(self) -> FeatureSpec:
        """The aggregate as data, without the name that a view gives it."""
        return self._spec(value=value_tree(self.value), where=where_tree(self.where))


@dataclass(frozen=True, eq=False)
class OfVector(OfValue):
    """An aggregate of a number, or with ``dim`` of a vector of that length."""

    dim: int | None = None
    _spec: ClassVar[type[OfVectors]]

    def __post_init__(self) -> None:
        if self.dim is not None:
            check_dim(f"{type(self).__name__}(dim={self.dim!r})", self.dim)

    @cached_property
    def spec(self) -> OfVectors:
        """The aggregate as data, without the name that a view gives it."""
        dim = UNSET if self.dim is None else self.dim
        return self._spec(value=value_tree(self.value), where=where_tree(self.where), dim=dim)


def value_tree(value: Value) -> ExpressionTree:
    """Return the tree of a value. Raises DefinitionError for anything else than a name or an expression."""
    return as_expression(value).tree


def optional_tree(value: Value | None) -> ExpressionTree:
    """Return the tree of a value; None for none, which counts rows. Raises DefinitionError."""
    return None if value is None else value_tree(value)


def where_tree(where: Expression | None) -> ExpressionTree:
    """Return the tree of a filter; None for none. Raises DefinitionError for anything else than an expression."""
    expect("aggregate", "where", where, (Expression, NoneType), write="a condition such as col('delay_minutes') > 15")
    return None if where is None else where.tree
