"""The columns of an answer in Feast's form. The JSON that all columns of a view share is made once."""

from __future__ import annotations

import math
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Raw

from headrace.base.times import SECOND, epoch_us
from headrace.serving.feature_vectors import FEAST_STATUSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.online.value_columns import ColumnLists
    from headrace.serving.features import FeatureVectors, Status, ViewAnswer

_FIRST_DATE, _DAY_S = date(1970, 1, 1), 86_400
_EPOCH = "1970-01-01T00:00:00Z"
_PRESENT, _NULL = "PRESENT", "NULL_VALUE"
_REPEATED, _STREAMS = 64, 8
Texts = Annotated[Raw, Meta(extra_json_schema={"type": "array", "items": {"type": "string"}})]
"""A list of texts that is already JSON."""


FeastScalar = int | float | bool | str | None


class FeastVector(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the answer: a value, a status and a time for each entity."""

    values: list[FeastScalar | list[FeastScalar]]
    statuses: Texts
    event_timestamps: Texts


class FeastRows:
    """The statuses and times of the rows, which all columns of a view share."""

    def __init__(self, states: Sequence[Status | None], times: Raw) -> None:
        self._states, self._times = states, times
        kinds = {*states}
        self._whole = _repeated(_named(kinds.pop()), len(states)) if len(kinds) == 1 else self._statuses()

    @classmethod
    def of_view(cls, found: FeatureVectors, answer: ViewAnswer) -> FeastRows:
        """The rows of a view that was looked up. If no event is known, its time is the epoch."""
        return cls(answer.statuses, _times(epoch_us(found.at), answer.age_us.tobytes()))

    @classmethod
    def made(cls, rows: int) -> FeastRows:
        """The rows of on-demand features, which no view has."""
        return cls([None] * rows, _repeated(_EPOCH, rows))

    def vector(self, column: ColumnLists) -> FeastVector:
        """Return one of the columns."""
        found: list[Any]
        found, there = column
        if found and isinstance(found[there.index(True) if True in there else 0], str | date | list | None):
            found = [_in_seconds(value) for value in found]
        elif not math.isfinite(sum(found)):
            found = [_native(value) for value in found]
        if all(there):
            return FeastVector(values=found, statuses=self._whole, event_timestamps=self._times)
        return FeastVector(
            values=[value if has else None for value, has in zip(found, there, strict=True)],
            statuses=self._statuses(there),
            event_timestamps=self._times,
        )

    def _statuses(self, there: Sequence[bool] | None = None) -> Raw:
        """Return the statuses. ``there``: which rows have a value (None: all)."""
        names = [_named(state) for state in self._states]
        if there is not None:
            names = [_NULL if name is _PRESENT and not has else name for name, has in zip(names, there, strict=True)]
        return Raw(msgspec.json.encode(names))


def of_key(values: list[Any]) -> FeastVector:
    """Return the column of a join key."""
    rows = len(values)
    return FeastVector(values=values, statuses=_repeated(_PRESENT, rows), event_timestamps=_repeated(_EPOCH, rows))


def times_of(times_us: np.ndarray) -> Raw:
    """Return times with the number of digits that Feast writes: none, three or six. ``times_us``: int64."""
    written = msgspec.json.encode(times_us.view("M8[us]").tolist())  # without a zone, with six digits or none
    return Raw(written.replace(b'000"', b'"').replace(b'",', b'Z",').replace(b'"]', b'Z"]'))


@lru_cache(_STREAMS)
def _times(at_us: int, ages_us: bytes) -> Raw:
    """Return the times of the newest events. Views of one stream share them."""
    ages = np.frombuffer(ages_us, np.int64)
    return times_of(np.where(ages >= 0, at_us - ages, 0))


def _named(state: Status | None) -> str:
    """Return Feast's word for the status of a row that has a value."""
    return (state and FEAST_STATUSES[state]) or _PRESENT


@lru_cache(_REPEATED)
def _repeated(text: str, rows: int) -> Raw:
    return Raw(msgspec.json.encode([text] * rows))


def _in_seconds(value: Any) -> Any:
    """Return a text as it is, and a time as Feast has it: in whole seconds since the epoch; a list item by item."""
    if isinstance(value, list):
        return [_in_seconds(item) for item in value]
    if isinstance(value, float):
        return _native(value)
    if isinstance(value, datetime):
        return epoch_us(value) // SECOND
    return (value - _FIRST_DATE).days * _DAY_S if isinstance(value, date) else value


def _native(value: float) -> float | str:
    """Return protobuf's name for a number that JSON does not have."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
