"""Judges the challenger of a run: by the live version, or by constants before there is one, and by anchors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from headrace.trainers.runs.anchors import anchored, anchors
from headrace.trainers.runs.champion_evidence import (
    ChampionEvidence,
    judged_against,
    lacking,
    lacking_first,
    live_answers,
    no_rows,
    spent,
)
from headrace.trainers.runs.fit_task import describe_run
from headrace.trainers.runs.holdout import Challenger, judged_first
from headrace.trainers.runs.holdout_span import holdout_span
from headrace.trainers.runs.known_correlation import known_correlation
from headrace.trainers.runs.look_budget import cost_of, looks_before
from headrace.trainers.runs.provenance import run_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.models.model_events import Published
    from headrace.models.model_state import ModelState
    from headrace.trainers.data.model_log import ModelLog
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.fit_task import FitResult
    from headrace.trainers.runs.gate import GateReport
    from headrace.trainers.runs.holdout_span import HoldoutSpan
    from headrace.trainers.runs.kept_fits import KeptFits, KeptScores
    from headrace.trainers.runs.messages import RunEnded
    from headrace.trainers.runs.missing_evidence import Lack
    from headrace.trainers.runs.run_under_way import RunUnderWay


class RunJudge:
    """Judges the runs of one model. ``ended`` returns the ends of all runs so far: they say what was looked at."""

    def __init__(
        self, model: Model, log: ModelLog, kept: KeptFits, ended: Callable[[], Iterable[RunEnded]], seed: int
    ) -> None:
        self._model = model
        self._log = log
        self._kept = kept
        self._ends = ended
        self._seed = seed

    def lack(self, run: RunUnderWay, state: ModelState) -> Lack | None:
        """Return why no challenger could be judged now, and from when on it may be; None if one could."""
        if run.split.empty:
            return no_rows(self._model, run.split, run.examples)
        champion, model = self._champion(state), self._model
        if champion is None:
            return lacking_first(model, run.split)
        earlier = self._looks(run, self._ends())
        alpha = cost_of(model.gate, run.split.span, earlier).alpha
        if alpha <= 0:
            return spent(model, earlier)
        return lacking(model, run.split, self._evidence(run, champion), alpha=alpha, seed=self._seed)

    def judge(self, run: RunUnderWay, state: ModelState, fitted: FitResult) -> GateReport:
        """Judge the challenger by the live version, or by constants before there is one: once by each of them."""
        champion = self._champion(state)
        version = None if champion is None else champion.version
        if version not in run.reports:
            run.reports[version] = self._placed(run, self._judged(run, state, fitted))
        return run.reports[version]

    def _placed(self, run: RunUnderWay, report: GateReport) -> GateReport:
        """Return the report with the beginning of its holdout, if that is earlier because of closed days."""
        usual, span = holdout_span(self._model, run.request.t_us, run.inputs.excluded), run.split.span
        return report if span == usual else msgspec.structs.replace(report, from_us=span.from_us)

    def _judged(self, run: RunUnderWay, state: ModelState, fitted: FitResult) -> GateReport:
        champion, model, ends = self._champion(state), self._model, [*self._ends()]
        earlier = self._looks(run, ends)
        challenger = Challenger(run.split, fitted.scores, _looks_at(run.split.holdout.requested_us, earlier))
        if champion is None:
            with run.timer.step("gate"):
                return judged_first(challenger, model, self._seed)
        evidence, span = self._evidence(run, champion), run.split.span
        fits = [(self._scores(run, each), roles) for each, roles in anchors(state, model.gate.decides_by.name)]
        known = known_correlation(ends, model.name, run.request.request_id, model.gate, span)
        cost = replace(cost_of(model.gate, span, earlier), known=known)
        with run.timer.step("gate"):
            report = judged_against(evidence, challenger, model, self._seed, cost)
            return anchored(report, fits, challenger, model, self._seed, cost=cost)

    def _looks(self, run: RunUnderWay, ends: Iterable[RunEnded]) -> list[HoldoutSpan]:
        """The holdouts that were looked at so far: those of other runs, and one for each champion of this run."""
        others = looks_before(ends, self._model.name, run.request.request_id)
        return [*others, *[run.split.span] * len(run.reports)]

    def _champion(self, state: ModelState) -> Published | None:
        """Return the live version, unless its predictions are of another task: then the gate is that of a first one."""
        live = state.published_live
        return live if live is not None and live.predicts == self._model.label.predicts else None

    def _evidence(self, run: RunUnderWay, champion: Published) -> ChampionEvidence:
        """Return what the champion answered live, for labels that the run may know, and what its gated fit says."""
        outcomes = self._log.outcomes(
            run.request.t_us, champion.version, "live", excluded=run.inputs.excluded, snapshot=run.snapshot
        )
        return ChampionEvidence(live_answers(champion, outcomes, run.split.holdout), self._scores(run, champion))

    def _scores(self, run: RunUnderWay, published: Published) -> KeptScores:
        """Return what the gated fit of a version says of the holdout. It is asked once in a run."""
        known = run.kept.get(published.version)
        if known is None:
            request_id = run.request.request_id
            seed = run_seed(request_id, self._seed)
            described = describe_run(self._model.name, request_id, seed, run.split.training)
            with run.timer.step("kept_fits"):
                known = self._kept.scores(published, run.split.holdout, described)
            run.kept[published.version] = known
        return known


def _looks_at(at_us: np.ndarray, earlier: Iterable[HoldoutSpan]) -> np.ndarray:
    """Return how often each row of a holdout is looked at, this time included."""
    looks = np.ones(len(at_us), np.int64)
    for from_us, to_us in earlier:
        looks += (from_us <= at_us) & (at_us < to_us)
    return looks
