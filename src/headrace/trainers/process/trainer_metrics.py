"""A trainer's metrics, for Prometheus: its decisions, and what holds labels up. See docs/reference/metrics.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headrace.bus.process_status import ProcessStatus
from headrace.trainers.triggers.waiting_labels import of_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from headrace.trainers.runs.messages import DecisionRecord

_WAITING = ("model", "topic", "partition")


class TrainerMetrics(Collector):
    """Measures one trainer, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._records: dict[str, DecisionRecord] = {}
        ProcessCollector(registry=self.registry)
        self.registry.register(ProcessStatus())
        self.registry.register(self)

    def recorded(self, record: DecisionRecord) -> None:
        """Keep the last evaluation of a model."""
        if record.decision is not None:
            self._records[record.model] = record

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of the last evaluation of each model."""
        at = GaugeMetricFamily("headrace_decision_timestamp_seconds", "When rules were evaluated.", labels=["model"])
        labels = GaugeMetricFamily("headrace_matured_labels", "Matured requests that have a label.", labels=["model"])
        waiting = GaugeMetricFamily("headrace_waiting_labels", "Matured requests without a label.", labels=_WAITING)
        since = GaugeMetricFamily("headrace_waiting_labels_since_timestamp_seconds", "Last record.", labels=_WAITING)
        for model, record in list(self._records.items()):
            at.add_metric([model], record.t_us / 1e6)
            inputs = {} if record.decision is None else record.decision.inputs
            labels.add_metric([model], inputs.get("matured_labels", 0))
            for each in of_inputs(inputs):
                place = [model, each.topic, "" if each.partition is None else str(each.partition)]
                waiting.add_metric(place, each.rows)
                if each.since_us is not None:
                    since.add_metric(place, each.since_us / 1e6)
        yield from (at, labels, waiting, since)
