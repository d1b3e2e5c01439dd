"""Rows to partials in Polars: the expression of each physical column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.features.expression_polars import to_polars

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.features.component import Component
    from headrace.features.expression import Json

_TYPES = {"<i8": pl.Int64(), "<f8": pl.Float64()}
_IDENTITY: dict[tuple[str, str], Any] = {
    ("add", "<i8"): 0,
    ("add", "<f8"): 0.0,
    ("min", "<i8"): 2**63 - 1,
    ("min", "<f8"): float("inf"),
    ("max", "<i8"): -(2**63),
    ("max", "<f8"): float("-inf"),
    ("last", "<i8"): 0,
    ("last", "<f8"): 0.0,
}
_NEVER = -(2**63)


def lift_expressions(
    components: Iterable[tuple[Component, Json]], physical: Sequence[tuple[str, str, str]]
) -> list[pl.Expr]:
    """One expression a physical column; each component comes with its filter, derived columns replaced."""
    expressions = [expression for component, where in components for expression in _lift(component, where)]
    return [expression.alias(name) for expression, (name, _, _) in zip(expressions, physical, strict=True)]


def _lift(component: Component, where: Json) -> list[pl.Expr]:
    value = pl.lit(0) if component.value is None else to_polars(component.value)
    counted = _counted(component, where, value)
    if component.measure == "count":
        return [pl.lit(1, pl.Int64) if counted is None else counted.fill_null(value=False).cast(pl.Int64)]
    measured = _measured(component, where, value)
    if component.op != "last":
        return [measured]
    counted = value.is_not_null() if counted is None else counted & value.is_not_null()
    return [_where(counted, pl.col("__time"), _NEVER), _where(counted, pl.col("offset"), 0), measured]


def _counted(component: Component, where: Json, value: pl.Expr) -> pl.Expr | None:
    """Whether a row counts; None where every row does."""
    conditions = [] if where is None else [to_polars(where)]
    if component.measure == "count" and component.value is not None:
        conditions.append(value.is_not_null())
    if component.low is not None:
        conditions.append(value >= component.low)
    if component.high is not None:
        conditions.append(value < component.high)
    return pl.all_horizontal(conditions) if conditions else None


def _measured(component: Component, where: Json, value: pl.Expr) -> pl.Expr:
    identity = _IDENTITY[component.op, component.dtype]
    kept = value.cast(_TYPES[component.dtype])
    if where is not None:
        kept = pl.when(to_polars(where)).then(kept)
    return kept.fill_null(pl.lit(identity, _TYPES[component.dtype]))


def _where(condition: pl.Expr, value: pl.Expr, otherwise: int) -> pl.Expr:
    return pl.when(condition).then(value).otherwise(pl.lit(otherwise, pl.Int64))
