"""Time-forward evidence for the gate: which days to fit on, which to judge by, and both models' scores on these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headrace.base.times import duration_us
from headrace.trainers.data.exclusions import merged
from headrace.trainers.data.label_values import prediction_array
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import metric_interval
from headrace.trainers.runs.gate import (
    NO_CHANCE,
    JudgedRows,
    KnownRates,
    class_counts,
    constant,
    judge,
    judge_first,
    missing_evidence,
    not_defined,
)
from headrace.trainers.runs.look_budget import look_cost
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from headrace.models.manifest import TimeSpan
    from headrace.models.model_events import Published
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.gate import GateReport

_LAST_PERIOD_DAYS = 7


@dataclass(frozen=True)
class HoldoutSplit:
    """The examples to fit on and the examples to judge by.

    The holdout is the whole days [first, last), counted since the epoch; every example to fit on was matured before
    the first of them began.
    """

    training: Examples
    holdout: Examples
    days: tuple[int, int]
    block_us: int = DAY_US

    @property
    def blocks(self) -> np.ndarray:
        """The block of each row of the holdout, counted from its beginning."""
        blocks: np.ndarray = (self.holdout.requested_us - self.days[0] * DAY_US) // self.block_us
        return blocks

    @property
    def empty(self) -> bool:
        """True if one of the two parts has no rows."""
        return not (len(self.training) and len(self.holdout))


def holdout_days(model: Model, t_us: int, excluded: Sequence[TimeSpan] = ()) -> tuple[int, int]:
    """Return the newest whole matured days, [first, last), as many as the model's gate asks for.

    Days that are excluded as a whole do not count: the holdout begins earlier instead.
    """
    last = first = (t_us - model.label.spec.within_us) // DAY_US
    wanted, bad = duration_us(model.gate.holdout) // DAY_US, merged(excluded)
    while wanted:
        first -= 1
        wanted -= not any(low <= first * DAY_US and (first + 1) * DAY_US <= high for low, high in bad)
    return int(first), int(last)


def split_holdout(model: Model, data: Examples, t_us: int, excluded: Sequence[TimeSpan] = ()) -> HoldoutSplit:
    """Split the examples at the days of the holdout."""
    first, last = days = holdout_days(model, t_us, excluded)
    holdout = (data.day >= first) & (data.day < last)
    training = data.requested_us + model.label.spec.within_us <= first * DAY_US
    return HoldoutSplit(data.take(training), data.take(holdout), days, duration_us(model.gate.block))


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
    training = challenger.split.training
    newest = training.day >= challenger.split.days[0] - _LAST_PERIOD_DAYS
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
    earlier: Sequence[tuple[int, int]] = (),
) -> GateReport:
    """Judge the challenger by what the champion answered live: ``outcomes`` are the champion's, see ModelLog.outcomes.

    Only rows later than the champion's own training rows count. ``earlier`` are the holdouts of the looks before.
    """
    theirs = _answers(champion, outcomes, challenger.split.holdout)
    both = _answered(theirs)
    cost = look_cost(model.gate, challenger.split.days[1], earlier)
    return judge(challenger.rows(both), theirs[both], model.gate, cost=cost, seed=seed)


def lacking(
    model: Model,
    split: HoldoutSplit,
    champion: Published | None,
    outcomes: pl.DataFrame | None,
    *,
    earlier: Sequence[tuple[int, int]] = (),
    seed: int = 0,
) -> str:
    """Return what the holdout lacks to judge any challenger by, empty if nothing. It is known before the fit.

    ``earlier`` are the holdouts of the looks before: a champion is not compared on days that leave no chance. The
    deciding metric is computed for the champion's answers. Raises DefinitionError if it is the user's own and raises.
    """
    held, gate = split.holdout, model.gate
    if champion is None or outcomes is None:
        nothing = BlockRows(split.blocks, held.label, np.zeros(len(held)))
        return missing_evidence(nothing, gate, class_counts(held.label, held.task))
    alpha = look_cost(gate, split.days[1], earlier).alpha
    if alpha <= 0:
        return NO_CHANCE
    theirs = _answers(champion, outcomes, held)
    rows = _answered(theirs)
    answered = BlockRows(split.blocks[rows], held.label[rows], theirs[rows], quantiles=held.task.quantiles)
    missing = missing_evidence(answered, gate, class_counts(held.label[rows], held.task))
    if missing and not rows.all():
        missing += f"; the live version has answered {rows.sum():,} of its {len(held):,} rows"
    return missing or not_defined(gate.decides_by.name, metric_interval(answered, gate.decides_by, seed=seed), alpha)


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
