"""Aggregates as loops over rows: each function answers from the rows of a window, oldest first."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from headrace.features.definitions.feature_spec import AgeSpec, GapSpec, SinceSpec

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = tuple[Any, float]
"""A value, and how far from it is equal by the law."""
Counted = tuple[int, int, int, Any]
"""Event time, partition, offset, value."""
_SECOND = 1_000_000


def _since(_: SinceSpec, rows: list[Counted], at_us: int) -> list[Answer]:
    return [(max(0, at_us - rows[-1][0]) / _SECOND if rows else None, 0.0)]


def _age(_: AgeSpec, rows: list[Counted], at_us: int) -> list[Answer]:
    return [(max(0, at_us - rows[0][0]) / _SECOND if rows else None, 0.0)]


def _gap(feature: GapSpec, rows: list[Counted], _: int) -> list[Answer]:
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(rows)]
    if not gaps:
        return [(None, 0.0)]
    return [(gaps[-1] / _SECOND if feature.of == "last" else sum(gaps) / (len(gaps) * _SECOND), 0.0)]


ANSWERS: dict[type, Callable[[Any, list[Counted], int], list[Answer]]] = {
    SinceSpec: _since,
    AgeSpec: _age,
    GapSpec: _gap,
}
