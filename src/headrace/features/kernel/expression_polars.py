"""Expressions in Polars, for live batches and the event log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from headrace.features.definitions.expression_tree import NOW, TIME_PARTS, columns, trees_of
from headrace.features.kernel.expression_parts import FINITE, is_part, is_small, parts_of
from headrace.features.kernel.numpy_in_polars import step_of_numpy
from headrace.features.kernel.text_steps import WHITE_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace.features.definitions.expression_tree import ExpressionTree, Scalar


def to_polars(tree: ExpressionTree) -> pl.Expr:
    """Return the tree as a Polars expression."""
    if not is_small(tree) and columns(tree):
        return _in_parts(tree)
    found = _unchecked(tree)
    return _finite(found) if tree[0] in FINITE else found


def _in_parts(tree: ExpressionTree) -> pl.Expr:
    """Return a large tree as a Polars expression that computes one part after the other, each once."""
    parts, reads = parts_of(tree), sorted(columns(tree))

    def function(given: Sequence[pl.Series]) -> pl.Series:
        frame = pl.DataFrame([series.alias(name) for series, name in zip(given, reads, strict=True)])
        for name, part in parts:
            frame = frame.with_columns(to_polars(part).alias(name))
        return frame.to_series(-1)

    return pl.map_batches([pl.col(name) for name in reads], function)


def _unchecked(tree: ExpressionTree) -> pl.Expr:
    """Return the tree as a Polars expression, in which a sum, a product or a quotient may not be finite.

    A check names its expression twice, so checks at each step of a long sum would make it exponentially large.
    """
    operator, *arms = tree
    if operator in {"col", "now"}:
        return pl.col(arms[0] if arms else NOW)
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
    keeps = FINITE.get(operator, 0)
    steps = [_unchecked(arm) if place < keeps else to_polars(arm) for place, arm in enumerate(trees_of(tree))]
    if operator in _OF_NUMPY:
        return step_of_numpy(tree, steps)
    if operator in _CHOICES:
        steps = [
            step if columns(arm) else pl.when(_EVERY_ROW).then(step) for step, arm in zip(steps, arms, strict=True)
        ]
    if operator == "div" and (arms[1][0] != "col" or is_part(arms[1])):
        steps[1] += _ZEROS
    return _polars_step(operator, steps)


_ZEROS = pl.int_range(pl.len()).cast(pl.Float64) * 0.0
"""Makes a column of a divisor that may be constant.

Polars divides by one constant as by its reciprocal, which rounds twice, but not in a batch of one row.
"""
_EVERY_ROW = pl.int_range(pl.len()) >= 0
_CHOICES = frozenset({"when", "min_of", "max_of", "among"})
"""Steps whose constants become columns: Polars loses the height of a column behind a condition that is never true."""
_OF_NUMPY = frozenset(
    {
        "exp",
        "log",
        "log1p",
        "pow",
        "mod",
        "floor_div",
        "round",
        "cast",
        "seconds_since",
        "lower",
        "upper",
        "slice",
        "split_part",
        "bucket",
        "in_zone",
        "haversine",
        "list_contains",
        "list_get",
        "list_sum",
        "list_mean",
        "list_min",
        "list_max",
    }
)
"""Steps that Polars would compute otherwise: another last bit, or another rule for signs or overflow."""
_MIRRORED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def _least(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    return pl.when(left.is_not_null() & right.is_not_null()).then(pl.when(right < left).then(right).otherwise(left))


def _most(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    return pl.when(left.is_not_null() & right.is_not_null()).then(pl.when(right > left).then(right).otherwise(left))


def _by_halves(of_two: Callable[[pl.Expr, pl.Expr], pl.Expr], values: Sequence[pl.Expr]) -> pl.Expr:
    """Return one of several values. One after the other would make an exponentially large expression."""
    if len(values) == 1:
        return values[0]
    middle = (len(values) + 1) // 2
    return of_two(_by_halves(of_two, values[:middle]), _by_halves(of_two, values[middle:]))


def _any_equal(value: pl.Expr, others: Iterable[pl.Expr]) -> pl.Expr:
    return pl.any_horizontal((value == other).fill_null(value=False) for other in others)


def _finite(result: pl.Expr) -> pl.Expr:
    return pl.when(result.is_finite()).then(result)


_STEPS: dict[str, Callable[..., pl.Expr]] = {
    "units": lambda value: value.to_physical().cast(pl.Int64),
    "add": lambda left, right: left.add(right),
    "sub": lambda left, right: left.sub(right),
    "mul": lambda left, right: left.mul(right),
    "div": lambda left, right: left.truediv(right),
    "and": lambda left, right: left.and_(right),
    "or": lambda left, right: left.or_(right),
    "not": lambda value: value.not_(),
    "when": lambda condition, chosen, other: pl.when(condition.cast(pl.Boolean)).then(chosen).otherwise(other),
    "abs": lambda value: pl.when(value.abs() >= 0).then(value.abs()),  # the distance of -2^63 wraps
    "sqrt": lambda value: _finite(value.cast(pl.Float64).sqrt()),
    "list_length": lambda items: items.list.len().cast(pl.Int64),
    "among": lambda value, *others: pl.when(value.is_not_null()).then(_any_equal(value, others)),
    "date": lambda time: time.dt.date(),
    "min_of": lambda *values: _by_halves(_least, values),
    "max_of": lambda *values: _by_halves(_most, values),
    "strip": lambda text: text.str.strip_chars(WHITE_SPACE),
    "length": lambda text: text.str.len_chars().cast(pl.Int64),
    "contains": lambda text, part: text.str.contains(part, literal=True),
    "starts_with": lambda text, start: text.str.starts_with(start),
    "ends_with": lambda text, end: text.str.ends_with(end),
}
"""The steps that are no method of their own name."""


def _polars_step(operator: str, arms: list[pl.Expr]) -> pl.Expr:
    left, *right = arms
    step: pl.Expr
    if operator in TIME_PARTS:
        step = getattr(left.dt, operator)().cast(pl.Int64)
    else:
        step = _STEPS[operator](*arms) if operator in _STEPS else getattr(left, operator)(*right)
    return step


def _polars_type(value: Scalar) -> pl.DataType | None:
    return pl.Int64() if type(value) is int else None
