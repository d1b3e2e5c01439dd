"""Decimals in expressions: whole numbers of their smallest unit where a step is exact, else doubles.

A sum, a difference, a comparison, a choice (``when``, ``min_of``, ``max_of``) or ``fill_null`` of decimals with equally
many places is exact, and so are ``-x`` and ``abs(x)``. In every other step a decimal is its number of units divided by
a power of ten: the nearest double, if it has at most 15 digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.features.definitions.expression_kinds import is_decimal, kind
from headrace.features.definitions.expression_tree import COMPARISONS, trees_of, with_trees

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
    arms = trees_of(tree)
    if not arms:
        return [UNITS, tree] if tree[0] == "col" and is_decimal(kinds.get(tree[1], "")) else tree
    found = [kind(arm, kinds) for arm in arms]
    parts = [lowered(arm, kinds) for arm in arms]
    values = found[1:] if tree[0] == "when" else found
    if tree[0] not in _EXACT or len({each for each in values if each != "null"}) > 1:
        parts = [_double(part, of) for part, of in zip(parts, found, strict=True)]
    return with_trees(tree, parts)


def in_doubles(tree: ExpressionTree, kinds: Mapping[str, str]) -> ExpressionTree:
    """Return the lowered tree with a decimal result as a double."""
    return _double(lowered(tree, kinds), kind(tree, kinds))


def _double(part: ExpressionTree, of: str) -> ExpressionTree:
    return ["div", part, ["lit", 10.0 ** places_of(of)]] if is_decimal(of) else part
