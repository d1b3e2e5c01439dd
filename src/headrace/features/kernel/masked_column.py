"""Columns of numpy with a mask, and Python values as such a column."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.base.times import epoch_us
from headrace.features.definitions.decimals import places_of
from headrace.features.definitions.expression_kinds import is_decimal, items_of

if TYPE_CHECKING:
    from collections.abc import Iterable

DAY = 86_400_000_000
_EPOCH = date(1970, 1, 1)


class MaskedColumn:
    """A numpy column with a mask: ``values``, and ``present``, which is true where there is a value.

    ``items`` is the kind of the items, if the values are lists.
    """

    __slots__ = ("items", "present", "values")

    def __init__(self, values: np.ndarray, present: np.ndarray, items: str | None = None) -> None:
        self.values = values
        self.present = present
        self.items = items

    def to_list(self) -> list[Any]:
        """Return Python values; None for a missing one."""
        return [
            value if there else None for value, there in zip(self.values.tolist(), self.present.tolist(), strict=True)
        ]


DTYPES: dict[str, Any] = {
    "int": np.int64, "float": np.float64, "bool": np.bool_, "str": object, "datetime": np.int64, "date": np.int64,
    "decimal": np.int64, "dict": object, "list": object, "vector": object,
}  # fmt: skip


def column(values: Iterable[Any], kind: str) -> MaskedColumn:
    """Return a column of Python values of one kind of an expression.

    Times and dates become us, and decimals the number of their smallest units.
    """
    given = list(values)
    present = np.array([value is not None for value in given], bool)
    full = np.zeros(len(given), DTYPES[kind.partition("(")[0]])
    known = [value for value in given if value is not None]
    items = items_of(kind)
    if items is not None:  # numpy would look into them
        for place, value in zip(np.flatnonzero(present).tolist(), known, strict=True):
            full[place] = list(value)
        return MaskedColumn(full, present, items)
    full[present] = _numbers(known, kind)
    return MaskedColumn(full, present)


def _numbers(values: list[Any], kind: str) -> list[Any]:
    if kind == "datetime":
        return [epoch_us(value) for value in values]
    if kind == "date":
        return [DAY * (value.toordinal() - _EPOCH.toordinal()) for value in values]
    if is_decimal(kind):
        return [int(value.scaleb(places_of(kind))) for value in values]
    return values
