"""The metrics of an application's predictors, for Prometheus. docs/reference/metrics.md says what each means."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from headrace.serving.answer_counts import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from headrace.serving.answer_counts import CountingAnswerer
    from headrace.serving.subscriber import ModelSubscriber

_MODEL = ("model",)


class PredictorMetrics(Collector):
    """The metrics of some predictors: which version each answers with, how often, how fast, and with which statuses.

    Register it once for all predictors of a process. Each scrape reads what was counted; nothing is measured twice.

    >>> import headrace
    >>> from prometheus_client import CollectorRegistry, generate_latest
    >>> from headrace.serving.predictor_metrics import PredictorMetrics
    >>> registry, metrics = CollectorRegistry(), PredictorMetrics()
    >>> registry.register(metrics)
    >>> with headrace.connect() as hr:
    ...     predictor = hr.predictor("punctuality", fallback=0.2)
    ...     metrics.add("punctuality", predictor.subscriber, predictor.answerer)
    ...     served = generate_latest(registry).decode()
    >>> 'headrace_prediction_failures_total{model="punctuality"} 0.0' in served
    True
    """

    def __init__(self) -> None:
        self._predictors: dict[str, tuple[ModelSubscriber, CountingAnswerer]] = {}

    def add(self, model: str, subscriber: ModelSubscriber, answerer: CountingAnswerer) -> None:
        """Measure the predictor of a model too."""
        self._predictors[model] = subscriber, answerer

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        version = GaugeMetricFamily("headrace_predictor_version", "It answers.", labels=_MODEL)
        wanted = GaugeMetricFamily("headrace_predictor_wanted_version", "It is live.", labels=_MODEL)
        loaded = GaugeMetricFamily("headrace_predictor_loaded_timestamp_seconds", "Since when.", labels=_MODEL)
        answers = CounterMetricFamily("headrace_predictions", "Answers of versions.", labels=(*_MODEL, "role"))
        failures = CounterMetricFamily("headrace_prediction_failures", "Not predicted.", labels=_MODEL)
        seconds = HistogramMetricFamily("headrace_prediction_seconds", "Time of a call.", labels=_MODEL)
        statuses = CounterMetricFamily("headrace_feature_status", "Rows.", labels=(*_MODEL, "view", "status"))
        for model, (subscriber, answerer) in list(self._predictors.items()):
            current, live, at = subscriber.current, subscriber.state.version, subscriber.loaded_at
            if current is not None and at is not None:
                version.add_metric([model], current.version)
                loaded.add_metric([model], at.timestamp())
            if live is not None:
                wanted.add_metric([model], live)
            calls, total, rows = answerer.counts.snapshot()
            answers.add_metric([model, "live"], answerer.counts.predicted)
            answers.add_metric([model, "shadow"], answerer.counts.of_shadows)
            failures.add_metric([model], answerer.failures)
            names = [*map(str, BOUNDS), "+Inf"]
            seconds.add_metric([model], list(zip(names, accumulate(calls), strict=True)), total)
            for (view, status), count in rows.items():
                statuses.add_metric([model, view, status], count)
        yield from (version, wanted, loaded, answers, failures, seconds, statuses)
