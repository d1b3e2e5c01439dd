"""Evaluates the pure rules at each tick, records what they decide and why, and asks for runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog
from msgspec import UNSET, UnsetType

from headrace.base.failpoints import failpoint
from headrace.base.redaction import without_secrets
from headrace.bus.control_topics import ControlTopics
from headrace.errors import NotInLogYetError, TerminalError, UnavailableError
from headrace.models.model_event_log import FoldedEvents, ModelEventLog
from headrace.trainers.data.exclusions import Exclusions, MemoryExclusions, excluded_spans
from headrace.trainers.data.model_evidence import EvidenceSources, ModelEvidence
from headrace.trainers.data.served_nulls import ServedNulls
from headrace.trainers.data.shared_vectors import SharedVectors
from headrace.trainers.process.decision_writer import DecisionWriter, SendMessage
from headrace.trainers.process.evaluations import PATIENCE_S, Backoff, Evaluations
from headrace.trainers.process.heard_requests import HeardRequest, is_answered
from headrace.trainers.process.operator_queues import OperatorQueues
from headrace.trainers.runs.messages import DecisionRecord, RunEnded
from headrace.trainers.runs.project_code import short_identity
from headrace.trainers.triggers.trigger_state import TriggerState, after_run, as_published, reset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace.event_log.event_log import EventLog
    from headrace.models.manifest import TimeSpan
    from headrace.models.model_state import ModelState
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.operator_requests import OperatorRequest
    from headrace.trainers.triggers.evidence import Evidence
    from headrace.trainers.triggers.trigger_policy import Decision, WatchReport
    from headrace.trainers.triggers.watched_inputs import WatchedInput

logger = structlog.get_logger(__name__)
_LONGEST_REASON = 2_000


@dataclass(frozen=True)
class TriggerOptions:
    """How a trainer decides. ``report`` is called with each decision, written or not.

    ``trusted`` are the types that the deployment's applications load. An evaluation that takes longer than
    ``patience_s`` goes on in its thread. ``owns`` says which models are this trainer's now. Versions that rules compare
    come from the ``sources``.
    """

    report: Callable[[DecisionRecord], None] = lambda _: None
    trusted: Sequence[str] = ()
    patience_s: float = PATIENCE_S
    owns: Callable[[str], bool] = lambda _: True
    sources: EvidenceSources | None = None


class _Evaluated(NamedTuple):
    """The result of an evaluation. ``base`` is the state at its beginning. Without a decision labels were counted."""

    base: TriggerState
    evidence: Evidence
    decision: Decision | None
    watched: WatchReport | UnsetType = UNSET


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
        shared = ServedNulls(log, self._models), SharedVectors(log, self._models)
        self._logs = {model.name: ModelEvidence(model, log, options.sources, *shared) for model in models}
        self._watched: dict[str, Sequence[WatchedInput]] = {}
        self._events = FoldedEvents(model_events)
        self._exclusions = exclusions or MemoryExclusions()
        self._states: dict[str, TriggerState] = {model.name: TriggerState() for model in models}
        self._ticked_us: dict[str, int] = {}
        self._writer = DecisionWriter(ControlTopics(log.namespace), send, options.report)
        self._owns = options.owns
        self._codes = {model.name: short_identity(model, options.trusted) for model in models}
        self._held: dict[str, set[str]] = {}
        self._backoff = Backoff()
        self._failing_since_us: dict[str, int] = {}
        self._queues = OperatorQueues(model.name for model in models)
        self._counted: dict[str, Evidence] = {}  # by the evaluations that are running, or were not looked at yet
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
                self._writer.changes.written(record)
                recorded.add(record.model)
                if record.since_us is not UNSET:
                    self._failing_since_us[record.model] = record.since_us
        for run in runs:
            if run.model in recorded:
                self.run_ended(run)
            elif run.model in self._states:
                self._states[run.model] = after_run(self._states[run.model], run.baseline)

    def hear(self, heard: HeardRequest) -> None:
        """Called with each operator's request. The next :meth:`answer` or :meth:`tick` answers it."""
        if heard.request.action != "cancel" and self._has(heard.request.model):
            self._queues.add(heard)

    def waits(self) -> bool:
        """Return whether an operator's request for a model of this trainer is not answered yet."""
        return any(self._queues.waits(name) for name in self._models if self._owns(name))

    def forget(self, model: str) -> None:
        """Called when a model comes to this trainer, before :meth:`restore`: another one has decided on it since."""
        self._states[model] = TriggerState()
        self._ticked_us.pop(model, None)
        self._failing_since_us.pop(model, None)
        self._queues.clear(model)

    def _has(self, model: str) -> bool:
        return model in self._models and self._owns(model)

    def tick(self, t_us: int) -> None:
        """Evaluate every model's rules at ``t_us``. A tick that was evaluated before changes nothing."""
        self.answer(t_us)
        self._events.read_on()
        excluded = list(self._exclusions.in_force().values())
        for name, model in self._models.items():
            if self._owns(name) and t_us > self._ticked_us.get(name, -1) and not self._backoff.holds(name):
                self._evaluate(model, t_us, excluded_spans(excluded, name))

    def answer(self, t_us: int) -> None:
        """Answer the operators' requests as of ``t_us``, in their order.

        A request for a run that has to wait is told why. Those for runs after it wait too, but a reset does not.
        """
        if self.waits():
            self._events.read_on()
        for name, model in self._models.items():
            if self._owns(name):
                self._queues.answer(name, partial(self._answered, model, t_us))

    def has_ended(self) -> bool:
        """Return whether an evaluation that a tick had to leave has ended: :meth:`finish` records its decision."""
        return any(self._owns(name) and self._evaluations.ended(name) for name in self._models)

    def finish(self, t_us: int) -> None:
        """Record the decisions of the evaluations that have ended. No other one begins."""
        for name, model in self._models.items():
            if self._owns(name) and self._evaluations.ended(name):
                self._evaluate(model, t_us, ())

    def _answered(self, model: Model, t_us: int, wish: HeardRequest, is_held: bool) -> bool:  # noqa: FBT001 - a queue calls it
        """Answer a request, unless it was answered before a restart. Return False if it has to wait.

        ``is_held``: a request for a run before it waits, or was tried a moment ago.
        """
        if is_answered(self._states[model.name], wish):
            return True
        try:
            if wish.request.action == "reset":
                self._reset(model.name, wish, t_us, is_ahead=is_held)
            elif not is_held:
                return self._answer_run(model, wish, t_us)
            else:
                return self._not_yet(model.name, wish, t_us, None)
        except TerminalError as error:  # such as a record that is larger than Kafka takes
            self._failed(model.name, t_us, error)
        return True

    def _reset(self, model: str, wish: HeardRequest, t_us: int, *, is_ahead: bool) -> None:
        request, place = wish.request, {"reset_heard" if is_ahead else "heard": wish.place}
        after = msgspec.structs.replace(reset(self._states[model]), **place)
        logger.info("the triggers of a model are reset", model=model, by=request.by, reason=request.reason)
        self._writer.record(
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

    def _answer_run(self, model: Model, wish: HeardRequest, t_us: int) -> bool:
        """Answer a request for a run. It needs the number of labels, and nothing that a rule measures."""
        name, asked = model.name, wish.request
        try:
            counted = self._count_now(model, t_us)
        except UnavailableError as error:
            self._queues.retries.failed(name)
            return self._not_yet(name, wish, t_us, str(error))
        except Exception as error:  # noqa: BLE001 - the expressions of a user raise anything
            self._refuse(name, wish, t_us, error)
            return True
        if counted is None:
            return self._not_yet(name, wish, t_us, "its labels are being counted")
        self._queues.retries.worked(name)
        seen = as_published(self._states[name], self._events.known(name), t_us, counted.matured_labels)
        evidence = replace(counted, t_us=t_us)
        decision = model.policy.ask(seen, evidence, words=asked.words, lift_pin=asked.lift_pin)
        after = msgspec.structs.replace(decision.after, heard=wish.place)
        self._decided(name, msgspec.structs.replace(decision, after=after), evidence, asked)
        logger.info("a request is answered", model=name, run=decision.request, reason=decision.reason)
        return True

    def _count_now(self, model: Model, t_us: int) -> Evidence | None:
        """Return the labels of a model; None while they are being counted. Raises what counting raises.

        While rules are measured, the labels are those that they are measured on: a slow rule holds no person up.
        """
        name = model.name
        if self._evaluations.busy(name):
            return self._counted.get(name)
        excluded = excluded_spans(self._exclusions.in_force().values(), name)
        try:
            found = self._evaluations.result(name, partial(self._only_counted, model, t_us, excluded))
        except Exception as error:
            counted = self._counted.pop(name, None)
            if counted is None:
                raise
            self._failed(name, t_us, error)  # a rule's
            return counted
        if found is not None:
            self._counted.pop(name, None)
        return None if found is None else found.evidence

    def _not_yet(self, model: str, wish: HeardRequest, t_us: int, why: str | None) -> bool:
        """Tell a person once why a request is not answered yet; None: one before it waits. Return False."""
        if not self._queues.is_told(wish, why):
            why = why or "a request before it waits"
            self._writer.record(
                DecisionRecord(
                    model=model,
                    kind="error",
                    t_us=t_us,
                    reason=without_secrets(f"asked by {wish.request.words}, but not yet: {why}", _LONGEST_REASON),
                    state=self._states[model],
                    operator=wish.request,
                    since_us=self._failing_since_us.get(model, UNSET),
                )
            )
            self._queues.tell(wish, why)
        return False

    def _refuse(self, model: str, wish: HeardRequest, t_us: int, error: Exception) -> None:
        why = without_secrets(f"{type(error).__name__}: {error}", _LONGEST_REASON)
        logger.error("the labels of a model cannot be counted", model=model, exc_info=error)
        after = msgspec.structs.replace(self._states[model], heard=wish.place)
        self._writer.record(
            DecisionRecord(
                model=model,
                kind="asked",
                t_us=t_us,
                reason=f"asked by {wish.request.words}, but the labels cannot be counted: {why}",
                state=after,
                operator=wish.request,
            )
        )
        self._states[model] = after

    def _evaluate(self, model: Model, t_us: int, excluded: Sequence[TimeSpan]) -> None:
        """Evaluate one model. Whatever its rules and its data raise is recorded, and concerns no other model."""
        name, state = model.name, self._states[model.name]
        judge = partial(self._judged, model, state, self._events.known(name), t_us, excluded)
        try:
            found = self._evaluations.result(name, judge)
        except Exception as error:  # noqa: BLE001 - the rules and train functions of a user raise anything
            self._counted.pop(name, None)
            self._failed(name, t_us, error)
            return
        if found is None:
            logger.warning("a rule takes long to measure: it goes on, and holds no other model up", model=name)
            return
        self._counted.pop(name, None)
        if found.decision is None:  # an operator's request wanted to know the labels
            return
        self._backoff.worked(name)
        self._failing_since_us.pop(name, None)
        if found.base is state and self._owns(name):  # else a run has ended meanwhile: the next tick judges anew
            try:
                self._decided(name, found.decision, found.evidence, watched=found.watched)
                self._ticked_us[name] = found.decision.t_us
            except TerminalError as error:  # such as a record that is larger than Kafka takes
                self._failed(name, t_us, error)

    def _only_counted(self, model: Model, t_us: int, excluded: Sequence[TimeSpan]) -> _Evaluated:
        """Count the labels. It runs in the thread of an evaluation."""
        evidence = self._logs[model.name].evidence(t_us, None, excluded)
        self._counted[model.name] = evidence
        return _Evaluated(TriggerState(), evidence, None)

    def _judged(
        self, model: Model, state: TriggerState, published: ModelState, t_us: int, excluded: Sequence[TimeSpan]
    ) -> _Evaluated:
        """Measure and judge. It runs in a thread of its own, and changes nothing but :attr:`_counted`."""
        evidence = self._logs[model.name].evidence(t_us, published, excluded)
        self._counted[model.name] = evidence
        seen = as_published(state, published, t_us, evidence.matured_labels)
        decision = model.policy.evaluate(seen, evidence, self._codes[model.name])
        is_told = evidence.watched is self._watched.get(model.name)
        watched = UNSET if is_told else model.policy.watch_report(seen, evidence, decision)
        return _Evaluated(state, evidence, decision, watched)

    def _decided(
        self, model: str, decision: Decision, evidence: Evidence,
        operator: OperatorRequest | UnsetType = UNSET, watched: WatchReport | UnsetType = UNSET,
    ) -> None:  # fmt: skip
        if decision.fired and decision.request is not None:
            failpoint("before-ask")
            self._writer.ask(model, decision, decision.request)
            failpoint("after-ask")
        self._writer.record(
            DecisionRecord(
                model=model,
                kind="evaluated" if operator is UNSET else "asked",
                t_us=decision.t_us,
                reason=decision.reason,
                state=decision.after,
                decision=decision,
                operator=operator,
                watched=watched,
            )
        )
        self._name_waiting(model, evidence)
        self._states[model] = decision.after  # only after it was sent: otherwise it is sent again
        if watched is not UNSET:
            self._watched[model] = evidence.watched

    def _failed(self, model: str, t_us: int, error: Exception) -> None:
        """Log and record an error of one model.

        A store that does not answer says nothing of the model. A table or column that is not there yet does, and is
        looked for at each tick.
        """
        is_away = isinstance(error, UnavailableError)
        if is_away:
            logger.warning("a model cannot be evaluated now", model=model, error=str(error))
        else:
            self._backoff.failed(model)
        if is_away and not isinstance(error, NotInLogYetError):
            return
        reason = without_secrets(f"{type(error).__name__}: {error}", _LONGEST_REASON)
        since_us = self._failing_since_us.setdefault(model, t_us)
        record = DecisionRecord(
            model=model, kind="error", t_us=t_us, reason=reason, state=self._states[model], since_us=since_us
        )
        if not is_away and self._writer.changes.wanted(record):
            logger.error("the rules of a model fail", model=model, exc_info=error)
        self._writer.record(record)

    def _name_waiting(self, model: str, evidence: Evidence) -> None:
        """Log what holds the labels of a model up, whenever it changes."""
        held = {f"{each.topic}-{each.partition}" for each in evidence.waiting}
        if held != self._held.get(model, set()):
            reasons = [each.reason for each in evidence.waiting]
            logger.warning("labels wait" if held else "labels do not wait any more", model=model, reasons=reasons)
        self._held[model] = held

    def run_ended(self, run: RunEnded) -> None:
        """Called when a run ended: it becomes the new baseline."""
        if not self._has(run.model):
            return
        state = self._states[run.model]
        after = after_run(state, run.baseline)
        if after is state:  # it is known, or older than the baseline
            return
        told = f"{run.outcome}: {run.reason}"
        record = DecisionRecord(
            model=run.model, kind="finished", t_us=run.t_us, reason=told, state=after, run=run.request_id
        )
        self._writer.record(record)
        self._states[run.model] = after
