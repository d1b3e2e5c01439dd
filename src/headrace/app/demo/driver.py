"""Replays a history through the running processes: in lockstep with one clock, or freely."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from headrace.app.demo.evaluation import duel, rolling
from headrace.app.demo.history import Replay
from headrace.app.demo.state import DecisionLine, DemoState, VersionLine
from headrace.models.predictions import PREDICTIONS, VECTORS
from headrace.trainers.messages import DecisionRecord, RunFinished
from headrace.trainers.observation import DAY_US

if TYPE_CHECKING:
    from collections.abc import Callable
    from headrace.app.demo.barrier import Barriers
    from headrace.app.demo.history import History
    from headrace.app.demo.processes import LockstepApplication
    from headrace.bus.producer import EventProducer
    from headrace.bus.tail import TopicTail
    from headrace.trainers.definitions import Model
    from headrace.trainers.model_log import ModelLog

HOUR_US = 3_600_000_000
_CURVE_DAYS = 7


@dataclass
class Tally:
    """What the replay itself counted. ``swapped`` maps a version to the event time at which it served."""

    produced: Counter[str] = field(default_factory=Counter)
    records: list[DecisionRecord] = field(default_factory=list)
    runs: list[RunFinished] = field(default_factory=list)
    swapped: dict[int, int] = field(default_factory=dict)


class Lockstep:
    """One clock T in steps of an hour: produce what happened before T, wait, predict as of T; at midnight, decide."""

    def __init__(
        self,
        history: History,
        model: Model,
        producer: EventProducer,
        barriers: Barriers,
        application: LockstepApplication,
        runs: TopicTail,
        log: ModelLog,
        state: DemoState,
        refresh: Callable[[], None],
    ) -> None:
        self._history, self._model, self._log = history, model, log
        self._replay = Replay(history)
        self._producer, self._barriers, self._application, self._runs = producer, barriers, application, runs
        self._state, self._refresh = state, refresh
        self._width = len(model.features.columns())
        self.tally = Tally()

    def run(self) -> Tally:
        """Replay everything."""
        for t_us in range(self._history.from_us, self._history.to_us + 1, HOUR_US):
            self.step(t_us)
        return self.tally

    def step(self, t_us: int) -> None:
        """One hour."""
        started = time.perf_counter()
        fresh = self._produce(t_us)
        self._barriers.folded(self.tally.produced, fresh)
        self._state.lag_ms = (time.perf_counter() - started) * 1e3
        if self._model.requests.topic in fresh:
            self._serve(t_us)
        if t_us % DAY_US == 0:
            self._tick(t_us)
        self._show(t_us, started, sum(fresh.values()))

    def _produce(self, t_us: int) -> Counter[str]:
        fresh: Counter[str] = Counter()
        for at_ms, topic, key, value in self._replay.before(t_us):
            self._producer.put(topic, key, value, timestamp_ms=at_ms)
            fresh[topic] += 1
        if fresh:
            self._producer.flush()
            self.tally.produced += fresh
        return fresh

    def _serve(self, t_us: int) -> None:
        served = self._application.serve(t_us, self.tally.produced[self._model.requests.topic])
        self.tally.produced[VECTORS.topic] += served["predicted"]
        self.tally.produced[PREDICTIONS.topic] += served["logged"]
        self._state.predictions += served["predicted"]
        self._state.features += served["predicted"] * self._width

    def _tick(self, t_us: int) -> None:
        """A day is over: log complete, rules evaluated, run finished, version swapped. Then time goes on."""
        self._barriers.logged(self.tally.produced)
        record = self._barriers.decided(t_us, self._model.name)
        self._remember(record)
        if record.decision is not None and record.decision.request is not None:
            end = self._barriers.finished(record.decision.request)
            self._remember(end)
            self._swap(t_us)
        if t_us // DAY_US % _CURVE_DAYS == 0 and self.tally.swapped:
            self._state.auc_days, self._state.auc_live, self._state.auc_frozen = rolling(duel(self._log, t_us))

    def _remember(self, record: DecisionRecord) -> None:
        self.tally.records.append(record)
        decision = record.decision
        if decision is None:
            self._state.decisions.append(
                DecisionLine(record.t_us, record.reason.partition(":")[0], "run", record.reason)
            )
            return
        what = "fired" if decision.fired else "not now"
        self._state.decisions.append(DecisionLine(record.t_us, what, decision.rule, decision.reason))
        self._state.progress = {v.rule: (v.progress, v.reason) for v in decision.verdicts[1:] or decision.verdicts}

    def _swap(self, t_us: int) -> None:
        for run in (msgspec.json.decode(m.value() or b"", type=RunFinished) for m in self._runs.drain()):
            self.tally.runs.append(run)
            if run.event_id is not None and run.version is not None:
                served = self._application.swap(run.event_id)
                self.tally.swapped[served] = t_us
                self._state.versions.append(VersionLine(run.version, run.rule, t_us, run.reason))

    def _show(self, t_us: int, started: float, fresh: int) -> None:
        state = self._state
        took = time.perf_counter() - started
        state.event_us, state.step_ms = t_us, took * 1e3
        state.events += fresh
        state.events_per_s = 0.98 * state.events_per_s + 0.02 * fresh / max(took, 1e-6)
        self._refresh()
