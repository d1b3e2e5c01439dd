"""The evidence about the champion on the rows of a holdout: its live answers, and the scores of its gated fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from headrace.base.times import said_minute
from headrace.trainers.data.label_values import prediction_array
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import metric_interval
from headrace.trainers.runs.gate import EvidenceReport, class_counts, judge
from headrace.trainers.runs.missing_evidence import (
    NO_CHANCE,
    Lack,
    earliest_us,
    first_holdout_us,
    missing_until,
    next_us,
    not_defined,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from headrace.models.model_events import Published
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.gate import GateReport
    from headrace.trainers.runs.holdout import Challenger, HoldoutSplit
    from headrace.trainers.runs.holdout_span import HoldoutSpan
    from headrace.trainers.runs.kept_fits import KeptScores
    from headrace.trainers.runs.look_budget import LookCost


@dataclass(frozen=True)
class ChampionEvidence:
    """The champion's predictions of the holdout rows, twice. A row that does not count is NaN.

    ``live`` is what it answered. ``kept`` is what the fit says that passed the gate for it: evidence of the recipe, as
    the version itself was fitted again on more rows.
    """

    live: np.ndarray
    kept: KeptScores


def no_rows(model: Model, split: HoldoutSplit, examples: Examples) -> Lack:
    """Return what is said of a split of the ``examples`` that has no rows to fit on, or none to judge by."""
    again_us = first_holdout_us(model, split.span, examples.requested_us)
    when = f"; it can be judged from {said_minute(again_us)} on" if len(examples) else ""
    return Lack(f"no rows to fit on, or none to judge by{when}", again_us)


def lacking_first(model: Model, split: HoldoutSplit) -> Lack | None:
    """Return what the holdout lacks to judge a first version by, None if nothing. It is known before the fit."""
    held = split.holdout
    again_us = earliest_us(model, split.span, held.requested_us)
    rows = BlockRows(split.blocks, held.label, np.zeros(len(held)))
    missing = missing_until(rows, model.gate, class_counts(held.label, held.task), again_us)
    return Lack(missing, again_us) if missing else None


def spent(model: Model, earlier: Sequence[HoldoutSpan]) -> Lack:
    """Return what is said of a look that has no chance left, after looks at the ``earlier`` holdouts."""
    again_us = next_us(model, max(earlier, key=lambda each: each.to_us))
    return Lack(f"{NO_CHANCE}; it can be judged from {said_minute(again_us)} on", again_us)


def lacking(
    model: Model, split: HoldoutSplit, champion: ChampionEvidence, *, alpha: float, seed: int = 0
) -> Lack | None:
    """Return what both kinds of evidence lack to judge any challenger by, None if one is enough.

    It is known before the fit. ``alpha`` is the chance of a false pass that the look may cost. The deciding metric is
    computed for the champion's predictions. Raises DefinitionError if it is the user's own and raises.
    """
    live = _lack(model, split, champion.live, alpha, seed)
    if live is None:
        return None
    rows = answered(champion.live)
    reason = live.reason
    if "it can be judged" in reason and not rows.all():
        reason += f"; the live version has answered {rows.sum():,} of its {len(rows):,} rows"
    if champion.kept.left_out:
        return Lack(f"{reason}; without its gated fit: {champion.kept.left_out}", live.again_us)
    kept = _lack(model, split, champion.kept.scores, alpha, seed)
    if kept is None:
        return None
    more = "" if kept.reason == live.reason else f"; by its gated fit: {kept.reason}"
    return Lack(reason + more, min(live.again_us, kept.again_us))


def _lack(model: Model, split: HoldoutSplit, theirs: np.ndarray, alpha: float, seed: int) -> Lack | None:
    held, gate, rows = split.holdout, model.gate, answered(theirs)
    again_us = earliest_us(model, split.span, held.requested_us[rows])
    found = BlockRows(split.blocks[rows], held.label[rows], theirs[rows], quantiles=held.task.quantiles)
    missing = missing_until(found, gate, class_counts(held.label[rows], held.task), again_us)
    missing = missing or not_defined(gate.decides_by.name, metric_interval(found, gate.decides_by, seed=seed), alpha)
    return Lack(missing, again_us) if missing else None


def judged_against(
    champion: ChampionEvidence, challenger: Challenger, model: Model, seed: int, cost: LookCost
) -> GateReport:
    """Judge the challenger by what the champion answered live, or by its gated fit if it answered too few rows.

    Answers that cannot decide for another reason, such as days that are like their neighbours, get no second chance.
    """
    live = compared_with(champion.live, challenger, model, seed, cost)
    may_differ = live.verdict == "postponed" and cost.alpha > 0 and not champion.kept.left_out
    if may_differ and _lack(model, challenger.split, champion.live, cost.alpha, seed) is not None:
        kept = compared_with(champion.kept.scores, challenger, model, seed, cost)
        if kept.verdict != "postponed" or kept.too_alike:
            reason = f"{kept.reason}; by the gated fits of both, because of the live answers: {live.reason}"
            return msgspec.structs.replace(kept, reason=reason, decided_by="recipe", live=shown(live))
    return msgspec.structs.replace(live, recipe=_recipe(champion.kept, challenger, model, seed, cost))


def _recipe(kept: KeptScores, challenger: Challenger, model: Model, seed: int, cost: LookCost) -> EvidenceReport:
    """Return what the gated fits say, where the live answers decide."""
    if kept.left_out:
        return EvidenceReport(verdict="postponed", reason=f"version {kept.version} is left out: {kept.left_out}")
    return shown(compared_with(kept.scores, challenger, model, seed, cost, shows_all=False))


def compared_with(
    theirs: np.ndarray, challenger: Challenger, model: Model, seed: int, cost: LookCost, *, shows_all: bool = True
) -> GateReport:
    """Judge the challenger by these scores of another model, on the rows that have one."""
    rows = answered(theirs)
    return judge(challenger.rows(rows), theirs[rows], model.gate, cost=cost, seed=seed, shows_all=shows_all)


def shown(report: GateReport) -> EvidenceReport:
    """Return what is kept of a report that does not decide."""
    return EvidenceReport(
        verdict=report.verdict,
        reason=report.reason,
        rows=report.rows,
        compared=report.metrics.get(report.metric, msgspec.UNSET),
    )


def live_answers(champion: Published, outcomes: pl.DataFrame, held: Examples) -> np.ndarray:
    """Return the champion's live answer to each row; NaN for a row that it did not answer, or was fitted on.

    ``outcomes`` are the champion's, see :meth:`ModelLog.outcomes`.
    """
    requests = outcomes.select("key", "__requested_us").iter_rows()
    places = {request: place for place, request in enumerate(requests)}
    asked = zip(held.key.tolist(), held.requested_us.tolist(), strict=True)
    place = np.array([places.get(request, -1) for request in asked], np.int64)
    theirs = np.full(held.task.shape(len(held)), np.nan)
    known = (place >= 0) & (held.requested_us >= champion.trained_to_us)
    theirs[known] = prediction_array(outcomes.get_column("score"), held.task)[place[known]]
    return theirs


def answered(answers: np.ndarray) -> np.ndarray:
    """Return which rows have an answer."""
    return np.asarray((~np.isnan(answers.reshape(len(answers), -1))).all(axis=1))
