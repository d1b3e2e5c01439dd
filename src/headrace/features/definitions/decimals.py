"""Decimals in expressions: whole numbers of their smallest unit where a step is exact, else doubles.

A sum, a difference, a comparison, a choice (``when``, ``min_of``, ``max_of``) or ``fill_null`` of decimals with equally
many places is exact, and so are ``-x`` and ``abs(x)``. In every other step a decimal is its number of units divided by
a power of ten: the nearest double, if it has at most 15 digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.features.definitions.expression_kinds import is_decimal, kind, kind_of_step
from headrace.features.definitions.expression_tree import COMPARISONS, with_trees, worked_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.features.definitions.expression_tree import ExpressionTree

_EXACT = COMPARISONS | {"add", "sub", "neg", "abs", "fill_null", "is_null", "when", "min_of", "max_of", "among"}
UNITS = "units"
"""The step that takes a decimal as the number of its units. Only :func:`lowered` makes it; no spec has it."""


def places_of(kind_: str) -> int:
    """Return the places of a kind such as ``decimal(2)``; 0 for every other kind."""
    return int(kind_[8:-1]) if is_decimal(kind_) else 0


def lowered(tree: ExpressionTree, kinds: Mapping[str, str]) -> ExpressionTree:
    """Return a tree over columns of ``kinds`` in which decimals are whole numbers of their units, or doubles."""
    if tree is None or not any(map(is_decimal, kinds.values())):
        return tree
    found: ExpressionTree = worked_out(tree, lambda part, arms: _lowered_step(part, arms, kinds))[0]
    return found


def _lowered_step(
    tree: ExpressionTree, arms: list[tuple[ExpressionTree, str]], kinds: Mapping[str, str]
) -> tuple[ExpressionTree, str]:
    """Return one step over lowered trees, and the kind that it has before it is lowered."""
    parts, found = [part for part, _ in arms], [of for _, of in arms]
    of = kind_of_step(tree, found, kinds)
    if not arms:
        return ([UNITS, tree] if tree[0] == "col" and is_decimal(of) else tree), of
    values = found[1:] if tree[0] == "when" else found
    if tree[0] not in _EXACT or len({each for each in values if each != "null"}) > 1:
        parts = [_double(part, each) for part, each in zip(parts, found, strict=True)]
    return with_trees(tree, parts), of


def in_doubles(tree: ExpressionTree, kinds: Mapping[str, str]) -> ExpressionTree:
    """Return the lowered tree with a decimal result as a double."""
    return _double(lowered(tree, kinds), kind(tree, kinds))


def _double(part: ExpressionTree, of: str) -> ExpressionTree:
    return ["div", part, ["lit", 10.0 ** places_of(of)]] if is_decimal(of) else part
