"""Expressions in Polars: for live batches and the log."""

from __future__ import annotations

import polars as pl

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.features.expression import Json, Scalar


def to_polars(tree: Json) -> pl.Expr:
    """The tree as a Polars expression."""
    operator, *arms = tree
    if operator == "col":
        return pl.col(arms[0])
    if operator == "lit":
        return pl.lit(arms[0], dtype=_polars_type(arms[0]))
    if operator == "is_in":
        inner = to_polars(arms[0])
        members = [member for member in arms[1] if member is not None]
        return pl.when(inner.is_not_null()).then(inner.is_in(members))
    return _polars_step(operator, [to_polars(arm) for arm in arms])


def _polars_step(operator: str, arms: list[pl.Expr]) -> pl.Expr:
    left, right = arms[0], arms[-1]
    match operator:
        case "eq" | "ne" | "lt" | "le" | "gt" | "ge":
            return getattr(left, operator)(right)
        case "add" | "sub" | "mul" | "div":
            result = getattr(left, "truediv" if operator == "div" else operator)(right)
            return pl.when(result.is_finite()).then(result)
        case "and":
            return left.and_(right)
        case "or":
            return left.or_(right)
        case "not":
            return left.not_()
        case "fill_null" | "is_null" | "neg":
            return getattr(left, operator)(*arms[1:])
        case _:
            return getattr(left.dt, operator)().cast(pl.Int64)


def _polars_type(value: Scalar) -> pl.DataType | None:
    return pl.Int64() if type(value) is int else None
