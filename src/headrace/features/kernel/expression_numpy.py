"""Expressions in numpy, for applications, which need no Polars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.features.definitions.expression_tree import NOW, TIME_PARTS, trees_of
from headrace.features.kernel.list_steps import LIST_STEPS
from headrace.features.kernel.masked_column import DAY, MaskedColumn, column
from headrace.features.kernel.number_steps import NUMBER_STEPS
from headrace.features.kernel.place_steps import PLACE_STEPS
from headrace.features.kernel.text_steps import TEXT_STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from headrace.features.definitions.expression_tree import ExpressionTree


def to_numpy(tree: ExpressionTree, table: Mapping[str, MaskedColumn], rows: int) -> MaskedColumn:
    """Evaluate a tree over numpy columns of ``rows`` rows. Times are int64 microseconds."""
    operator, *arms = tree
    if operator in {"col", "now"}:
        return table[arms[0] if arms else NOW]
    if operator == "lit":
        missing = arms[0] is None
        return MaskedColumn(
            np.full(rows, 0 if missing else arms[0], object if isinstance(arms[0], str) else None),
            np.full(rows, not missing),
        )
    if operator == "is_in":
        inner = to_numpy(arms[0], table, rows)
        members = {member for member in arms[1] if member is not None}
        return MaskedColumn(np.array([value in members for value in inner.values.tolist()], bool), inner.present)
    if operator == "units":  # such a column has them already
        return to_numpy(arms[0], table, rows)
    if operator == "item":
        return _item(to_numpy(arms[0], table, rows), arms[1])
    with np.errstate(all="ignore"):
        return numpy_step(tree, [to_numpy(arm, table, rows) for arm in trees_of(tree)])


def _item(dicts: MaskedColumn, key: str) -> MaskedColumn:
    found = [of.get(key) if there else None for of, there in zip(dicts.values, dicts.present, strict=True)]
    kind = next((type(value).__name__ for value in found if value is not None), "float")
    return column(found, kind)


_STEPS = NUMBER_STEPS | TEXT_STEPS | PLACE_STEPS | LIST_STEPS
_UFUNCS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide,
}  # fmt: skip


def numpy_step(tree: ExpressionTree, arms: list[MaskedColumn]) -> MaskedColumn:
    """Return one step over the columns of its trees."""
    operator, left, right = tree[0], arms[0], arms[-1]
    if operator in _STEPS:
        return _STEPS[operator](arms, *tree[1 + len(arms) :])
    if operator in TIME_PARTS:
        return MaskedColumn(_time_part(operator, left.values), left.present)
    if operator == "among":
        return _among(arms)
    return _when(tree, arms) if operator == "when" else _plain_step(operator, left, right)


def _plain_step(operator: str, left: MaskedColumn, right: MaskedColumn) -> MaskedColumn:
    match operator:
        case "and" | "or":
            return _kleene(operator, left, right)
        case "not" | "neg":
            return MaskedColumn(~left.values.astype(bool) if operator == "not" else -left.values, left.present)
        case "is_null":
            return MaskedColumn(~left.present, np.ones_like(left.present))
        case "fill_null":
            return MaskedColumn(np.where(left.present, left.values, right.values), left.present | right.present)
        case _:
            both = left.present & right.present
            result = _apply(operator, left.values, right.values, both)
            return MaskedColumn(result, both & np.isfinite(result) if result.dtype.kind == "f" else both)


def _when(tree: ExpressionTree, arms: list[MaskedColumn]) -> MaskedColumn:
    condition, chosen, other = arms
    is_true = condition.present & condition.values.astype(bool)
    values = [chosen.values, other.values]
    for place, arm in enumerate(tree[2:]):  # null has the type of the other value
        if arm == ["lit", None]:
            values[place] = np.zeros(len(is_true), values[1 - place].dtype)
    return MaskedColumn(np.where(is_true, *values), np.where(is_true, chosen.present, other.present))


def _among(arms: list[MaskedColumn]) -> MaskedColumn:
    value, *others = arms
    found = np.zeros(len(value.present), bool)
    for other in others:
        same = _plain_step("eq", value, other)
        found |= same.present & same.values
    return MaskedColumn(found, value.present)


def _apply(operator: str, left: np.ndarray, right: np.ndarray, both: np.ndarray) -> np.ndarray:
    step = _UFUNCS[operator]
    if object not in (left.dtype, right.dtype):
        result: np.ndarray = step(left, right)
    else:
        result = np.zeros(len(both), bool)
        result[both] = step(left[both], right[both]).astype(bool)
    return result


def _kleene(operator: str, left: MaskedColumn, right: MaskedColumn) -> MaskedColumn:
    deciding = operator == "or"
    truths = [arm.present & (arm.values.astype(bool) == deciding) for arm in (left, right)]
    decided = truths[0] | truths[1]
    return MaskedColumn(np.where(decided, deciding, not deciding), decided | (left.present & right.present))


def _time_part(part: str, micros: NDArray[np.int64]) -> NDArray[np.int64]:
    days = micros // DAY
    match part:
        case "hour":
            return micros // 3_600_000_000 % 24
        case "minute":
            return micros // 60_000_000 % 60
        case "weekday":
            return (days + 3) % 7 + 1
    dates: NDArray[np.datetime64] = days.astype("datetime64[D]")
    months: NDArray[np.datetime64] = dates.astype("datetime64[M]")
    match part:
        case "year":
            return dates.astype("datetime64[Y]").astype(np.int64) + 1970
        case "month":
            return months.astype(np.int64) % 12 + 1
        case _:
            return (dates - months).astype(np.int64) + 1
