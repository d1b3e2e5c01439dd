"""Large expressions in parts, each of which is computed once.

Polars writes an expression out wherever another names it. A step that names its operand twice doubles what is below it,
so a chain of such steps, or of derived columns that name the one before twice, would grow beyond all memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headrace.features.definitions.expression_tree import with_trees, worked_out

if TYPE_CHECKING:
    from headrace.features.definitions.expression_tree import ExpressionTree

FINITE = {"add": 2, "sub": 2, "mul": 2, "div": 1}
"""Steps whose doubles have to be finite. If one of so many of their trees is not finite, neither is the result."""
_EXTREMES = frozenset({"min_of", "max_of"})
_NAMED = {"is_in": 2, "abs": 2, "sqrt": 2, "min_of": 3, "max_of": 3}
"""How often Polars' expression of a step names its trees, unless it is once."""
_SMALL = 600
"""The names in an expression that Polars computes in one."""
_OF_A_PART = 60
_PART = "part "
"""How the names of parts begin; no field has a space in its name."""


class _Part(NamedTuple):
    """A tree, the size of its expression without and with a check for finite doubles, and whether it reads columns."""

    tree: ExpressionTree
    unchecked: int
    size: int
    reads: bool


def is_small(tree: ExpressionTree) -> bool:
    """Return whether Polars' expression of a tree is small enough to be one."""
    return worked_out(tree, _measured).size <= _SMALL


def is_part(tree: ExpressionTree) -> bool:
    """Return whether a tree is the name of a part, which may be one constant for all rows."""
    return tree[0] == "col" and str(tree[1]).startswith(_PART)


def parts_of(tree: ExpressionTree) -> list[tuple[str, ExpressionTree]]:
    """Return small trees with names; each may read the columns and the names before it. The last one is the tree."""
    parts: list[tuple[str, ExpressionTree]] = []

    def named(part: _Part) -> _Part:
        if not part.reads or part.size <= _OF_A_PART:
            return part
        parts.append((f"{_PART}{len(parts)}", part.tree))
        return _Part(["col", parts[-1][0]], 1, 1, reads=True)

    def step(part: ExpressionTree, arms: list[_Part]) -> _Part:
        if part[0] in _EXTREMES and len(arms) > 2:  # noqa: PLR2004 - of two it is what it is
            middle = (len(arms) + 1) // 2
            arms = [step([part[0]], arms[:middle]), step([part[0]], arms[middle:])]
        elif part[0] in _EXTREMES and len(arms) == 1:
            return arms[0]
        return named(_measured(part, arms))

    last = worked_out(tree, step)
    return [*parts, ("all", last.tree)]


def _measured(tree: ExpressionTree, arms: list[_Part]) -> _Part:
    operator = tree[0]
    if not arms:
        return _Part(tree, 1, 1, reads=operator in {"col", "now"})
    keeps = FINITE.get(operator, 0)
    below = sum(arm.unchecked if place < keeps else arm.size for place, arm in enumerate(arms))
    times = _NAMED.get(operator, 1)
    if operator in _EXTREMES:
        times **= (len(arms) - 1).bit_length()
    unchecked = 1 + times * below
    made = [arm.tree for arm in arms]
    whole = [operator, *made] if operator in _EXTREMES else with_trees(tree, made)  # halves of an extreme have no data
    return _Part(whole, unchecked, unchecked * (2 if operator in FINITE else 1), any(arm.reads for arm in arms))
