"""Trees of steps: an expression as plain data, ``[step, argument, …]``, which specs store and hash.

A step takes trees, and after them plain data such as the members of ``is_in``. The words of steps are a public format:
they never change their meaning, and a reader that does not know a word refuses the tree.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from headrace.base.zones import time_zone
from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_Result = TypeVar("_Result")
ExpressionTree = Any
Scalar = bool | int | float | str | None
NOW = "__now"
"""The column with the time t of a look-up, which ``now()`` reads. Only on-demand features have it."""
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
BINARY = COMPARISONS | {
    "add",
    "sub",
    "mul",
    "div",
    "and",
    "or",
    "fill_null",
    "floor_div",
    "mod",
    "pow",
    "seconds_since",
}
TIME_PARTS = frozenset({"year", "month", "day", "weekday", "hour", "minute"})
OF_FLOATS = frozenset({"sqrt", "exp", "log", "log1p"})
"""Steps that give a double of a number."""
SAME_KIND = frozenset({"abs", "floor", "ceil", "round"})
"""Steps that give a number of the kind that they take."""
MOST_DIGITS = 15
CASTS = ("int", "float", "bool", "str")
"""The kinds that ``cast`` gives."""
OF_A_TEXT = frozenset({"lower", "upper", "strip", "length", "slice", "split_part", "bucket"})
OF_TWO_TEXTS = frozenset({"contains", "starts_with", "ends_with"})
MOST_BUCKETS = 2**31
OF_NUMBERS_IN_A_LIST = frozenset({"list_sum", "list_mean", "list_min", "list_max"})
_UNARY = (
    TIME_PARTS | OF_FLOATS | OF_NUMBERS_IN_A_LIST | (SAME_KIND - {"round"})
    | {"not", "neg", "is_null", "date", "lower", "upper", "strip", "length", "list_length"}
)  # fmt: skip
_ANY_NUMBER = -1
MOST_NESTED = 300
"""The steps inside one another that one expression may have: what reads trees, such as JSON, has a bound."""
MOST_STEPS = 20_000
"""The steps that one expression may have, each as often as it is written out in a spec."""


def _is_digits(value: object) -> bool:
    return _is_int(value) and 0 <= value <= MOST_DIGITS


def _is_zone(value: object) -> bool:
    return isinstance(value, str) and time_zone(value).key == value


def _is_int(value: object) -> TypeGuard[int]:
    return type(value) is int and -(2**63) <= value < 2**63


def is_text(value: object) -> TypeGuard[str]:
    """Return whether a value is a text that has UTF-8, so without half of a pair of surrogates."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


_DATA: dict[str, tuple[Callable[[Any], bool], ...]] = {
    "is_in": (lambda value: isinstance(value, list | tuple),),
    "item": (is_text,),
    "round": (_is_digits,),
    "cast": (lambda value: value in CASTS,),
    "list_get": (_is_int,),
    "slice": (_is_int, lambda value: value is None or _is_int(value)),
    "split_part": (lambda value: is_text(value) and value != "", _is_int),
    "in_zone": (_is_zone,),
    "bucket": (lambda value: _is_int(value) and 1 <= value <= MOST_BUCKETS,),
}
"""The plain data of steps, after one tree: what each has to be."""
_TREES = {
    **dict.fromkeys(BINARY | OF_TWO_TEXTS | {"list_contains"}, 2),
    **dict.fromkeys(_UNARY, 1),
    **dict.fromkeys(_DATA, 1),
    **dict.fromkeys(("min_of", "max_of", "among"), _ANY_NUMBER),
    "when": 3,
    "haversine": 4,
    "now": 0,
}
"""The number of trees that each step takes; at least one if it is -1."""


def literal(value: object) -> Scalar:
    """Return a value that may stand in an expression. Raises DefinitionError for any other."""
    if value is None or is_text(value) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    message = (
        f"{value!r} ({type(value).__name__}) cannot stand in an expression: write a finite number of at most 64 bits, "
        "a string of Unicode, a bool or None"
    )
    raise DefinitionError(message)


def plain_column(tree: ExpressionTree) -> str | None:
    """Return the name of the column if the tree is a column and nothing more, else None."""
    return tree[1] if tree[0] == "col" else None


def columns(tree: ExpressionTree) -> set[str]:
    """Return the names of the columns that a tree reads."""
    return worked_out(tree, _columns_of_step)


def _columns_of_step(tree: ExpressionTree, arms: list[set[str]]) -> set[str]:
    if tree[0] in {"col", "now"}:
        return {tree[1] if tree[0] == "col" else NOW}
    return set().union(*arms)


def worked_out(tree: ExpressionTree, step: Callable[[ExpressionTree, list[_Result]], _Result]) -> _Result:
    """Return what ``step`` makes of a tree and of what it made of the trees that the tree's own step takes.

    A tree that is part of another several times, as one and the same object, is worked out once. So a chain of derived
    columns that each name the one before twice costs as much as it is long. The depth has no bound.
    """
    found: dict[int, _Result] = {}
    waiting = [tree]
    while waiting:
        top = waiting[-1]
        arms = trees_of(top)
        missing = [arm for arm in arms if id(arm) not in found]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        if id(top) not in found:
            found[id(top)] = step(top, [found[id(arm)] for arm in arms])
    return found[id(tree)]


def expect_writable(tree: ExpressionTree) -> None:
    """Raise DefinitionError for an expression that has too many steps, or too many inside one another."""
    nested, steps = worked_out(tree, _measures)
    if nested > MOST_NESTED or steps > MOST_STEPS:
        message = (
            f"an expression has {_many(steps)} steps, up to {_many(nested)} inside one another; it may have "
            f"{MOST_STEPS:,}, and {MOST_NESTED:,} inside one another: give an inner part a name of its own, in "
            "derived= of a view or on_demand= of a service, and use col() of that name"
        )
        raise DefinitionError(message)


def _measures(_: ExpressionTree, arms: list[tuple[int, int]]) -> tuple[int, int]:
    """Return how many steps are inside one another, and how many steps are written."""
    return 1 + max((nested for nested, _ in arms), default=0), 1 + sum(steps for _, steps in arms)


def _many(number: int) -> str:
    return f"{number:,}" if number < 10**12 else "over a trillion"


def trees_of(tree: ExpressionTree) -> list[ExpressionTree]:
    """Return the trees that a step takes; none for a column and for plain data."""
    if tree[0] in {"col", "lit"}:
        return []
    arms: list[ExpressionTree] = tree[1:2] if tree[0] in _DATA else tree[1:]
    return arms


def inline(tree: ExpressionTree, derived: Mapping[str, ExpressionTree]) -> ExpressionTree:
    """Return the tree with each derived column replaced by its expression."""
    if tree is None:
        return tree

    def step(part: ExpressionTree, arms: list[ExpressionTree]) -> ExpressionTree:
        if part[0] == "col":
            return derived.get(part[1], part)
        return with_trees(part, arms) if arms else part

    return worked_out(tree, step)


def with_trees(tree: ExpressionTree, arms: list[ExpressionTree]) -> ExpressionTree:
    """Return a step of other trees, with the same plain data."""
    return [tree[0], *arms, *tree[1 + len(arms) :]]


def check(tree: ExpressionTree) -> None:
    """Raise DefinitionError unless ``tree`` is well formed. It is called for specs that came over a wire."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, list) or not part or not isinstance(part[0], str) or not _is_well_formed(part):
            known = sorted({"col", "lit", *_TREES})
            message = f"{part!r} is not an expression of this version; it knows {known}: upgrade headrace"
            raise DefinitionError(message)
        waiting += trees_of(part)


def _is_well_formed(tree: ExpressionTree) -> bool:
    step, *given = tree
    if step in {"col", "lit"}:
        return len(given) == 1
    data = _DATA.get(step, ())
    trees = _TREES.get(step, 0)
    right = len(given) > 0 if trees == _ANY_NUMBER else len(given) == trees + len(data)
    return right and step in _TREES and all(fits(each) for fits, each in zip(data, given[trees:], strict=False))
