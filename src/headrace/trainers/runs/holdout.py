"""Time-forward evidence for the gate: which rows to fit on, which to judge by, and both models' scores on these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from headrace.trainers.metrics.entity_blocks import entity_blocks
from headrace.trainers.runs.gate import JudgedRows, KnownRates, constant, judge_first
from headrace.trainers.runs.holdout_span import HoldoutSpan, block_us, closed_days, holdout_span
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from headrace.models.manifest import TimeSpan
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.gate import GateReport

_LAST_PERIOD_US = 7 * DAY_US


@dataclass(frozen=True)
class HoldoutSplit:
    """The examples to fit on and the examples to judge by.

    The holdout has the requests of the ``span``; every example to fit on was matured before it began.
    """

    training: Examples
    holdout: Examples
    span: HoldoutSpan
    block_us: int = DAY_US

    @cached_property
    def blocks(self) -> np.ndarray:
        """The block of each row of the holdout: that of its entity, or of its time, counted from the beginning."""
        if self.holdout.entity is not None:
            return entity_blocks(self.holdout.entity)
        blocks: np.ndarray = (self.holdout.requested_us - self.span.from_us) // self.block_us
        return blocks

    @property
    def empty(self) -> bool:
        """True if one of the two parts has no rows."""
        return not (len(self.training) and len(self.holdout))


def split_holdout(model: Model, data: Examples, t_us: int, excluded: Sequence[TimeSpan] = ()) -> HoldoutSplit:
    """Split the examples at the span of the holdout. It begins earlier by the days without requests."""
    span = holdout_span(model, t_us, excluded)
    span = holdout_span(model, t_us, [*excluded, *closed_days(model.gate, data.requested_us, span.to_us)])
    holdout = (data.requested_us >= span.from_us) & (data.requested_us < span.to_us)
    training = data.requested_us + model.label.spec.within_us <= span.from_us
    return HoldoutSplit(data.take(training), data.take(holdout), span, block_us(model.gate))


@dataclass(frozen=True)
class Challenger:
    """A fitted challenger: what it was fitted on and judged by, its holdout ``scores``, and the looks at each row."""

    split: HoldoutSplit
    scores: np.ndarray
    looks: np.ndarray

    def rows(self, chosen: np.ndarray | slice = slice(None)) -> JudgedRows:
        """The holdout rows with the challenger's scores, or some of them."""
        held = self.split.holdout
        return JudgedRows(
            held.day[chosen],
            held.label[chosen],
            self.scores[chosen],
            self.looks[chosen],
            self.split.blocks[chosen],
            held.task,
        )


def judged_first(challenger: Challenger, model: Model, seed: int) -> GateReport:
    """Judge the challenger for version 1 by the constants that it has to beat."""
    training, span = challenger.split.training, challenger.split.span
    length_us = span.to_us - span.from_us
    period_us = _LAST_PERIOD_US if length_us >= DAY_US else length_us
    newest = training.requested_us >= span.from_us - period_us
    rate = constant(training.label, training.task)
    last_rate = constant(training.label[newest], training.task) if newest.any() else rate
    return judge_first(challenger.rows(), KnownRates(rate, last_rate), model.gate, seed=seed)
