"""One physical aggregate of a view: what lifting measures, and how two measurements merge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.features.expression import Json


@dataclass(frozen=True)
class Component:
    """One physical aggregate: what it measures of a row, and how two of it merge.

    ``op`` names the state (``headrace.features.states``) or the sketch (``headrace.features.sketches``), ``argument``
    is what that needs to know beside. ``dtype`` is that of the value: ``<i8``, ``<f8``, or ``text``.
    """

    measure: str  # count | value
    op: str
    dtype: str
    value: Json = None
    where: Json = None
    low: float | None = None
    high: float | None = None
    argument: int = 0
