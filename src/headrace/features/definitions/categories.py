"""Aggregates of categories that are named beforehand: a column for each, and one for all others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from headrace.errors import DefinitionError
from headrace.features.definitions.expression_tree import literal
from headrace.features.definitions.feature_spec import CountBySpec, SumBySpec
from headrace.features.definitions.measured import value_tree, where_tree

if TYPE_CHECKING:
    from headrace.features.definitions.expression import Expression
    from headrace.features.definitions.measured import Value

Category = str | int
Categories = Sequence[Category] | Mapping[str, Category]
MOST_CATEGORIES = 100
_NAME = re.compile(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*")


@dataclass(frozen=True, eq=False)
class CountBy:
    """The number of rows in each of the categories ``of`` a text or a whole number, and in ``_other``.

    A category gives its column its name: ``<feature>_5411``. A dict names the columns otherwise. A null is in none.

    >>> from headrace import CountBy
    >>> CountBy("mcc", of=["5411", "5812"]).spec.of
    ('5411', '5812')
    >>> CountBy("shop", of={"corner": "The Corner Shop"}).spec.columns
    ['_corner', '_other']
    """

    value: Value
    of: Categories
    where: Expression | None = None

    @cached_property
    def spec(self) -> CountBySpec:
        """The aggregate as data, without the name that a view gives it."""
        names, of = _named("CountBy", self.of)
        return CountBySpec(value=value_tree(self.value), where=where_tree(self.where), of=of, names=names)


@dataclass(frozen=True, eq=False)
class SumBy:
    """The sum of a number in each of the categories ``of`` the value ``by``, and in ``_other``: as :class:`CountBy`.

    >>> from headrace import SumBy
    >>> SumBy("amount", by="mcc", of=["5411", "5812"]).spec.columns
    ['_5411', '_5812', '_other']
    """

    value: Value
    by: Value
    of: Categories
    where: Expression | None = None

    @cached_property
    def spec(self) -> SumBySpec:
        """The aggregate as data, without the name that a view gives it."""
        names, of = _named("SumBy", self.of)
        value, by = value_tree(self.value), value_tree(self.by)
        return SumBySpec(value=value, by=by, where=where_tree(self.where), of=of, names=names)


def _named(aggregate: str, of: Categories) -> tuple[tuple[str, ...], tuple[Category, ...]]:
    """Return the names of the columns and the categories. Raises DefinitionError."""
    given: object = of
    if (
        isinstance(given, str | bytes)
        or not isinstance(given, Sequence | Mapping)
        or not 1 <= len(given) <= MOST_CATEGORIES
    ):
        message = f"{aggregate}(of={of!r}): give a list of 1 to {MOST_CATEGORIES} categories, such as of=['5411', '58']"
        raise DefinitionError(message)
    pairs = of.items() if isinstance(of, Mapping) else ((str(category), category) for category in of)
    named: dict[object, Category] = dict(pairs)
    if {type(category) for category in named.values()} not in ({str}, {int}):
        message = f"{aggregate}(of={of!r}): categories are all texts, or all whole numbers"
        raise DefinitionError(message)
    _ = [literal(category) for category in named.values()]
    if len(named) != len(of) or len(set(named.values())) != len(of):
        message = f"{aggregate}(of={of!r}): a category stands there twice; write each once"
        raise DefinitionError(message)
    wrong = [name for name in named if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "other"]
    if wrong:
        message = (
            f"{aggregate}(of={of!r}): {wrong} cannot be a part of a column's name, or mean the other categories: "
            f"give it a name, such as of={{'name': {wrong[0]!r}}}"
        )
        raise DefinitionError(message)
    return tuple(map(str, named)), tuple(named.values())
