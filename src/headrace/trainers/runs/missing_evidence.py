"""What a holdout lacks to be judged by, in words, and when it can have that."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headrace.base.times import duration_us, said_minute
from headrace.trainers.metrics.intervals import DRAWS
from headrace.trainers.runs.holdout_span import block_us, rounding_us
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from headrace.trainers.definitions import Model
    from headrace.trainers.gate_definition import Gate
    from headrace.trainers.metrics.block_rows import BlockRows
    from headrace.trainers.metrics.intervals import Interval
    from headrace.trainers.runs.holdout_span import HoldoutSpan

NO_CHANCE = "the gate has looked at these days before: no chance of a false pass is left"
"""Why a look that may cost nothing is postponed."""


class Lack(NamedTuple):
    """Why no challenger can be judged, in words, and the event time in microseconds from which it may be possible."""

    reason: str
    again_us: int


class _Short(NamedTuple):
    found: int
    least: int
    named: str


def missing_evidence(scores: BlockRows, gate: Gate, classes: Mapping[str, int]) -> str:
    """Return what a holdout lacks to be judged by, empty if it lacks nothing. The scores themselves do not count.

    ``classes`` are the rows of each class, see :func:`class_counts`.
    """
    short = [f"{n:,} of {m:,} {name}" for n, m, name in _short(scores, gate, classes)]
    return f"not enough evidence in the holdout: {', '.join(short)}" if short else ""


def missing_until(scores: BlockRows, gate: Gate, classes: Mapping[str, int], again_us: int) -> str:
    """Return :func:`missing_evidence` with what has to come. ``again_us`` is the time of :func:`earliest_us`."""
    short = _short(scores, gate, classes)
    timed = "" if gate.block_keys else gate.blocks_named  # which come with time alone
    rows = [f"{m - n:,} more {name}" for n, m, name in short if name != timed]
    blocks = [f"from {said_minute(again_us)} on"] if len(rows) < len(short) else []
    when = ", ".join([*blocks, *([f"when {' and '.join(rows)} are there"] if rows else [])])
    return f"{missing_evidence(scores, gate, classes)}; it can be judged {when}" if short else ""


def _short(scores: BlockRows, gate: Gate, classes: Mapping[str, int]) -> list[_Short]:
    floors = gate.floors
    found = [
        _Short(len(scores.blocks), floors.blocks, gate.blocks_named),
        _Short(len(scores.truth), floors.rows, "rows"),
        *(_Short(n, floors.of_class, _class_named(name)) for name, n in sorted(classes.items(), reverse=True)),
    ]
    return [each for each in found if each.found < each.least]


def _class_named(name: str) -> str:
    return name if name in {"positives", "negatives"} else f"rows of class {name!r}"


def not_defined(metric: str, found: Interval, alpha: float, draws: int = DRAWS) -> str:
    """Return in how many resamples a metric is not defined, in words; an empty text if its bounds hold all the same.

    They hold if the resamples that are not defined are fewer than those beyond the bound for ``alpha``.
    """
    if found.is_defined and found.undefined <= alpha * draws:
        return ""
    where = f"in {found.undefined:,} of {draws:,} resamples of the holdout" if np.isfinite(found.point) else "on it"
    return f"not enough evidence in the holdout: {metric} is not defined {where}"


def next_us(model: Model, span: HoldoutSpan) -> int:
    """Return when a holdout has a new block, or a new day if blocks are longer."""
    return span.to_us + min(block_us(model.gate), DAY_US) + model.label.spec.within_us


def half_new_us(model: Model, span: HoldoutSpan) -> int:
    """Return when half of a holdout is new.

    Where blocks were too much like their neighbours, a look at nearly the same blocks finds the same, and is one more
    chance of a false pass.
    """
    return span.to_us + duration_us(model.gate.holdout) // 2 + model.label.spec.within_us


def earliest_us(model: Model, span: HoldoutSpan, requested_us: NDArray[np.int64]) -> int:
    """Return when a holdout can have enough blocks at the earliest, if the rows at ``requested_us`` count by now.

    Entities may be enough as soon as there are more rows.
    """
    gate, rounded = model.gate, rounding_us(model.gate)
    if gate.block_keys:
        return next_us(model, span)
    first_us = int(requested_us.min()) // rounded * rounded if len(requested_us) else span.to_us
    full_us = first_us + (gate.floors.blocks - 1) * block_us(gate) + rounded
    return max(full_us + model.label.spec.within_us, next_us(model, span))


def first_holdout_us(model: Model, span: HoldoutSpan, requested_us: NDArray[np.int64]) -> int:
    """Return when there can be rows to fit on before the holdout, if the rows at ``requested_us`` are all there are."""
    if not len(requested_us):
        return next_us(model, span)
    rounded, within_us = rounding_us(model.gate), model.label.spec.within_us
    begin_us = -(-(int(requested_us.min()) + within_us) // rounded) * rounded
    return max(begin_us + duration_us(model.gate.holdout) + within_us, next_us(model, span))
