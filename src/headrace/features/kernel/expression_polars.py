"""Expressions in Polars, for live batches and the event log."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import polars as pl

from headrace.features.definitions.expression_tree import TIME_PARTS, columns, trees_of
from headrace.features.kernel.numpy_in_polars import step_of_numpy

if TYPE_CHECKING:
    from headrace.features.definitions.expression_tree import ExpressionTree, Scalar


def to_polars(tree: ExpressionTree) -> pl.Expr:
    """Return the tree as a Polars expression."""
    operator, *arms = tree
    if operator == "col":
        return pl.col(arms[0])
    if operator == "lit":
        return pl.lit(arms[0], dtype=_polars_type(arms[0]))
    if operator == "is_in":
        inner = to_polars(arms[0])
        members = [member for member in arms[1] if member is not None]
        return pl.when(inner.is_not_null()).then(inner.is_in(members))
    if operator == "item":
        own = pl.element().struct.field("key") == arms[1]
        return to_polars(arms[0]).list.eval(pl.element().filter(own).struct.field("value")).list.first()
    if operator in _MIRRORED and not columns(arms[0]):  # Polars loses the height of a constant compared with all nulls
        operator, arms = _MIRRORED[operator], arms[::-1]
        tree = [operator, *arms]
    steps = [to_polars(arm) for arm in trees_of(tree)]
    if operator in _OF_NUMPY:
        return step_of_numpy(tree, steps)
    if operator == "div" and arms[1][0] != "col":
        steps[1] += _ZEROS
    return _polars_step(operator, steps)


_ZEROS = pl.int_range(pl.len()).cast(pl.Float64) * 0.0
"""Makes a column of a divisor that may be constant.

Polars divides by one constant as by its reciprocal, which rounds twice, but not in a batch of one row.
"""
_OF_NUMPY = frozenset({"exp", "log", "log1p", "pow", "mod", "floor_div", "round", "cast", "seconds_since"})
"""Steps that Polars would compute otherwise: another last bit, or another rule for signs or overflow."""
_MIRRORED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def _polars_step(operator: str, arms: list[pl.Expr]) -> pl.Expr:
    left, *right = arms
    step: pl.Expr
    match operator:
        case "units":
            step = left.to_physical().cast(pl.Int64)
        case "add" | "sub" | "mul" | "div":
            result: pl.Expr = getattr(left, "truediv" if operator == "div" else operator)(*right)
            step = pl.when(result.is_finite()).then(result)
        case "when":
            step = pl.when(left).then(right[0]).otherwise(right[1])
        case "abs":
            step = pl.when(left.abs() >= 0).then(left.abs())  # the distance of -2^63 wraps
        case "sqrt":
            root = left.cast(pl.Float64).sqrt()
            step = pl.when(root.is_finite()).then(root)
        case "min_of" | "max_of":
            step = reduce(_least if operator == "min_of" else _most, arms)
        case "and" | "or" | "not":
            step = getattr(left, f"{operator}_")(*right)
        case _ if operator in TIME_PARTS:
            step = getattr(left.dt, operator)().cast(pl.Int64)
        case _:
            step = getattr(left, operator)(*right)
    return step


def _least(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    return pl.when(left.is_not_null() & right.is_not_null()).then(pl.when(right < left).then(right).otherwise(left))


def _most(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    return pl.when(left.is_not_null() & right.is_not_null()).then(pl.when(right > left).then(right).otherwise(left))


def _polars_type(value: Scalar) -> pl.DataType | None:
    return pl.Int64() if type(value) is int else None
