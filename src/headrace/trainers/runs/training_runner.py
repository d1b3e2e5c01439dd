"""A training run: build, fit, gate, refit, register, publish. One run per model at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import structlog
from msgspec import UNSET

from headrace.base.failpoints import failpoint
from headrace.base.redaction import without_secrets
from headrace.errors import FitError, UnavailableError
from headrace.models.model_events import Published
from headrace.models.registry import FailedRun, Registration, Registry, RunRecord
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.exclusions import Exclusions, MemoryExclusions, excluded_spans
from headrace.trainers.runs.fit_task import FitTask, describe_run
from headrace.trainers.runs.holdout import split_holdout
from headrace.trainers.runs.holdout_span import block_us, holdout_span
from headrace.trainers.runs.kept_fits import KeptFits
from headrace.trainers.runs.messages import RetrainRequest, RunEnded
from headrace.trainers.runs.missing_evidence import half_new_us
from headrace.trainers.runs.provenance import (
    RunInputs,
    make_manifest,
    metrics,
    publication,
    record_tags,
    run_seed,
    short_seed,
)
from headrace.trainers.runs.recorded_verdict import RecordedVerdict, recorded_verdict
from headrace.trainers.runs.refit_check import check_refit
from headrace.trainers.runs.run_judge import RunJudge
from headrace.trainers.runs.run_under_way import RunUnderWay, RunWatch, StepTimer
from headrace.trainers.runs.version_publisher import Judged, PublicationEnd, VersionPublisher, held_by
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace.base.times import Clock
    from headrace.event_log.event_log import EventLog
    from headrace.models.model_event_log import ModelEventLog
    from headrace.models.model_events import ModelEvent
    from headrace.models.model_state import ModelState
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.fit_task import FitResult
    from headrace.trainers.runs.fitting import Fits
    from headrace.trainers.runs.gate import GateReport
    from headrace.trainers.runs.holdout_span import HoldoutSpan
    from headrace.trainers.runs.run_logs import RunLogs
    from headrace.trainers.triggers.trigger_state import RunOutcome

logger = structlog.get_logger(__name__)
_LONGEST_REASON = 2_000
"""The characters of a failed run's reason: an error of a train function may hold all of its rows."""


@dataclass(frozen=True)
class RunOptions:
    """The options of the runs of a deployment.

    ``seed`` is the source of every random choice. ``ended`` returns the ends of all runs so far, of any model, by any
    trainer: they say what was looked at before. ``trusted`` are the types that this deployment's applications load: a
    fit with other types fails its run. ``cancelled`` returns who has cancelled a run and why, None for a run that
    nobody has: a cancelled run fails before it reads anything. ``clock`` gives the times of publications; without it
    they are those of the requests. ``logs`` keeps what train functions print. ``watch`` is told how runs go on.
    """

    seed: int = 0
    ended: Callable[[], Iterable[RunEnded]] = tuple
    trusted: Sequence[str] = ()
    cancelled: Callable[[str], str | None] = lambda _: None
    clock: Clock | None = None
    logs: RunLogs | None = None
    watch: RunWatch = field(default_factory=RunWatch)


class TrainingRunner:
    """Answers the retrain requests of one model. Spans in ``exclusions`` enter neither the fit nor the gate."""

    def __init__(
        self,
        model: Model,
        log: EventLog,
        model_events: ModelEventLog,
        registry: Registry,
        fits: Fits,
        *,
        options: RunOptions | None = None,
        exclusions: Exclusions | None = None,
    ) -> None:
        options = options or RunOptions()
        self._model = model
        self._log = log
        self._examples = ExampleBuilder(model, log)
        self._publisher = VersionPublisher(model.name, model_events, registry)
        self._registry = registry
        self._fits = fits
        self._seed = short_seed(options.seed)
        self._trusted = tuple(options.trusted)
        self._cancelled = options.cancelled
        self._clock = options.clock
        self._logs = options.logs
        self._watch = options.watch
        self._exclusions = exclusions or MemoryExclusions()
        self._fitted: RunUnderWay | None = None
        kept = KeptFits(model, registry, fits, self._trusted)
        self._judge = RunJudge(model, self._examples.model_log, kept, options.ended, self._seed)

    def run(self, request: RetrainRequest) -> RunEnded:
        """Do the requested run and return how it ended. A request that has a verdict already fits nothing.

        Raises UnavailableError if Kafka, the event log or the registry does not answer: that says nothing of the model.
        The same request then goes on where it was: its challenger is neither fitted nor judged again.
        """
        if self._fitted is not None and self._fitted.request != request:
            self._fitted = None
        self._watch.began(request)
        ended = self._end_of(request, StepTimer(watch=self._watch))
        self._watch.ended()
        run, self._fitted = self._fitted, None
        if run is None or not run.reports or ended.holdout_days is not None:
            return ended
        return msgspec.structs.replace(ended, **run.split.span.fields())  # it looked, whatever it failed of then

    def _end_of(self, request: RetrainRequest, timer: StepTimer) -> RunEnded:
        published = self._publisher.state().request(request.request_id)
        if published is not None:
            self._publisher.mend_alias()  # the trainer may have died before it did
            return self._published_before(request, timer, published)
        try:
            return self._attempt(request, timer)
        except UnavailableError:
            raise
        except (Exception, SystemExit) as error:  # the next request does not depend on it
            logger.exception("run failed", request=request.request_id)
            reason = without_secrets(f"{type(error).__name__}: {error}", _LONGEST_REASON)
            published = self._publisher.state().request(request.request_id)  # it may have failed after it was published
            if published is not None:
                return self._ended(request, timer, "published", f"published, then {reason}", event=published)
            self._record_failure(request, reason)
            return self._ended(request, timer, "failed", reason)

    def _record_failure(self, request: RetrainRequest, reason: str) -> None:
        """Keep the failed run in the registry. If that fails, only the end of the run on the bus is kept."""
        params = {"rule": request.rule}
        run = FailedRun(
            self._model.name, request.request_id, reason, request.t_us, params=params, log=self._log_of(request)
        )
        try:
            self._registry.record_failure(run)
        except Exception as error:  # noqa: BLE001 - otherwise it would end the trainer, again after each restart
            logger.warning("a failed run is not in the registry", request=request.request_id, error=str(error))

    def _log_of(self, request: RetrainRequest) -> bytes | None:
        return None if self._logs is None else self._logs.find(request.request_id)

    def _attempt(self, request: RetrainRequest, timer: StepTimer) -> RunEnded:
        """The steps of a run.

        An earlier verdict, a person who cancels it, a pin, too little evidence or a gate that does not pass ends it.
        """
        failpoint("before-training-set")
        recorded = recorded_verdict(self._registry, self._model.name, request.request_id)
        if recorded is not None:
            return self._recorded(request, timer, recorded)
        cancelled = self._cancelled(request.request_id)
        if cancelled is not None:
            raise FitError(cancelled)
        state = self._publisher.state()
        held = held_by(state, request)
        if held:
            return self._ended(request, timer, "postponed", held)
        run = self._fitted or self._build(request, timer, state)
        failpoint("after-training-set")
        lack = self._judge.lack(run, state) if run.fitted is None else None
        if lack is not None:  # a fit would be for nothing
            too_early = self._ended(request, timer, "postponed", lack.reason, rows=len(run.examples))
            return msgspec.structs.replace(too_early, again_us=lack.again_us, against=state.live_id)
        fitted = self._fit(run)
        self._fitted = run
        failpoint("after-fit")
        report = self._judge.judge(run, state, fitted)
        failpoint("after-gate")
        if report.verdict != "passed":
            self._register(run, report, fitted, None)
            return self._judged(run, report.verdict, report.reason, report, against=state.live_id)
        refitted = self._refit(run, fitted)
        failpoint("after-refit")
        registration = self._register(run, report, fitted, refitted)
        failpoint("after-register")
        if registration.version is None:  # another trainer was first, with the same request
            recorded = recorded_verdict(self._registry, self._model.name, request.request_id)
        if recorded is not None:
            return self._recorded(request, timer, recorded)
        ended = self._publish(run, Judged(state, report), registration, fitted)
        against = self._publisher.state().live_id
        return self._judged(run, ended.outcome, ended.reason, ended.report, event=ended.event, against=against)

    def _build(self, request: RetrainRequest, timer: StepTimer, state: ModelState) -> RunUnderWay:
        """Build the training set that is matured at the request's time, and split it for fit and gate."""
        learn_from = "events" if state.live is None else self._model.learn_from
        excluded = excluded_spans(self._exclusions.in_force().values(), self._model.name)
        snapshot = self._log.snapshot()
        with timer.step("training_set"):
            examples = self._examples.build(request.t_us, learn_from, excluded=excluded, snapshot=snapshot)
        inputs = RunInputs(self._model, request.request_id, learn_from, excluded, self._seed)
        split = split_holdout(self._model, examples, request.t_us, excluded)
        return RunUnderWay(request, timer, inputs, snapshot, examples, split)

    def _fit(self, run: RunUnderWay) -> FitResult:
        """Fit the challenger on the older rows and score the holdout with it."""
        with run.timer.step("fit"):
            if run.fitted is None:
                run.fitted = self._fits.fit(self._task(run, run.split.training, is_tried=True))
            return run.fitted

    def _refit(self, run: RunUnderWay, fitted: FitResult) -> FitResult:
        """Fit again on all matured rows: this is the model that is published. Raises FitError if it is another one."""
        with run.timer.step("refit"):
            found = self._fits.fit(self._task(run, run.examples, is_tried=False))
            check_refit(run.split, fitted.scores, found.scores, seed=self._seed)
            return found

    def _task(self, run: RunUnderWay, training: Examples, *, is_tried: bool) -> FitTask:
        request_id = run.request.request_id
        described = describe_run(self._model.name, request_id, run_seed(request_id, self._seed), training)
        return FitTask(
            self._model.train_function,
            training.frame,
            training.label_series(),
            described,
            run.split.holdout.frame,
            self._trusted,
            log=None if self._logs is None else self._logs.path(request_id),
            is_tried=is_tried,
            task=training.task,
        )

    def _register(
        self, run: RunUnderWay, report: GateReport, fitted: FitResult, refitted: FitResult | None
    ) -> Registration:
        """Record both fits, the manifest and the gate's report in the registry, whatever the verdict is."""
        request = run.request
        with run.timer.step("register"):
            return self._registry.record(
                RunRecord(
                    name=self._model.name,
                    request_id=request.request_id,
                    manifest=make_manifest(run.inputs, run.examples, fitted.ran_on),
                    gate=msgspec.to_builtins(report),
                    started_us=request.t_us,
                    finished_us=request.t_us,
                    challenger=fitted.artifact,
                    model=None if refitted is None else refitted.artifact,
                    params={"rule": request.rule, "rows": len(run.examples)},
                    metrics=metrics(report),
                    tags=record_tags(request, report, fitted.ran_on),
                    log=self._log_of(request),
                )
            )

    def _publish(
        self, run: RunUnderWay, judged: Judged, registration: Registration, fitted: FitResult
    ) -> PublicationEnd:
        """Publish the version. If another champion came first, the challenger is judged by that one."""
        trained_to_us = int(run.examples.requested_us.max())

        def event(judged: Judged) -> ModelEvent:
            at_us = run.request.t_us if self._clock is None else max(run.request.t_us, self._clock())
            with run.timer.step("publish"):
                uri = registration.artifact_uri
                return publication(
                    self._model,
                    run.request,
                    judged.state,
                    registration,
                    judged.report,
                    stored=b"" if uri is None else self._registry.read(uri),
                    trained_to_us=trained_to_us,
                    gated_to_us=int(run.split.training.requested_us.max()),
                    at_us=at_us,
                )

        return self._publisher.publish(
            judged, run.request.request_id, event, lambda state: self._judge.judge(run, state, fitted)
        )

    def _judged(
        self,
        run: RunUnderWay,
        outcome: RunOutcome,
        reason: str,
        report: GateReport,
        *,
        event: ModelEvent | None = None,
        against: str | None,
    ) -> RunEnded:
        """The end of a run that came as far as the gate, ``against`` being the event that was live then."""
        ended = self._ended(run.request, run.timer, outcome, reason, event=event, rows=len(run.examples))
        return self._looked(ended, report, run.split.span, against)

    def _looked(self, ended: RunEnded, report: GateReport, span: HoldoutSpan, against: str | None) -> RunEnded:
        """The end of a run with what its gate saw, and from when on it may see something else."""
        ended = msgspec.structs.replace(ended, gate=msgspec.to_builtins(report), **span.fields())
        if ended.outcome != "postponed" or not report.too_alike:
            return ended
        return msgspec.structs.replace(ended, again_us=half_new_us(self._model, span), against=against)

    def _recorded(self, request: RetrainRequest, timer: StepTimer, found: RecordedVerdict) -> RunEnded:
        """The end of a run whose verdict is in the registry: its trainer died before it said so."""
        report, manifest = found.report, found.manifest
        ended = self._ended(request, timer, found.outcome, report.reason, rows=manifest.rows)
        span = holdout_span(self._model, request.t_us, manifest.excluded).beginning(report.from_us)
        return self._looked(ended, report, span, self._publisher.state().live_id)

    def _published_before(self, request: RetrainRequest, timer: StepTimer, event: ModelEvent) -> RunEnded:
        """The end of a run whose version is published: its trainer died before it said so."""
        excluded = excluded_spans(self._exclusions.in_force().values(), self._model.name)
        ended = self._ended(request, timer, "published", "published before", event=event)
        gate = event.data.gate if isinstance(event.data, Published) else None
        span = holdout_span(self._model, request.t_us, excluded).beginning((gate or {}).get("from_us", UNSET))
        return msgspec.structs.replace(ended, gate=gate, **span.fields())

    def _ended(
        self,
        request: RetrainRequest,
        timer: StepTimer,
        outcome: RunOutcome,
        reason: str,
        *,
        event: ModelEvent | None = None,
        rows: int = 0,
    ) -> RunEnded:
        wait_us = block_us(self._model.gate)
        waits = outcome == "postponed" and wait_us < DAY_US  # else it is asked for again on the next day
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
            rows=rows,
            seconds=timer.seconds,
            again_us=request.t_us + wait_us if waits else UNSET,
        )
