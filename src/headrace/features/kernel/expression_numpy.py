"""Expressions in numpy, for applications, which need no Polars."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.base.times import epoch_us
from headrace.features.definitions.decimals import places_of
from headrace.features.definitions.expression import TIME_PARTS, ExpressionTree, is_decimal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

_DAY, _EPOCH = 86_400_000_000, date(1970, 1, 1)


class MaskedColumn:
    """A numpy column with a mask: ``values``, and ``present``, which is true where there is a value."""

    __slots__ = ("present", "values")

    def __init__(self, values: np.ndarray, present: np.ndarray) -> None:
        self.values = values
        self.present = present

    def to_list(self) -> list[Any]:
        """Return Python values; None for a missing one."""
        return [
            value if there else None for value, there in zip(self.values.tolist(), self.present.tolist(), strict=True)
        ]


_DTYPES: dict[str, Any] = {
    "int": np.int64, "float": np.float64, "bool": np.bool_, "str": object, "datetime": np.int64, "date": np.int64,
    "decimal": np.int64, "dict": object,
}  # fmt: skip


def column(values: Iterable[Any], kind: str) -> MaskedColumn:
    """Return a column of Python values of one kind of an expression.

    Times and dates become us, and decimals the number of their smallest units.
    """
    given = list(values)
    present = np.array([value is not None for value in given], bool)
    full = np.zeros(len(given), _DTYPES[kind.partition("(")[0]])
    known = [value for value in given if value is not None]
    full[present] = _numbers(known, kind)
    return MaskedColumn(full, present)


def _numbers(values: list[Any], kind: str) -> list[Any]:
    if kind == "datetime":
        return [epoch_us(value) for value in values]
    if kind == "date":
        return [_DAY * (value.toordinal() - _EPOCH.toordinal()) for value in values]
    if is_decimal(kind):
        return [int(value.scaleb(places_of(kind))) for value in values]
    return values


def to_numpy(tree: ExpressionTree, table: Mapping[str, MaskedColumn], rows: int) -> MaskedColumn:
    """Evaluate a tree over numpy columns of ``rows`` rows. Times are int64 microseconds."""
    operator, *arms = tree
    if operator == "col":
        return table[arms[0]]
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
        return _numpy_step(operator, [to_numpy(arm, table, rows) for arm in arms])


def _item(dicts: MaskedColumn, key: str) -> MaskedColumn:
    found = [of.get(key) if there else None for of, there in zip(dicts.values, dicts.present, strict=True)]
    kind = next((type(value).__name__ for value in found if value is not None), "float")
    return column(found, kind)


_UFUNCS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide,
}  # fmt: skip


def _numpy_step(operator: str, arms: list[MaskedColumn]) -> MaskedColumn:
    left, right = arms[0], arms[-1]
    if operator in TIME_PARTS:
        return MaskedColumn(_time_part(operator, left.values), left.present)
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
    days = micros // _DAY
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
