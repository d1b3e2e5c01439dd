"""What earlier looks of a model's gate have measured of the correlation between neighbouring blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.trainers.metrics.serial_correlation import KnownCorrelation
from headrace.trainers.runs.holdout_span import block_us

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.trainers.gate_definition import Gate
    from headrace.trainers.runs.holdout_span import HoldoutSpan
    from headrace.trainers.runs.messages import RunEnded

_ALIKE = 2
"""Blocks are of another length if they are so many times longer or shorter than the gate's."""


class _Look(NamedTuple):
    from_us: int
    to_us: int
    blocks: int
    lag1: float

    def new_since(self, seen_us: int) -> float:
        """The part of the look's span that is later than this."""
        return max(self.to_us - max(self.from_us, seen_us), 0) / (self.to_us - self.from_us)


def known_correlation(
    ends: Iterable[RunEnded], model: str, request_id: str, gate: Gate, span: HoldoutSpan
) -> KnownCorrelation:
    """Return the mean correlation over the looks of other requests. A look counts by the blocks that it added.

    Looks by another metric, or with blocks of another length, do not count.
    """
    seen_us, blocks, total = 0, 0.0, 0.0
    for look in sorted(_looks(ends, model, request_id, gate), key=lambda each: each.to_us):
        added = look.blocks * look.new_since(seen_us)
        seen_us, blocks, total = max(seen_us, look.to_us), blocks + added, total + added * look.lag1
    own = _Look(span.from_us, span.to_us, 1, 0.0)
    return KnownCorrelation(total / blocks, blocks, own.new_since(seen_us)) if blocks else KnownCorrelation()


def _looks(ends: Iterable[RunEnded], model: str, request_id: str, gate: Gate) -> list[_Look]:
    found = {end.request_id: _look(end, gate) for end in ends if end.model == model and end.request_id != request_id}
    return [look for look in found.values() if look is not None]


def _look(end: RunEnded, gate: Gate) -> _Look | None:
    span, report, wanted_us = end.holdout, end.gate or {}, block_us(gate)
    lag1: Any = report.get("lag1")
    blocks: Any = report.get("blocks", report.get("days"))
    if span is None or lag1 is None or not blocks or report.get("metric") != gate.decides_by.name:
        return None
    length_us = (span.to_us - span.from_us) / blocks
    return _Look(*span, blocks, lag1) if wanted_us / _ALIKE < length_us < wanted_us * _ALIKE else None
