"""Aggregates of categories that are not named beforehand: how often they come, and which came last."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from headrace.errors import DefinitionError
from headrace.features.definitions.feature_spec import EntropySpec, ModeSpec, TopKSpec, TopShareSpec, UniqueListSpec
from headrace.features.definitions.measured import value_tree, where_tree

if TYPE_CHECKING:
    from headrace.features.definitions.expression import Expression
    from headrace.features.definitions.measured import Value

MOST_CAPACITY = 500
MOST_UNIQUE = 100


@dataclass(frozen=True, eq=False)
class TopK:
    """The n most frequent categories of a text or a whole number, most frequent first: columns ``_1`` … ``_n``.

    Of equally frequent ones the smaller is first. A tile counts as many categories as the ``capacity`` exactly: if a
    window has more, the ones with the smallest hashes are kept, and the rest counts as others, which are never first.

    >>> from headrace import TopK
    >>> TopK("mcc", 3).spec.capacity
    64
    """

    value: Value
    n: int
    capacity: int = 64
    where: Expression | None = None

    def __post_init__(self) -> None:
        _check("TopK", self.capacity, self.n)

    @cached_property
    def spec(self) -> TopKSpec:
        """The aggregate as data, without the name that a view gives it."""
        value, where = value_tree(self.value), where_tree(self.where)
        return TopKSpec(value=value, where=where, capacity=self.capacity, n=self.n)


@dataclass(frozen=True, eq=False)
class TopShare:
    """The share of the rows that the n most frequent categories have, as :class:`TopK` finds them.

    >>> from headrace import TopShare
    >>> TopShare("merchant", n=1).spec.n
    1
    """

    value: Value
    n: int = 1
    capacity: int = 64
    where: Expression | None = None

    def __post_init__(self) -> None:
        _check("TopShare", self.capacity, self.n)

    @cached_property
    def spec(self) -> TopShareSpec:
        """The aggregate as data, without the name that a view gives it."""
        value, where = value_tree(self.value), where_tree(self.where)
        return TopShareSpec(value=value, where=where, capacity=self.capacity, n=self.n)


@dataclass(frozen=True, eq=False)
class _OfCategories:
    value: Value
    capacity: int = 64
    where: Expression | None = None

    def __post_init__(self) -> None:
        _check(type(self).__name__, self.capacity)


class Mode(_OfCategories):
    """The most frequent category of a text or a whole number: the first of :class:`TopK`, in one column.

    >>> from headrace import Mode
    >>> Mode("mcc").spec.aggregate
    'mode'
    """

    @cached_property
    def spec(self) -> ModeSpec:
        """The aggregate as data, without the name that a view gives it."""
        return ModeSpec(value=value_tree(self.value), where=where_tree(self.where), capacity=self.capacity)


class Entropy(_OfCategories):
    """The entropy of the categories of a text or a whole number, in bits: 0 if all rows are of one category.

    Categories beyond the capacity, as in :class:`TopK`, count as one.

    >>> from headrace import Entropy
    >>> Entropy("merchant", capacity=200).spec.capacity
    200
    """

    @cached_property
    def spec(self) -> EntropySpec:
        """The aggregate as data, without the name that a view gives it."""
        return EntropySpec(value=value_tree(self.value), where=where_tree(self.where), capacity=self.capacity)


@dataclass(frozen=True, eq=False)
class UniqueList:
    """The distinct values that came last, the newest first, as a list of at most ``most``; empty over no rows.

    A value has the place of its newest row. A text counts by its first 32 bytes. It is exact, however many values
    there are.

    >>> from headrace import UniqueList
    >>> UniqueList("country", most=5).spec.n
    5
    """

    value: Value
    most: int = 10
    where: Expression | None = None

    def __post_init__(self) -> None:
        if type(self.most) is not int or not 1 <= self.most <= MOST_UNIQUE:
            message = f"UniqueList(most={self.most!r}): a whole number from 1 to {MOST_UNIQUE}"
            raise DefinitionError(message)

    @cached_property
    def spec(self) -> UniqueListSpec:
        """The aggregate as data, without the name that a view gives it."""
        return UniqueListSpec(value=value_tree(self.value), where=where_tree(self.where), n=self.most)


def _check(aggregate: str, capacity: int, n: int = 1) -> None:
    if type(capacity) is not int or not 1 <= capacity <= MOST_CAPACITY:
        message = f"{aggregate}(capacity={capacity!r}): a whole number of categories from 1 to {MOST_CAPACITY}"
        raise DefinitionError(message)
    if type(n) is not int or not 1 <= n <= min(capacity, 100):
        message = f"{aggregate}(n={n!r}): a whole number from 1 to {min(capacity, 100)}, which the capacity allows"
        raise DefinitionError(message)
