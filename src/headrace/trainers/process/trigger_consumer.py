"""Evaluates the pure rules at each tick, records every decision with its reason, and asks for runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from headrace.bus.topics import DECISIONS, RETRAIN_REQUESTS
from headrace.models.model_event_log import FoldedEvents, ModelEventLog
from headrace.trainers.data.exclusions import Exclusions, MemoryExclusions, excluded_spans
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, RunEnded
from headrace.trainers.triggers.trigger_state import Baseline, TriggerState, after_run, with_pin, without_pin

if TYPE_CHECKING:
    from headrace.event_log.event_log import EventLog
    from headrace.models.model_state import ModelState
    from headrace.trainers.definitions import Model
    from headrace.trainers.triggers.evidence import Evidence
    from headrace.trainers.triggers.trigger_policy import Decision

logger = structlog.get_logger(__name__)
SendMessage = Callable[[str, bytes, bytes], None]
"""Sends (topic, key, value). It returns when the broker has the message."""


class TriggerConsumer:
    """Decides for all models of a project. Not for several threads at once.

    The state is in the decision records: call :meth:`restore` with the old records and the ends of runs first.
    ``report`` is called with each record that was sent.
    """

    def __init__(
        self,
        models: Sequence[Model],
        log: EventLog,
        model_events: ModelEventLog,
        send: SendMessage,
        exclusions: Exclusions | None = None,
        *,
        report: Callable[[DecisionRecord], None] = lambda _: None,
    ) -> None:
        self._models = {model.name: model for model in models}
        self._logs = {model.name: ModelLog(model, log) for model in models}
        self._events = FoldedEvents(model_events)
        self._send = send
        self._exclusions = exclusions or MemoryExclusions()
        self._states: dict[str, TriggerState] = {model.name: TriggerState() for model in models}
        self._ticked_us: dict[str, int] = {}
        self._report = report
        self._held: dict[str, set[str]] = {}

    def restore(self, records: Sequence[DecisionRecord], runs: Sequence[RunEnded]) -> None:
        """Continue from the last record of each model, and process the runs that have ended since then."""
        for record in records:
            if record.model in self._states:
                self._states[record.model] = record.state
                self._ticked_us[record.model] = max(record.t_us, self._ticked_us.get(record.model, 0))
        for run in runs:
            state = self._states.get(run.model)
            if state is not None and (state.baseline is None or run.t_us > state.baseline_t_us):
                self.run_ended(run)

    def tick(self, t_us: int) -> None:
        """Evaluate every model's rules at ``t_us``. A tick that was evaluated before changes nothing."""
        for name, model in self._models.items():
            if t_us > self._ticked_us.get(name, -1):
                self._evaluate(model, t_us)
                self._ticked_us[name] = t_us

    def _evaluate(self, model: Model, t_us: int) -> None:
        model_state = self._events.state(model.name)
        excluded = excluded_spans(self._exclusions.in_force().values(), model.name)
        evidence = self._logs[model.name].evidence(t_us, model_state.version, excluded)
        state = _as_published(self._states[model.name], model_state, t_us, evidence.matured_labels)
        decision = model.policy.evaluate(state, evidence)
        if decision.fired and decision.request is not None:
            self._ask(model.name, decision, decision.request)
        self._record(
            DecisionRecord(
                model=model.name,
                kind="evaluated",
                t_us=t_us,
                reason=decision.reason,
                state=decision.after,
                decision=decision,
            )
        )
        self._name_waiting(model.name, evidence)
        self._states[model.name] = decision.after  # only after it was sent: otherwise it is sent again

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
        )
        self._send(RETRAIN_REQUESTS, model.encode(), msgspec.json.encode(request))

    def run_ended(self, run: RunEnded) -> None:
        """Called when a run ended: it becomes the new baseline."""
        state = self._states.get(run.model)
        if state is None or (state.baseline is not None and state.baseline.run == run.request_id):
            return
        baseline = Baseline(run=run.request_id, outcome=run.outcome, t_us=run.t_us, matured_labels=run.matured_labels)
        self._states[run.model] = after_run(state, baseline)
        self._record(
            DecisionRecord(
                model=run.model,
                kind="finished",
                t_us=run.t_us,
                reason=f"{run.outcome}: {run.reason}",
                state=self._states[run.model],
                run=run.request_id,
            )
        )

    def _record(self, record: DecisionRecord) -> None:
        self._send(DECISIONS, record.model.encode(), msgspec.json.encode(record))
        self._report(record)


def _as_published(state: TriggerState, model: ModelState, t_us: int, matured_labels: int) -> TriggerState:
    """Bring the state in step with the model events: whether a version is live, and whether a rollback pins it."""
    if model.pinned and state.pin is None:
        return with_pin(state, t_us, matured_labels)
    if state.pin is not None and not model.pinned:
        state = without_pin(state)
    return msgspec.structs.replace(state, live=model.version is not None)
