"""Evaluates the pure rules at each tick, records what they decide and why, and asks for runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog
from msgspec import UNSET

from headrace.base.failpoints import failpoint
from headrace.base.redaction import without_secrets
from headrace.bus.control_topics import ControlTopics
from headrace.errors import TerminalError, UnavailableError
from headrace.models.model_event_log import FoldedEvents, ModelEventLog
from headrace.trainers.data.exclusions import Exclusions, MemoryExclusions, excluded_spans
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.process.decision_changes import DecisionChanges
from headrace.trainers.process.evaluations import PATIENCE_S, Backoff, Evaluations
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, RunEnded
from headrace.trainers.runs.project_code import code_identity
from headrace.trainers.triggers.trigger_state import Baseline, TriggerState, after_run, reset, with_pin, without_pin

if TYPE_CHECKING:
    from headrace.event_log.event_log import EventLog
    from headrace.models.manifest import TimeSpan
    from headrace.models.model_state import ModelState
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.operator_requests import OperatorRequest
    from headrace.trainers.triggers.evidence import Evidence
    from headrace.trainers.triggers.trigger_policy import Decision

logger = structlog.get_logger(__name__)
_LONGEST_REASON = 2_000
SendMessage = Callable[[str, bytes, bytes], None]
"""Sends (topic, key, value). It returns when the broker has the message."""


@dataclass(frozen=True)
class TriggerOptions:
    """How a trainer decides. ``report`` is called with each decision, written or not.

    ``trusted`` are the types that the deployment's applications load. An evaluation that takes longer than
    ``patience_s`` goes on in its thread. ``owns`` says which models are this trainer's now.
    """

    report: Callable[[DecisionRecord], None] = lambda _: None
    trusted: Sequence[str] = ()
    patience_s: float = PATIENCE_S
    owns: Callable[[str], bool] = lambda _: True


class HeardRequest(NamedTuple):
    """An operator's request, and the place of its record: its time in milliseconds, and its offset."""

    request: OperatorRequest
    place: tuple[int, int]


class _Task(NamedTuple):
    """What an evaluation is to find out: as of ``t_us``, without the ``excluded`` spans; for a ``wish``, if any."""

    t_us: int
    excluded: Sequence[TimeSpan]
    wish: HeardRequest | None = None


class _Evaluated(NamedTuple):
    """The result of an evaluation. ``base`` is the state at its beginning, ``wish`` the operator's wish, if any."""

    base: TriggerState
    evidence: Evidence
    decision: Decision
    wish: HeardRequest | None


class TriggerConsumer:
    """Decides for all models of a project. Not for several threads at once.

    The state is in the decision records: call :meth:`restore` with the old records and the ends of runs first. A
    decision is written if it says something new, and once an hour. A model whose rule raises is recorded with the
    error, and tried again; a slow one goes on in its thread. Neither holds up another model.
    """

    def __init__(
        self,
        models: Sequence[Model],
        log: EventLog,
        model_events: ModelEventLog,
        send: SendMessage,
        exclusions: Exclusions | None = None,
        *,
        options: TriggerOptions | None = None,
    ) -> None:
        options = options or TriggerOptions()
        self._models = {model.name: model for model in models}
        self._logs = {model.name: ModelLog(model, log) for model in models}
        self._topics = ControlTopics(log.namespace)
        self._events = FoldedEvents(model_events)
        self._send = send
        self._exclusions = exclusions or MemoryExclusions()
        self._states: dict[str, TriggerState] = {model.name: TriggerState() for model in models}
        self._ticked_us: dict[str, int] = {}
        self._report = options.report
        self._owns = options.owns
        self._codes = {model.name: identity(model, options.trusted) for model in models}
        self._held: dict[str, set[str]] = {}
        self._changes = DecisionChanges()
        self._backoff = Backoff()
        self._failing_since_us: dict[str, int] = {}
        self._wishes: dict[str, deque[HeardRequest]] = {model.name: deque() for model in models}
        self._evaluations: Evaluations[_Evaluated] = Evaluations(options.patience_s)

    def restore(self, records: Iterable[DecisionRecord], runs: Sequence[RunEnded]) -> None:
        """Continue from the last record of each model, and process the runs that have ended since then.

        A model without a record continues from its runs: the next decision records that.
        """
        recorded: set[str] = set()
        for record in records:
            if record.model in self._states:
                self._states[record.model] = record.state
                self._ticked_us[record.model] = max(record.t_us, self._ticked_us.get(record.model, 0))
                self._changes.written(record)
                recorded.add(record.model)
                if record.since_us is not UNSET:
                    self._failing_since_us[record.model] = record.since_us
        for run in runs:
            if run.model in recorded:
                self.run_ended(run)
            elif run.model in self._states:
                self._states[run.model] = after_run(self._states[run.model], _baseline(run))

    def hear(self, heard: HeardRequest) -> None:
        """Called with each operator's request. The next :meth:`answer` or :meth:`tick` answers it."""
        if heard.request.action != "cancel" and self._has(heard.request.model):
            self._wishes[heard.request.model].append(heard)

    def forget(self, model: str) -> None:
        """Called when a model comes to this trainer, before :meth:`restore`: another one has decided on it since."""
        self._states[model] = TriggerState()
        self._ticked_us.pop(model, None)
        self._failing_since_us.pop(model, None)
        self._wishes[model].clear()

    def _has(self, model: str) -> bool:
        return model in self._models and self._owns(model)

    def tick(self, t_us: int) -> None:
        """Evaluate every model's rules at ``t_us``. A tick that was evaluated before changes nothing."""
        self.answer(t_us)
        excluded = list(self._exclusions.in_force().values())
        for name, model in self._models.items():
            if self._owns(name) and t_us > self._ticked_us.get(name, -1) and not self._backoff.holds(name):
                self._evaluate(model, _Task(t_us, excluded_spans(excluded, name)))

    def answer(self, t_us: int) -> None:
        """Answer the operators' requests as of ``t_us``."""
        for name, wishes in self._wishes.items():
            for _ in range(len(wishes) if self._owns(name) else 0):
                self._answer_first(self._models[name], wishes, t_us)

    def _answer_first(self, model: Model, wishes: deque[HeardRequest], t_us: int) -> None:
        """Answer the oldest of a model's requests, unless it was answered before a restart."""
        first, state = wishes[0], self._states[model.name]
        if state.heard is not UNSET and first.place <= state.heard:
            wishes.popleft()
        elif first.request.action == "reset":
            self._reset(model.name, first, t_us)
            wishes.popleft()
        else:
            spans = excluded_spans(self._exclusions.in_force().values(), model.name)
            self._evaluate(model, _Task(t_us, spans, first))

    def _reset(self, model: str, wish: HeardRequest, t_us: int) -> None:
        request, after = wish.request, msgspec.structs.replace(reset(self._states[model]), heard=wish.place)
        logger.info("the triggers of a model are reset", model=model, by=request.by, reason=request.reason)
        self._record(
            DecisionRecord(
                model=model,
                kind="reset",
                t_us=t_us,
                reason=f"reset by {request.words}",
                state=after,
                operator=request,
            )
        )
        self._states[model] = after

    def _evaluate(self, model: Model, task: _Task) -> None:
        """Evaluate one model. Whatever its rules and its data raise is recorded, and concerns no other model."""
        state, published = self._states[model.name], self._events.state(model.name)
        try:
            found = self._evaluations.result(model.name, partial(self._judged, model, state, published, task))
        except Exception as error:  # noqa: BLE001 - the rules and train functions of a user raise anything
            self._failed(model.name, task.t_us, error)
            return
        if found is None:
            logger.warning("the evaluation of a model is slow: the others go on", model=model.name)
            return
        self._backoff.worked(model.name)
        self._failing_since_us.pop(model.name, None)
        if found.base is state and self._owns(model.name):  # else a run has ended meanwhile: the next tick judges anew
            try:
                self._decided(model.name, found)
            except TerminalError as error:  # such as a record that is larger than Kafka takes
                self._failed(model.name, task.t_us, error)
                if found.wish is not None:
                    self._wishes[model.name].popleft()

    def _judged(self, model: Model, state: TriggerState, published: ModelState, task: _Task) -> _Evaluated:
        """Measure and judge. It runs in a thread of its own, and changes nothing."""
        evidence = self._logs[model.name].evidence(task.t_us, published.version, task.excluded)
        seen = _as_published(state, published, task.t_us, evidence.matured_labels)
        if task.wish is None:
            return _Evaluated(state, evidence, model.policy.evaluate(seen, evidence, self._codes[model.name]), None)
        asked = task.wish.request
        decision = model.policy.ask(seen, evidence, words=asked.words, lift_pin=asked.lift_pin)
        after = msgspec.structs.replace(decision.after, heard=task.wish.place)
        return _Evaluated(state, evidence, msgspec.structs.replace(decision, after=after), task.wish)

    def _decided(self, model: str, found: _Evaluated) -> None:
        decision = found.decision
        if decision.fired and decision.request is not None:
            failpoint("before-ask")
            self._ask(model, decision, decision.request)
            failpoint("after-ask")
        self._record(
            DecisionRecord(
                model=model,
                kind="evaluated" if found.wish is None else "asked",
                t_us=decision.t_us,
                reason=decision.reason,
                state=decision.after,
                decision=decision,
                operator=UNSET if found.wish is None else found.wish.request,
            )
        )
        self._name_waiting(model, found.evidence)
        self._states[model] = decision.after  # only after it was sent: otherwise it is sent again
        if found.wish is None:
            self._ticked_us[model] = decision.t_us
        else:
            self._wishes[model].popleft()

    def _failed(self, model: str, t_us: int, error: Exception) -> None:
        """Log and record an error of one model. A store that does not answer says nothing of the model."""
        if isinstance(error, UnavailableError):
            logger.warning("a model cannot be evaluated now", model=model, error=str(error))
            return
        self._backoff.failed(model)
        reason = without_secrets(f"{type(error).__name__}: {error}", _LONGEST_REASON)
        since_us = self._failing_since_us.setdefault(model, t_us)
        record = DecisionRecord(
            model=model, kind="error", t_us=t_us, reason=reason, state=self._states[model], since_us=since_us
        )
        if self._changes.wanted(record):
            logger.error("the rules of a model fail", model=model, exc_info=error)
        self._record(record)

    def _name_waiting(self, model: str, evidence: Evidence) -> None:
        """Log what holds the labels of a model up, whenever it changes."""
        held = {f"{each.topic}-{each.partition}" for each in evidence.waiting}
        if held != self._held.get(model, set()):
            reasons = [each.reason for each in evidence.waiting]
            logger.warning("labels wait" if held else "labels do not wait any more", model=model, reasons=reasons)
        self._held[model] = held

    def _ask(self, model: str, decision: Decision, request_id: str) -> None:
        logger.info("asking for a run", model=model, rule=decision.rule, reason=decision.reason)
        request = RetrainRequest(
            request_id=request_id,
            model=model,
            rule=decision.rule,
            reason=decision.reason,
            t_us=decision.t_us,
            matured_labels=decision.inputs["matured_labels"],
            lifts=UNSET if decision.state.pin is None else decision.state.pin.event,
        )
        self._send(self._topics.retrain_requests, model.encode(), msgspec.json.encode(request))

    def run_ended(self, run: RunEnded) -> None:
        """Called when a run ended: it becomes the new baseline."""
        if not self._has(run.model):
            return
        state = self._states[run.model]
        after = after_run(state, _baseline(run))
        if after is state:  # it is known, or older than the baseline
            return
        self._record(
            DecisionRecord(
                model=run.model,
                kind="finished",
                t_us=run.t_us,
                reason=f"{run.outcome}: {run.reason}",
                state=after,
                run=run.request_id,
            )
        )
        self._states[run.model] = after

    def _record(self, record: DecisionRecord) -> None:
        if self._changes.wanted(record):
            self._send(self._topics.decisions, record.model.encode(), msgspec.json.encode(record))
            failpoint("after-decision")
            self._changes.written(record)
        self._report(record)


def identity(model: Model, trusted: Sequence[str] = ()) -> str:
    """Return another text if the model's code, its definition, an installed package or ``trusted`` has changed."""
    return code_identity(model, sorted(trusted)).removeprefix("sha256:")[:16]


def _baseline(run: RunEnded) -> Baseline:
    """Return the baseline that a run makes. What a person has cancelled is not asked for again because code changed."""
    is_cancelled = run.cancelled is not UNSET
    return Baseline(
        run=run.request_id,
        outcome=run.outcome,
        t_us=run.t_us,
        matured_labels=run.matured_labels,
        code=run.code if run.outcome == "failed" and not is_cancelled else UNSET,
        cancelled=run.reason if is_cancelled else UNSET,
    )


def _as_published(state: TriggerState, model: ModelState, t_us: int, matured_labels: int) -> TriggerState:
    """Bring the state in step with the model events: whether a version is live, and whether a person pins it.

    A version that waits for its approval counts as live: the first one is not asked for again.
    """
    if model.pin is not None:
        return with_pin(state, model.pin.id, t_us, matured_labels)
    if state.pin is not None:
        state = without_pin(state)
    return msgspec.structs.replace(state, live=model.version is not None or model.waiting is not None)
