"""Time-forward evidence for the gate: which rows to fit on, which to judge by, and both models' scores on these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headrace.base.times import duration_us
from headrace.trainers.data.label_values import prediction_array
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import metric_interval
from headrace.trainers.runs.gate import JudgedRows, KnownRates, class_counts, constant, judge, judge_first
from headrace.trainers.runs.holdout_span import HoldoutSpan, holdout_span
from headrace.trainers.runs.look_budget import cost_of
from headrace.trainers.runs.missing_evidence import (
    NO_CHANCE,
    Lack,
    earliest_us,
    first_holdout_us,
    missing_until,
    next_us,
    not_defined,
    said_minute,
)
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from headrace.models.manifest import TimeSpan
    from headrace.models.model_events import Published
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

    @property
    def blocks(self) -> np.ndarray:
        """The block of each row of the holdout, counted from its beginning."""
        blocks: np.ndarray = (self.holdout.requested_us - self.span.from_us) // self.block_us
        return blocks

    @property
    def empty(self) -> bool:
        """True if one of the two parts has no rows."""
        return not (len(self.training) and len(self.holdout))


def split_holdout(model: Model, data: Examples, t_us: int, excluded: Sequence[TimeSpan] = ()) -> HoldoutSplit:
    """Split the examples at the span of the holdout."""
    span = holdout_span(model, t_us, excluded)
    holdout = (data.requested_us >= span.from_us) & (data.requested_us < span.to_us)
    training = data.requested_us + model.label.spec.within_us <= span.from_us
    return HoldoutSplit(data.take(training), data.take(holdout), span, duration_us(model.gate.block))


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


def judged_against(
    champion: Published,
    outcomes: pl.DataFrame,
    challenger: Challenger,
    model: Model,
    seed: int,
    *,
    earlier: Sequence[HoldoutSpan] = (),
) -> GateReport:
    """Judge the challenger by what the champion answered live: ``outcomes`` are the champion's, see ModelLog.outcomes.

    Only rows later than the champion's own training rows count. ``earlier`` are the holdouts of the looks before.
    """
    theirs = _answers(champion, outcomes, challenger.split.holdout)
    both = _answered(theirs)
    cost = cost_of(model.gate, challenger.split.span, earlier)
    return judge(challenger.rows(both), theirs[both], model.gate, cost=cost, seed=seed)


def no_rows(model: Model, split: HoldoutSplit, examples: Examples) -> Lack:
    """Return what is said of a split of the ``examples`` that has no rows to fit on, or none to judge by."""
    again_us = first_holdout_us(model, split.span, examples.requested_us)
    when = f"; it can be judged from {said_minute(again_us)} on" if len(examples) else ""
    return Lack(f"no rows to fit on, or none to judge by{when}", again_us)


def lacking(
    model: Model,
    split: HoldoutSplit,
    champion: Published | None,
    outcomes: pl.DataFrame | None,
    *,
    earlier: Sequence[HoldoutSpan] = (),
    seed: int = 0,
) -> Lack | None:
    """Return what the holdout lacks to judge any challenger by, None if nothing. It is known before the fit.

    ``earlier`` are the holdouts of the looks before: a champion is not compared on days that leave no chance. The
    deciding metric is computed for the champion's answers. Raises DefinitionError if it is the user's own and raises.
    """
    held, gate = split.holdout, model.gate
    if champion is None or outcomes is None:
        again_us = earliest_us(model, split.span, held.requested_us)
        nothing = BlockRows(split.blocks, held.label, np.zeros(len(held)))
        missing = missing_until(nothing, gate, class_counts(held.label, held.task), again_us)
        return Lack(missing, again_us) if missing else None
    alpha = cost_of(gate, split.span, earlier).alpha
    if alpha <= 0:
        latest = HoldoutSpan(0, max(each.to_us for each in earlier))
        again_us = next_us(model, latest)
        return Lack(f"{NO_CHANCE}; it can be judged from {said_minute(again_us)} on", again_us)
    theirs = _answers(champion, outcomes, held)
    rows = _answered(theirs)
    again_us = earliest_us(model, split.span, held.requested_us[rows])
    answered = BlockRows(split.blocks[rows], held.label[rows], theirs[rows], quantiles=held.task.quantiles)
    missing = missing_until(answered, gate, class_counts(held.label[rows], held.task), again_us)
    if missing and not rows.all():
        missing += f"; the live version has answered {rows.sum():,} of its {len(held):,} rows"
    missing = missing or not_defined(gate.decides_by.name, metric_interval(answered, gate.decides_by, seed=seed), alpha)
    return Lack(missing, again_us) if missing else None


def _answers(champion: Published, outcomes: pl.DataFrame, held: Examples) -> np.ndarray:
    """Return the champion's score of each row; NaN for a row that it did not answer, or that it was fitted on."""
    requests = outcomes.select("key", "__requested_us").iter_rows()
    places = {request: place for place, request in enumerate(requests)}
    asked = zip(held.key.tolist(), held.requested_us.tolist(), strict=True)
    place = np.array([places.get(request, -1) for request in asked], np.int64)
    theirs = np.full(held.task.shape(len(held)), np.nan)
    known = (place >= 0) & (held.requested_us >= champion.trained_to_us)
    theirs[known] = prediction_array(outcomes.get_column("score"), held.task)[place[known]]
    return theirs


def _answered(answers: np.ndarray) -> np.ndarray:
    """Return which rows have an answer."""
    return np.asarray((~np.isnan(answers.reshape(len(answers), -1))).all(axis=1))
