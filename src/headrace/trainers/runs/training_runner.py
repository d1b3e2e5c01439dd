"""A training run: build, fit, gate, refit, register, publish. One run per model at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np
import structlog

from headrace.errors import UnavailableError
from headrace.models.model_event_log import ModelEventLog, events
from headrace.models.model_state import ModelState, fold
from headrace.models.registry import Registration, Registry, RunRecord
from headrace.trainers.data.examples import ExampleBuilder, Examples
from headrace.trainers.data.exclusions import Exclusions, MemoryExclusions, spans
from headrace.trainers.definitions import Model, Run
from headrace.trainers.runs.fitting import Fits, FitTask
from headrace.trainers.runs.gate_judge import GateJudge, HoldoutSplit, split
from headrace.trainers.runs.messages import RetrainRequest, RunEnded
from headrace.trainers.runs.provenance import RunInputs, make_manifest, metrics, publication, run_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.event_log.event_log import EventLog
    from headrace.models.manifest import TimeSpan
    from headrace.models.model_events import ModelEvent
    from headrace.trainers.definitions import LearnFrom
    from headrace.trainers.runs.fitting import FitResult
    from headrace.trainers.runs.gate import GateReport
    from headrace.trainers.triggers.trigger_state import RunOutcome

T = TypeVar("T")
logger = structlog.get_logger(__name__)
_PUBLICATIONS = 3
"""How often a challenger may meet a new champion before its run ends."""


@dataclass
class _StepTimer:
    """Seconds spent by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    def measure(self, step: str, action: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return action()
        finally:
            spent = self.seconds.get(step, 0.0) + time.perf_counter() - started
            self.seconds[step] = round(spent, 3)


@dataclass(frozen=True)
class _RunAttempt:
    """What one run works on."""

    request: RetrainRequest
    timer: _StepTimer
    data: Examples
    rows: HoldoutSplit
    source: LearnFrom
    excluded: Sequence[TimeSpan]

    @property
    def held(self) -> Examples:
        """The rows to judge by."""
        return self.data.take(self.rows.holdout)


class TrainingRunner:
    """Answers retrain requests of one model.

    ``looks`` are the holdout spans that earlier runs have looked at; ``trusted`` are the types that this deployment's
    applications load: a fit that holds others is a failed run. Spans in ``exclusions`` enter neither fit nor gate.
    """

    def __init__(
        self,
        model: Model,
        log: EventLog,
        model_events: ModelEventLog,
        registry: Registry,
        pool: Fits,
        *,
        seed: int = 0,
        looks: Sequence[tuple[int, int]] = (),
        trusted: Sequence[str] = (),
        exclusions: Exclusions | None = None,
    ) -> None:
        self._model = model
        self._sets = ExampleBuilder(model, log)
        self._events = model_events
        self._registry = registry
        self._pool = pool
        self._judge = GateJudge(model, self._sets.log, seed)
        self._seed = seed
        self._looks = list(looks)
        self._trusted = tuple(trusted)
        self._exclusions = exclusions or MemoryExclusions()

    def run(self, request: RetrainRequest) -> RunEnded:
        """Do what was asked, or say why not. Asked again with the same id, it publishes nothing new.

        Raises UnavailableError where Kafka or the event log does not answer: that says nothing of the model.
        """
        timer = _StepTimer()
        published = self._state().request(request.request_id)
        if published is not None:
            return self._finished(request, timer, "published", "published before", event=published)
        try:
            return self._attempt(request, timer)
        except UnavailableError:
            raise
        except Exception as error:  # whatever it was, the next request is another one
            logger.exception("run failed", request=request.request_id)
            published = self._state().request(request.request_id)  # it may have failed after it was published
            if published is not None:
                return self._finished(request, timer, "published", f"published, then {error}", event=published)
            return self._finished(request, timer, "failed", f"{type(error).__name__}: {error}")

    def _attempt(self, request: RetrainRequest, timer: _StepTimer) -> RunEnded:
        state = self._state()
        source = self._model.learn_from if state.live is not None else "events"
        excluded = self._sets.log.excluded = spans(self._exclusions.in_force().values(), self._model.name)
        data = timer.measure("training_set", lambda: self._sets.build(request.t_us, source))
        rows = split(self._model, data, request.t_us, excluded)
        run = _RunAttempt(request, timer, data, rows, source, excluded)
        if run.rows.empty:
            return self._finished(request, timer, "postponed", "no rows to fit on, or none to judge by", rows=len(data))
        fitted = timer.measure("fit", lambda: self._fit(data.take(run.rows.train), request, run.held))
        report = self._judged(run, state, fitted.scores)
        model: FitResult | None = None
        if report.verdict == "passed":
            model = timer.measure("refit", lambda: self._fit(data, request, None))
        registration = timer.measure("register", lambda: self._register(run, report, fitted, model))
        return self._settle(run, state, registration, report, fitted.scores)

    def _settle(
        self, run: _RunAttempt, state: ModelState, registration: Registration, report: GateReport, scores: np.ndarray
    ) -> RunEnded:
        """Publish what passed. Where another champion came first, the challenger is judged against that one."""
        reason = ""
        for _ in range(_PUBLICATIONS):
            if report.verdict != "passed":
                break
            event = run.timer.measure("publish", partial(self._publish, run, state, registration, report))
            after = self._state()
            settled = after.request(run.request.request_id)
            if settled is not None:
                self._registry.promote(self._model.name, settled.data.version)
                return self._ended(run, "published", report.reason, report, event=settled)
            reason = next(void.reason for void in reversed(after.void) if void.event.id == event.id)
            if after.live_id == state.live_id:  # no other champion: it would be void again
                return self._ended(run, "failed", f"void: {reason}", report)
            logger.info("void: judged again", request=run.request.request_id, reason=reason)
            state, report = after, self._judged(run, after, scores)
        if report.verdict == "passed":
            reason = f"void {_PUBLICATIONS} times, as others published meanwhile; at last: {reason}"
            return self._ended(run, "postponed", reason, report)
        return self._ended(run, report.verdict, report.reason, report)

    def _state(self) -> ModelState:
        return fold(events(self._events.read(), self._model.name))

    def _fit(self, data: Examples, request: RetrainRequest, holdout: Examples | None) -> FitResult:
        import pandas as pd  # noqa: PLC0415

        run = Run(
            model=self._model.name,
            request_id=request.request_id,
            seed=run_seed(request.request_id, self._seed),
            trained_from_us=int(data.requested_us.min()),
            trained_to_us=int(data.requested_us.max()),
        )
        label = pd.Series(data.label, name="label")
        rows = None if holdout is None else holdout.frame
        return self._pool.fit(FitTask(self._model.train, data.frame, label, run, rows, self._trusted))

    def _judged(self, run: _RunAttempt, state: ModelState, scores: np.ndarray) -> GateReport:
        """The gate's word on the challenger against what is live. The days count as looked at from now on."""
        held, champion = run.held, state.published_live
        looks = np.array([1 + sum(first <= day < last for first, last in self._looks) for day in held.day.tolist()])
        self._looks.append(run.rows.days)
        if champion is None:
            return run.timer.measure("gate", lambda: self._judge.first(run.data, run.rows, scores, looks))
        return run.timer.measure("gate", lambda: self._judge.against(champion, run.request.t_us, held, scores, looks))

    def _register(
        self, run: _RunAttempt, report: GateReport, fitted: FitResult, model: FitResult | None
    ) -> Registration:
        request = run.request
        made = RunInputs(self._model, request.request_id, run.source, run.excluded, self._seed)
        return self._registry.record(
            RunRecord(
                name=self._model.name,
                request_id=request.request_id,
                manifest=make_manifest(made, run.data),
                gate=msgspec.to_builtins(report),
                started_us=request.t_us,
                finished_us=request.t_us,
                challenger=fitted.artifact,
                model=None if model is None else model.artifact,
                params={"rule": request.rule, "rows": len(run.data)},
                metrics=metrics(report),
            )
        )

    def _publish(
        self, run: _RunAttempt, state: ModelState, registration: Registration, report: GateReport
    ) -> ModelEvent:
        trained_to_us = int(run.data.requested_us.max())
        event = publication(self._model, run.request, state, registration, report, trained_to_us=trained_to_us)
        self._events.append(event)
        return event

    def _ended(
        self,
        run: _RunAttempt,
        outcome: RunOutcome,
        reason: str,
        report: GateReport,
        *,
        event: ModelEvent | None = None,
    ) -> RunEnded:
        """The end of a run that was judged."""
        return self._finished(
            run.request,
            run.timer,
            outcome,
            reason,
            report=report,
            event=event,
            rows=len(run.data),
            days=run.rows.days,
        )

    def _finished(
        self,
        request: RetrainRequest,
        timer: _StepTimer,
        outcome: RunOutcome,
        reason: str,
        *,
        report: GateReport | None = None,
        event: ModelEvent | None = None,
        rows: int = 0,
        days: tuple[int, int] | None = None,
    ) -> RunEnded:
        return RunEnded(
            request_id=request.request_id,
            model=self._model.name,
            outcome=outcome,
            reason=reason,
            rule=request.rule,
            t_us=request.t_us,
            matured_labels=request.matured_labels,
            version=None if event is None else event.data.version,
            event_id=None if event is None else event.id,
            gate=None if report is None else msgspec.to_builtins(report),
            rows=rows,
            holdout_days=days,
            seconds=timer.seconds,
        )
