"""Steps of lists in numpy, one Python list at a time. The sum of doubles is the exact one, rounded once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.features.kernel.masked_column import DTYPES, MaskedColumn
from headrace.features.kernel.text_steps import of_each

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAST = -(2**63)
Items = list[Any]


def _length(arms: list[MaskedColumn]) -> MaskedColumn:
    return of_each(arms, len, np.int64)


def _contains(arms: list[MaskedColumn]) -> MaskedColumn:
    is_float = arms[0].items == "float" or arms[1].values.dtype.kind == "f"

    def has(items: Items, item: Any) -> bool:
        if is_float:  # whole numbers as doubles, as in every comparison
            return float(item) in {float(each) for each in items if each is not None}
        return item in items

    return of_each(arms, has, np.bool_)


def _get(arms: list[MaskedColumn], place: int) -> MaskedColumn:
    def get(items: Items) -> Any:
        return items[place] if -len(items) <= place < len(items) else None

    return of_each(arms, get, DTYPES[_kind(arms[0])])


def _of_numbers(function: Callable[[list[Any]], Any]) -> Callable[[list[MaskedColumn]], MaskedColumn]:
    def step(arms: list[MaskedColumn]) -> MaskedColumn:
        return of_each(arms, lambda items: function(_known(items)), DTYPES[_kind(arms[0])])

    return step


def _mean(arms: list[MaskedColumn]) -> MaskedColumn:
    def mean(items: Items) -> float | None:
        known = _known(items)
        total = _sum(known)
        return None if total is None or not known else _finite(total / len(known))

    return of_each(arms, mean, np.float64)


def _sum(items: Items) -> int | float | None:
    if not any(isinstance(item, float) for item in items):
        total: int = sum(items)
        return total if _LEAST <= total < -_LEAST else None
    try:
        return _finite(math.fsum(items))
    except OverflowError:
        return None


def _known(items: Items) -> Items:
    return [item for item in items if item is not None]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _kind(lists: MaskedColumn) -> str:
    return lists.items or "float"


LIST_STEPS: dict[str, Callable[..., MaskedColumn]] = {
    "list_length": _length,
    "list_contains": _contains,
    "list_get": _get,
    "list_sum": _of_numbers(_sum),
    "list_mean": _mean,
    "list_min": _of_numbers(lambda items: min(items, default=None)),
    "list_max": _of_numbers(lambda items: max(items, default=None)),
}
