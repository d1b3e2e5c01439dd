"""Steps of texts in numpy, one Python text at a time.

:mod:`headrace.features.kernel.expression_polars` takes those from here that Polars would do in another way: it knows
letters of later versions of Unicode, 55 of which Python has no other case for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.features.kernel.hyperloglog import hash_texts
from headrace.features.kernel.masked_column import MaskedColumn

if TYPE_CHECKING:
    from collections.abc import Callable

WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""Unicode's characters with the property White_Space. It is stable: no other character gets it."""


def of_each(arms: list[MaskedColumn], function: Callable[..., Any], dtype: Any) -> MaskedColumn:
    """Return the values of a function of one row's values; None is null, and so is a row with a null."""
    there = np.logical_and.reduce([arm.present for arm in arms])
    rows = zip(*(arm.values.tolist() for arm in arms), there.tolist(), strict=True)
    found = [function(*row) if known else None for *row, known in rows]
    present = np.array([value is not None for value in found], bool)
    values = np.zeros(len(found), dtype)
    known_values = [value for value in found if value is not None]
    if dtype is object:  # numpy would look into values that are lists
        for place, value in zip(np.flatnonzero(present).tolist(), known_values, strict=True):
            values[place] = value
    else:
        values[present] = known_values
    return MaskedColumn(values, present)


def _step(function: Callable[..., Any], dtype: Any) -> Callable[..., MaskedColumn]:
    def step(arms: list[MaskedColumn], *data: Any) -> MaskedColumn:
        return of_each(arms, lambda *row: function(*row, *data), dtype)

    return step


def _part(text: str, separator: str, part: int) -> str | None:
    parts = text.split(separator)
    return parts[part] if -len(parts) <= part < len(parts) else None


def _bucket(arms: list[MaskedColumn], buckets: int) -> MaskedColumn:
    [arm] = arms
    hashes = hash_texts([text if there else "" for text, there in zip(arm.values, arm.present, strict=True)])
    return MaskedColumn((hashes % np.uint64(buckets)).astype(np.int64), arm.present)


TEXT_STEPS: dict[str, Callable[..., MaskedColumn]] = {
    "lower": _step(str.lower, object),
    "upper": _step(str.upper, object),
    "strip": _step(lambda text: text.strip(WHITE_SPACE), object),
    "length": _step(len, np.int64),
    "contains": _step(lambda text, part: part in text, np.bool_),
    "starts_with": _step(str.startswith, np.bool_),
    "ends_with": _step(str.endswith, np.bool_),
    "slice": _step(lambda text, start, stop: text[start:stop], object),
    "split_part": _step(_part, object),
    "bucket": _bucket,
}
