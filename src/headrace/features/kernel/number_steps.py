"""Steps of numbers in numpy, and of the time between two times.

Polars takes those from here that it would compute in another way.
"""

from __future__ import annotations

import re
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.features.kernel.elementary import exp, log, log1p, power
from headrace.features.kernel.masked_column import MaskedColumn

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAST = -(2**63)
_BEYOND = 2.0**63
"""The smallest double that is too large for 64 bits."""
_WHOLE = 2.0**52
"""From here on every double is a whole number."""
_INT_TEXT = re.compile(r"[+-]?[0-9]+")
_FLOAT_TEXT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MOST_CHARACTERS = 4_000
"""The characters of a text that may be a whole number: Python refuses to read longer ones."""


def _checked(values: np.ndarray, present: np.ndarray) -> MaskedColumn:
    """Return a column without the values that are not finite."""
    return MaskedColumn(values, present & np.isfinite(values) if values.dtype.kind == "f" else present)


def _of_doubles(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[list[MaskedColumn]], MaskedColumn]:
    def step(arms: list[MaskedColumn]) -> MaskedColumn:
        return _checked(function(arms[0].values.astype(np.float64)), arms[0].present)

    return step


def _of_fractions(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[list[MaskedColumn]], MaskedColumn]:
    def step(arms: list[MaskedColumn]) -> MaskedColumn:
        [arm] = arms
        return MaskedColumn(function(arm.values), arm.present) if arm.values.dtype.kind == "f" else arm

    return step


def _abs(arms: list[MaskedColumn]) -> MaskedColumn:
    found = np.abs(arms[0].values)
    return MaskedColumn(found, arms[0].present & (found >= 0))


def _round(arms: list[MaskedColumn], digits: int) -> MaskedColumn:
    [arm] = arms
    if arm.values.dtype.kind != "f":
        return arm
    scaled, scale = arm.values * 10.0**digits, 10.0**digits
    has_no_fraction = ~(np.abs(scaled) < _WHOLE)
    return MaskedColumn(np.where(has_no_fraction, arm.values, np.rint(scaled) / scale), arm.present)


def _floor_div(arms: list[MaskedColumn]) -> MaskedColumn:
    left, right = (arm.values for arm in arms)
    present = arms[0].present & arms[1].present
    if "f" in {left.dtype.kind, right.dtype.kind}:
        return _checked(np.floor_divide(left.astype(np.float64), right.astype(np.float64)), present)
    fits = (right != 0) & ~((left == _LEAST) & (right == -1))
    return MaskedColumn(np.floor_divide(left, np.where(fits, right, 1)), present & fits)


def _mod(arms: list[MaskedColumn]) -> MaskedColumn:
    left, right = (arm.values for arm in arms)
    present = arms[0].present & arms[1].present
    if "f" in {left.dtype.kind, right.dtype.kind}:
        return _checked(np.remainder(left.astype(np.float64), right.astype(np.float64)), present)
    return MaskedColumn(np.remainder(left, np.where(right == 0, 1, right)), present & (right != 0))


def _pow(arms: list[MaskedColumn]) -> MaskedColumn:
    base, exponent = (arm.values for arm in arms)
    present = arms[0].present & arms[1].present
    if "f" in {base.dtype.kind, exponent.dtype.kind}:
        return _checked(power(base.astype(np.float64), exponent.astype(np.float64)), present)
    found = [
        _whole_power(*pair) if there else None
        for *pair, there in zip(base.tolist(), exponent.tolist(), present.tolist(), strict=True)
    ]
    fits = np.array([value is not None for value in found], bool)
    return MaskedColumn(np.array([value or 0 for value in found], np.int64), fits)


def _whole_power(base: int, exponent: int) -> int | None:
    if exponent < 0:
        return None
    if abs(base) <= 1:
        return base if exponent % 2 else base * base if exponent else 1
    found = base**exponent if exponent < 64 else None  # noqa: PLR2004 - 2^64 has too many bits
    return found if found is not None and _LEAST <= found < -_LEAST else None


def _seconds_since(arms: list[MaskedColumn]) -> MaskedColumn:
    later, earlier = arms
    return MaskedColumn((later.values - earlier.values) / 1e6, later.present & earlier.present)


def _extreme(is_better: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[list[MaskedColumn]], MaskedColumn]:
    def of_two(left: MaskedColumn, right: MaskedColumn) -> MaskedColumn:
        found = np.where(is_better(right.values, left.values), right.values, left.values)
        return MaskedColumn(found, left.present & right.present)

    return lambda arms: reduce(of_two, arms)


def _cast(arms: list[MaskedColumn], to: str) -> MaskedColumn:
    return _CASTS[to](*arms)


def _to_int(arm: MaskedColumn) -> MaskedColumn:
    values = arm.values
    if values.dtype.kind == "O":
        return _parsed(arm, _int_of, np.int64)
    if values.dtype.kind != "f":
        return MaskedColumn(values.astype(np.int64), arm.present)
    fits = (values >= -_BEYOND) & (values < _BEYOND)
    return MaskedColumn(np.where(fits, values, 0.0).astype(np.int64), arm.present & fits)


def _to_float(arm: MaskedColumn) -> MaskedColumn:
    found = _parsed(arm, _float_of, np.float64) if arm.values.dtype.kind == "O" else arm
    return _checked(found.values.astype(np.float64), found.present)


def _to_bool(arm: MaskedColumn) -> MaskedColumn:
    if arm.values.dtype.kind == "O":
        return _parsed(arm, {"true": True, "false": False}.get, np.bool_)
    return MaskedColumn(arm.values != 0, arm.present)


def _to_str(arm: MaskedColumn) -> MaskedColumn:
    if arm.values.dtype.kind == "O":
        return arm
    found = np.empty(len(arm.values), object)
    found[:] = [str(value).lower() for value in arm.values.tolist()]
    return MaskedColumn(found, arm.present)


_CASTS = {"int": _to_int, "float": _to_float, "bool": _to_bool, "str": _to_str}


def _parsed(arm: MaskedColumn, read: Callable[[str], Any], dtype: type[np.generic]) -> MaskedColumn:
    found = [read(text) if there else None for text, there in zip(arm.values, arm.present, strict=True)]
    present = np.array([value is not None for value in found], bool)
    values = np.zeros(len(found), dtype)
    values[present] = [value for value in found if value is not None]
    return MaskedColumn(values, present)


def _int_of(text: str) -> int | None:
    if len(text) > _MOST_CHARACTERS or not _INT_TEXT.fullmatch(text):
        return None
    found = int(text)
    return found if _LEAST <= found < -_LEAST else None


def _float_of(text: str) -> float | None:
    return float(text) if _FLOAT_TEXT.fullmatch(text) else None


NUMBER_STEPS: dict[str, Callable[..., MaskedColumn]] = {
    "abs": _abs,
    "floor": _of_fractions(np.floor),
    "ceil": _of_fractions(np.ceil),
    "round": _round,
    "sqrt": _of_doubles(np.sqrt),
    "exp": _of_doubles(exp),
    "log": _of_doubles(log),
    "log1p": _of_doubles(log1p),
    "floor_div": _floor_div,
    "mod": _mod,
    "pow": _pow,
    "seconds_since": _seconds_since,
    "min_of": _extreme(np.less),
    "max_of": _extreme(np.greater),
    "cast": _cast,
}
