"""A trainer's metrics, for Prometheus: its ticks and runs, its decisions, rules that fail, and what holds labels up.

See docs/reference/metrics.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from msgspec import UNSET
from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headrace.bus.process_status import ProcessStatus
from headrace.trainers.triggers.trigger_state import RunOutcome
from headrace.trainers.triggers.waiting_labels import of_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric

    from headrace.bus.heartbeats import TrainerHeartbeat
    from headrace.trainers.runs.messages import DecisionRecord

_WAITING, _FAILING = ("model", "topic", "partition"), ("model", "error")


class TrainerMetrics(Collector):
    """Measures one trainer, in a registry of its own. Models that are not this trainer's any more are left out.

    ``state`` returns what the trainer says of itself; None: nothing is said of ticks and of the run under way.
    """

    def __init__(
        self, owns: Callable[[str], bool] = lambda _: True, state: Callable[[], TrainerHeartbeat] | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self._owns, self._state = owns, state
        self._runs = Counter("headrace_runs_total", "Ended runs.", ["model", "outcome"], registry=self.registry)
        self._records: dict[str, DecisionRecord] = {}
        self._errors: dict[str, DecisionRecord] = {}
        ProcessCollector(registry=self.registry)
        self.registry.register(ProcessStatus())
        self.registry.register(self)

    def recorded(self, record: DecisionRecord) -> None:
        """Keep the last evaluation of a model, and its error if it failed. Count the end of a run."""
        for outcome in get_args(RunOutcome):
            self._runs.labels(record.model, outcome)  # 0, so that the first one is an increase
        if record.kind == "error" and record.operator is UNSET:
            self._errors[record.model] = record
        elif record.kind == "finished" and record.state.baseline is not None:
            self._runs.labels(record.model, record.state.baseline.outcome).inc()
        elif record.decision is not None:
            self._records[record.model] = record
            self._errors.pop(record.model, None)

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of the last evaluation of each model."""
        yield from self._evaluations()
        yield from self._progress()
        yield from self._now()
        failing = GaugeMetricFamily("headrace_failing_rules_since_timestamp_seconds", "First error.", labels=_FAILING)
        for model, record in list(self._errors.items()):
            if self._owns(model) and record.since_us is not UNSET:
                failing.add_metric([model, record.reason.partition(":")[0]], record.since_us / 1e6)
        yield failing

    def _evaluations(self) -> Iterator[Metric]:
        at = GaugeMetricFamily("headrace_decision_timestamp_seconds", "When rules were evaluated.", labels=["model"])
        labels = GaugeMetricFamily("headrace_matured_labels", "Matured requests that have a label.", labels=["model"])
        waiting = GaugeMetricFamily("headrace_waiting_labels", "Matured requests without a label.", labels=_WAITING)
        since = GaugeMetricFamily("headrace_waiting_labels_since_timestamp_seconds", "Last record.", labels=_WAITING)
        for model, record in list(self._records.items()):
            if not self._owns(model):
                continue
            at.add_metric([model], record.t_us / 1e6)
            inputs = {} if record.decision is None else record.decision.inputs
            labels.add_metric([model], inputs.get("matured_labels", 0))
            for each in of_inputs(inputs):
                place = [model, each.topic, "" if each.partition is None else str(each.partition)]
                waiting.add_metric(place, each.rows)
                if each.since_us is not None:
                    since.add_metric(place, each.since_us / 1e6)
        yield from (at, labels, waiting, since)

    def _progress(self) -> Iterator[Metric]:
        progress = GaugeMetricFamily("headrace_trigger_progress_ratio", "1: it fires.", labels=["model", "rule"])
        for model, record in list(self._records.items()):
            if self._owns(model) and record.decision is not None:
                for verdict in record.decision.verdicts:
                    progress.add_metric([model, verdict.rule], verdict.progress)
        yield progress

    def _now(self) -> Iterator[Metric]:
        ticked = GaugeMetricFamily("headrace_trainer_tick_timestamp_seconds", "Its last tick.")
        began = GaugeMetricFamily("headrace_run_started_timestamp_seconds", "A run under way.", labels=["model"])
        state = None if self._state is None else self._state()
        if state is not None and state.ticked_us is not UNSET:
            ticked.add_metric([], state.ticked_us / 1e6)
        if state is not None and state.run is not UNSET:
            began.add_metric([state.run.model], state.run.started_us / 1e6)
        yield from (ticked, began)
