"""One physical aggregate of a view: what lifting measures, and how two measurements merge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.features.expression import Json


@dataclass(frozen=True)
class Component:
    """One physical aggregate: what it measures of a row, and how two of it merge."""

    measure: str  # count | value | last
    op: str  # add | min | max | last
    dtype: str
    value: Json = None
    where: Json = None
    low: float | None = None
    high: float | None = None
