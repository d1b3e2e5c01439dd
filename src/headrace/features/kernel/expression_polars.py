"""Expressions in Polars, for live batches and the event log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from headrace.features.definitions.expression import TIME_PARTS, columns

if TYPE_CHECKING:
    from headrace.features.definitions.expression import ExpressionTree, Scalar


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
    steps = [to_polars(arm) for arm in arms]
    if operator == "div" and arms[1][0] != "col":
        steps[1] += _ZEROS
    return _polars_step(operator, steps)


_ZEROS = pl.int_range(pl.len()).cast(pl.Float64) * 0.0
"""Makes a column of a divisor that may be constant.

Polars divides by one constant as by its reciprocal, which rounds twice, but not in a batch of one row.
"""
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
        case "and" | "or" | "not":
            step = getattr(left, f"{operator}_")(*right)
        case _ if operator in TIME_PARTS:
            step = getattr(left.dt, operator)().cast(pl.Int64)
        case _:
            step = getattr(left, operator)(*right)
    return step


def _polars_type(value: Scalar) -> pl.DataType | None:
    return pl.Int64() if type(value) is int else None
