"""Replays a history through the running processes, in lockstep or as a free run."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.app.demo.evaluation import compared_rows, rolling_auc
from headrace.app.demo.history import HistoryReplay
from headrace.app.demo.state import DecisionLine, DemoState, VersionLine
from headrace.base.times import utc_datetime
from headrace.bus.unreadable_records import readable
from headrace.trainers.runs.messages import DecisionRecord, RunEnded, decode
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.app.demo.barrier import Barriers
    from headrace.app.demo.history import History
    from headrace.app.demo.processes import LockstepApplication
    from headrace.bus.control_topics import ControlTopics
    from headrace.bus.producer import EventProducer
    from headrace.bus.tail import TopicTail
    from headrace.trainers.data.model_log import ModelLog
    from headrace.trainers.definitions import Model

HOUR_US = 3_600_000_000
_CURVE_DAYS = 7
_REST_S = 3.0


@dataclass
class ReplayTally:
    """The counts of a replay. ``swapped`` maps a version to the event time from which it served."""

    produced: Counter[str] = field(default_factory=Counter)
    records: list[DecisionRecord] = field(default_factory=list)
    runs: list[RunEnded] = field(default_factory=list)
    swapped: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ReplayParts:
    """The processes and clients that a replay uses."""

    history: History
    model: Model
    producer: EventProducer
    barriers: Barriers
    runs: TopicTail
    log: ModelLog
    state: DemoState
    refresh: Callable[[], None]
    topics: ControlTopics


class _HistoryReplayer:
    """The part that both kinds of replay share: produce, count, show."""

    def __init__(self, cast: ReplayParts) -> None:
        self._cast = cast
        self._state = cast.state
        self._replay = HistoryReplay(cast.history)
        self.tally = ReplayTally()

    def _produce(self, t_us: int) -> Counter[str]:
        fresh: Counter[str] = Counter()
        for at_ms, topic, key, value in self._replay.before(t_us):
            self._cast.producer.put(topic, key, value, timestamp=utc_datetime(at_ms * 1_000))
            fresh[topic] += 1
        if fresh:
            self._cast.producer.flush()
            self.tally.produced += fresh
        return fresh

    def _remember(self, record: DecisionRecord) -> None:
        self.tally.records.append(record)
        decision = record.decision
        if decision is None:
            line = DecisionLine(record.t_us, record.reason.partition(":")[0], "run", record.reason)
        else:
            line = DecisionLine(record.t_us, "fired" if decision.fired else "not now", decision.rule, decision.reason)
            self._state.progress = {v.rule: (v.progress, v.reason) for v in decision.verdicts[1:] or decision.verdicts}
        self._state.decisions.append(line)

    def _ended_runs(self) -> list[RunEnded]:
        """Return the runs that have ended since the last call."""
        ended = list(readable(self._cast.runs.drain(), lambda record: decode(record.value(), RunEnded)))
        self.tally.runs += ended
        self._state.versions += [
            VersionLine(run.version, run.rule, run.t_us, run.reason) for run in ended if run.version is not None
        ]
        return ended

    def _draw_curves(self, t_us: int) -> None:
        state = self._state
        if t_us // DAY_US % _CURVE_DAYS or not state.versions:
            return
        settled = max(len(state.auc_days) - _CURVE_DAYS, 0)  # of the last days labels still came in
        since = state.auc_days[settled] if settled else None
        days, live, frozen = rolling_auc(compared_rows(self._cast.log, t_us), since)
        state.auc_days = state.auc_days[:settled] + days
        state.auc_live = state.auc_live[:settled] + live
        state.auc_frozen = state.auc_frozen[:settled] + frozen

    def _show(self, t_us: int, started: float, fresh: int) -> None:
        state = self._state
        took = time.perf_counter() - started
        state.event_us, state.step_ms = t_us, took * 1e3
        state.events += fresh
        state.events_per_s = 0.98 * state.events_per_s + 0.02 * fresh / max(took, 1e-6)
        self._cast.refresh()

    def _hours(self) -> range:
        return range(self._cast.history.from_us, self._cast.history.to_us + 1, HOUR_US)


class Lockstep(_HistoryReplayer):
    """Moves one clock T by an hour: produces the events before T, waits, predicts as of T. Rules decide daily."""

    def __init__(self, cast: ReplayParts, application: LockstepApplication) -> None:
        super().__init__(cast)
        self._application = application
        self._width = len(cast.model.features.columns())

    def run(self) -> ReplayTally:
        """Replay everything."""
        for t_us in self._hours():
            self.step(t_us)
        self._cast.barriers.wait_until_logged(self.tally.produced)
        return self.tally

    def step(self, t_us: int) -> None:
        """Replay one hour."""
        started = time.perf_counter()
        fresh = self._produce(t_us)
        self._cast.barriers.wait_until_folded(self.tally.produced, fresh)
        self._state.lag_ms = (time.perf_counter() - started) * 1e3
        if self._cast.model.requests.topic in fresh:
            self._serve(t_us)
        if t_us % DAY_US == 0:
            self._tick(t_us)
        self._show(t_us, started, sum(fresh.values()))

    def _serve(self, t_us: int) -> None:
        served = self._application.serve(t_us, self.tally.produced[self._cast.model.requests.topic])
        self.tally.produced[self._cast.topics.vectors] += served["predicted"]
        self.tally.produced[self._cast.topics.predictions] += served["logged"]
        self._state.predictions += served["predicted"]
        self._state.features += served["predicted"] * self._width

    def _tick(self, t_us: int) -> None:
        """End a day: wait for the log, the rules, a run if there is one, and the swap of its version."""
        self._cast.barriers.wait_until_logged(self.tally.produced)
        record = self._cast.barriers.wait_for_decision(t_us, self._cast.model.name)
        self._remember(record)
        if record.decision is not None and record.decision.request is not None:
            self._remember(self._cast.barriers.wait_for_run(record.decision.request))
            for run in self._ended_runs():
                if run.event_id is not None:
                    self.tally.swapped[self._application.swap(run.event_id, t_us)] = t_us
        self._draw_curves(t_us)


class FreeRun(_HistoryReplayer):
    """Produces events at a pace, and waits only for version 1.

    Half-way ``disturb`` is called, to kill a worker.
    """

    def __init__(self, cast: ReplayParts, *, days_per_second: float, disturb: Callable[[], None]) -> None:
        super().__init__(cast)
        self._hour_s = 1 / (24 * days_per_second)
        self._disturb = disturb

    def run(self) -> ReplayTally:
        """Replay everything, then wait until the processes have nothing left to do."""
        hours = self._hours()
        for index, t_us in enumerate(hours):
            started = time.perf_counter()
            fresh = self._produce(t_us)
            if t_us % DAY_US == 0:
                self._tick(t_us)
            if index == len(hours) // 2:
                self._disturb()
            time.sleep(max(0.0, self._hour_s - (time.perf_counter() - started)))
            self._show(t_us, started, sum(fresh.values()))
        self._rest()
        return self.tally

    def _tick(self, t_us: int) -> None:
        first = not self._state.versions
        record = self._cast.barriers.wait_for_decision(t_us, self._cast.model.name)
        self._remember(record)
        if first and record.decision is not None and record.decision.request is not None:
            self._remember(self._cast.barriers.wait_for_run(record.decision.request))
        for run in self._ended_runs():
            if run.event_id is not None and run.version is not None:
                if first:
                    self._cast.barriers.wait_for_acknowledgement(run.event_id)
                self.tally.swapped[run.version] = t_us
        self._draw_curves(t_us)

    def _rest(self) -> None:
        """Wait until the application logs nothing more, and the event log has everything."""
        topics = [self._cast.topics.vectors, self._cast.topics.predictions]
        before: list[int] = []
        while (now := self._cast.barriers.ends(topics)) != before:
            before = now
            time.sleep(_REST_S)
        self.tally.produced |= Counter(dict(zip(topics, before, strict=True)))
        self._cast.barriers.wait_until_logged(self.tally.produced)
        self._ended_runs()
