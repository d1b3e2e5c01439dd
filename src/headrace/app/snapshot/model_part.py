"""The part of a snapshot about models: from model events, decisions, runs, acknowledgements, heartbeats and checks."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import UNSET

from headrace.app.snapshot.snapshot import (
    ApplicationNow,
    CheckNow,
    ModelNow,
    RuleNow,
    RunBefore,
    RunNow,
    TrainerNow,
    VersionNow,
)
from headrace.base.times import SECOND
from headrace.bus.heartbeats import ApplicationHeartbeat, TrainerHeartbeat, is_silent
from headrace.models.intervention import told
from headrace.models.model_events import Published
from headrace.models.model_state import ModelState, advance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.bus.check_report import CheckReport
    from headrace.bus.heartbeats import Heartbeat
    from headrace.models.model_events import Acknowledgement, ModelEvent
    from headrace.trainers.runs.messages import DecisionRecord, RunEnded

K = TypeVar("K")
H = TypeVar("H", TrainerHeartbeat, ApplicationHeartbeat)
_RUNS, _VERSIONS = 20, 100
_GAINS = ("gain", "gain_low", "gain_high")
_OVERDUE = 2
_FORGOTTEN_US = 3_600 * SECOND
_MOST_PROCESSES = 1_000


class ModelPart:
    """The newest message of each kind about each model, and the state of each model by its events."""

    def __init__(self) -> None:
        self._states: dict[str, ModelState] = {}
        self._live_since: dict[str, int] = {}
        self._decisions: dict[str, tuple[DecisionRecord, int]] = {}
        self._evaluated: dict[str, DecisionRecord] = {}
        self._runs: dict[str, deque[RunEnded]] = {}
        self._acks: dict[tuple[str, str], Acknowledgement] = {}
        self._trainers: dict[str, TrainerHeartbeat] = {}
        self._beats: dict[tuple[str, str], ApplicationHeartbeat] = {}
        self._rates: dict[tuple[str, str], float] = {}
        self._checks: dict[str, CheckReport] = {}

    def happened(self, event: ModelEvent) -> None:
        """Take the next model event of the log."""
        before = self._states.get(event.model, ModelState())
        after = self._states[event.model] = advance(before, event)
        if after.version != before.version:
            self._live_since[event.model] = event.at_us

    def decided(self, record: DecisionRecord, at_us: int) -> None:
        """Take a decision. ``at_us`` is the time of its record."""
        self._decisions[record.model] = (record, at_us)
        if record.decision is not None:
            self._evaluated[record.model] = record

    def ended(self, run: RunEnded) -> None:
        """Take the end of a run."""
        runs = self._runs.setdefault(run.model, deque(maxlen=_RUNS))
        if run.request_id not in {each.request_id for each in runs}:
            runs.append(run)

    def acknowledged(self, answer: Acknowledgement) -> None:
        """Take an application's answer to a model event."""
        self._acks[answer.application, answer.model] = answer

    def beat(self, heartbeat: Heartbeat) -> None:
        """Take a heartbeat. An older one than the one that is known changes nothing."""
        if isinstance(heartbeat, TrainerHeartbeat):
            known = self._trainers.get(heartbeat.process)
            if known is None or known.observed_us < heartbeat.observed_us:
                self._trainers[heartbeat.process] = heartbeat
                self._trainers = _bounded(self._trainers)
            return
        key = (heartbeat.process, heartbeat.model)
        before = self._beats.get(key)
        if before is not None and before.observed_us >= heartbeat.observed_us:
            return
        if before is not None and before.started_us == heartbeat.started_us:
            passed_us = heartbeat.observed_us - before.observed_us
            self._rates[key] = round((heartbeat.predicted - before.predicted) * SECOND / passed_us, 1)
        self._beats[key] = heartbeat
        if len(self._beats) > _MOST_PROCESSES:
            self._beats = _bounded(self._beats)
            self._rates = {key: rate for key, rate in self._rates.items() if key in self._beats}

    def checked(self, report: CheckReport) -> None:
        """Take the result of a check."""
        self._checks[report.key] = report

    # -- what is known now --------------------------------------------------------------------------------------------

    def models(self, wanted: Sequence[str], now_us: int) -> list[ModelNow]:
        """Return the wanted models, and those that are heard of."""
        return [self._model(name, now_us) for name in sorted({*wanted, *self._states, *self._decisions})]

    def applications(self, now_us: int) -> list[ApplicationNow]:
        """Return each application with each model. Of several processes of one application the slowest one counts."""
        alive = {key: beat for key, beat in self._beats.items() if now_us - beat.observed_us < _FORGOTTEN_US}
        keys = {(beat.application, beat.model) for beat in alive.values()} | self._acks.keys()
        return [self._application(*key, now_us) for key in sorted(keys)]

    def trainers(self, now_us: int) -> list[TrainerNow]:
        """Return the trainers that have not said that they end."""
        return [
            TrainerNow(
                process=beat.process,
                observed_us=beat.observed_us,
                is_silent=is_silent(beat, now_us),
                models=list(beat.models),
                ticked_us=None if beat.ticked_us is UNSET else beat.ticked_us,
            )
            for beat in sorted(self._trainers.values(), key=lambda each: each.process)
            if beat.stopped is not True and now_us - beat.observed_us < _FORGOTTEN_US
        ]

    def checks(self, now_us: int) -> list[CheckNow]:
        """Return the newest result of each check."""
        return [
            CheckNow(
                check=each.check,
                subject=each.subject,
                at_us=each.at_us,
                severity=each.severity,
                overdue=each.every_us is not UNSET and now_us - each.at_us > _OVERDUE * each.every_us,
                numbers=dict(each.numbers),
                findings=msgspec.to_builtins(each.findings),
            )
            for each in sorted(self._checks.values(), key=lambda report: report.key)
        ]

    def _model(self, name: str, now_us: int) -> ModelNow:
        state = self._states.get(name, ModelState())
        record, decided_us = self._decisions.get(name, (None, None))
        evaluated = self._evaluated.get(name)
        decision = None if evaluated is None else evaluated.decision
        return ModelNow(
            model=name,
            version=state.version,
            since_us=self._live_since.get(name),
            pinned=None if state.pin is None else told(state.pin),
            waiting=None if state.waiting is None else state.waiting.data.version,
            decided_us=decided_us,
            judged_us=None if record is None else record.t_us,
            held=None if decision is None else decision.rule,
            reason=None if record is None else record.reason,
            progress=None if decision is None else decision.progress,
            rules=[]
            if decision is None
            else [
                RuleNow(rule=each.rule, fired=each.fired, progress=each.progress, reason=each.reason)
                for each in decision.verdicts
            ],
            run=self._run(name, now_us),
            runs=[_before(run) for run in reversed(self._runs.get(name, deque()))],
            versions=_versions(state)[-_VERSIONS:],
            error=record.reason if record is not None and record.kind == "error" else None,
        )

    def _run(self, model: str, now_us: int) -> RunNow | None:
        for beat in self._trainers.values():
            run = beat.run
            if run is UNSET or run.model != model or beat.stopped is True or is_silent(beat, now_us):
                continue
            return RunNow(
                request_id=run.request_id,
                rule=run.rule,
                reason=run.reason,
                phase=run.phase,
                started_us=run.started_us,
                phase_us=run.phase_us,
                observed_us=beat.observed_us,
            )
        return None

    def _application(self, application: str, model: str, now_us: int) -> ApplicationNow:
        live = self._states.get(model, ModelState()).version
        beats = [
            (key, beat)
            for key, beat in self._beats.items()
            if (beat.application, beat.model) == (application, model) and beat.stopped is not True
        ]
        heard = [(key, beat) for key, beat in beats if not is_silent(beat, now_us)]
        ack = self._acks.get((application, model))
        slowest = min((beat for _, beat in heard or beats), key=lambda each: each.version or -1, default=None)
        version = _version_of(slowest, ack)
        refused = ack.reason if ack is not None and not ack.ok else None
        return ApplicationNow(
            application=application,
            model=model,
            version=version,
            live=live,
            observed_us=None if slowest is None else slowest.observed_us,
            acknowledged_us=None if ack is None else ack.at_us,
            is_silent=not heard,
            since_us=None if version == live else self._live_since.get(model),
            rate=round(sum(self._rates.get(key, 0.0) for key, _ in heard), 1)
            if any(key in self._rates for key, _ in heard)
            else None,
            error=refused if slowest is None or slowest.error is UNSET else slowest.error,
        )


def _bounded(beats: dict[K, H]) -> dict[K, H]:
    """Return the heartbeats without the older half if there are too many: each start of a process has a name."""
    if len(beats) <= _MOST_PROCESSES:
        return beats
    return dict(sorted(beats.items(), key=lambda each: each[1].observed_us)[_MOST_PROCESSES // 2 :])


def _version_of(beat: ApplicationHeartbeat | None, ack: Acknowledgement | None) -> int | None:
    """Return the version that an application said last that it has."""
    if beat is not None and beat.version is not UNSET:
        return beat.version
    return ack.version if beat is None and ack is not None and ack.ok else None


def _before(run: RunEnded) -> RunBefore:
    return RunBefore(
        request_id=run.request_id,
        outcome=run.outcome,
        rule=run.rule,
        reason=run.reason,
        t_us=run.t_us,
        version=run.version,
    )


def _versions(state: ModelState) -> list[VersionNow]:
    """Return the versions in the order of their publications."""
    return [_published(state, event, event.data) for event in state.history if isinstance(event.data, Published)]


def _published(state: ModelState, event: ModelEvent, data: Published) -> VersionNow:
    is_waiting = state.waiting is not None and state.waiting.data.version == data.version
    metric = data.gate.get("metric")
    metrics = data.gate.get("metrics")  # whoever may write model events may write anything here
    gains = metrics.get(metric) if isinstance(metrics, dict) and isinstance(metric, str) else None
    known = gains if isinstance(gains, dict) else {}
    return VersionNow(
        version=data.version,
        status="live"
        if data.version == state.version
        else "retired"
        if data.version in state.retired
        else "waiting"
        if is_waiting
        else "published",
        at_us=event.at_us,
        rule=data.cause.rule,
        reason=data.cause.reason,
        metric=metric if isinstance(metric, str) else None,
        **{name: float(known[name]) for name in _GAINS if isinstance(known.get(name), (int, float))},
    )
