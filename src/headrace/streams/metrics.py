"""A worker's metrics, for Prometheus. docs/reference/metrics.md says what each of them means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from headrace.bus.process_status import ProcessStatus
from headrace.bus.source_partition import NO_CLOCK
from headrace.streams.plane.plane_metrics import PlaneMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import polars as pl
    from prometheus_client import Metric

    from headrace.bus.worker_report import PartitionReport, WorkerReport

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_ROWS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
_PLACE = ("topic", "partition")
_VIEW = (*_PLACE, "view")


class WorkerMetrics(PlaneMetrics, Collector):
    """Measures one worker, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._report: WorkerReport | None = None
        self._ends: Mapping[tuple[str, int], int] = {}
        self._batch_records = self._histogram("headrace_batch_records", "Records of one batch.", _ROWS)
        self._batch_seconds = self._histogram("headrace_batch_seconds", "Time from records to written tiles.", _SECONDS)
        self._write_seconds = self._histogram("headrace_online_write_seconds", "Round trip of writes.", _SECONDS)
        self._flush_rows = self._histogram("headrace_flush_rows", "Rows of one commit of the log.", _ROWS, "topic")
        self._flush_seconds = self._histogram("headrace_flush_seconds", "Time of one commit.", _SECONDS, "topic")
        self._refused = self._counter("headrace_online_refused_writes_total", "Writes that a fence refused.")
        self._rejected = self._counter("headrace_rejected_records_total", "Rejected records.", "topic", "reason")
        self._jobs = Gauge("headrace_job", "What a job found last.", ["job", "found"], registry=self.registry)
        self._job_time = Gauge("headrace_job_timestamp_seconds", "When it ended.", ["job"], registry=self.registry)
        ProcessCollector(registry=self.registry)
        self.registry.register(ProcessStatus())
        self.registry.register(self)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def batch(self, records: int, seconds: float) -> None:
        """Observe the records and the seconds of the batch."""
        self._batch_records.observe(records)
        self._batch_seconds.observe(seconds)

    def rejected(self, topic: str, reasons: pl.Series) -> None:
        """Count the records by topic and reason."""
        for reason, count in reasons.value_counts().iter_rows():
            self._rejected.labels(topic, reason).inc(count)

    def wrote(self, applied: Sequence[bool], seconds: float) -> None:
        """Observe the round trip, and count the refused writes."""
        self._write_seconds.observe(seconds)
        self._refused.inc(len(applied) - sum(applied))

    def flushed(self, topic: str, rows: int, seconds: float) -> None:
        """Observe the rows and the seconds of the commit, by topic."""
        self._flush_rows.labels(topic).observe(rows)
        self._flush_seconds.labels(topic).observe(seconds)

    def job(self, name: str, found: Mapping[str, float]) -> None:
        """A scheduled job has ended with these results."""
        for what, value in found.items():
            self._jobs.labels(name, what).set(value)
        self._job_time.labels(name).set_to_current_time()

    def reported(self, report: WorkerReport, ends: Mapping[tuple[str, int], int]) -> None:
        """Keep the report until :meth:`collect` turns it into metrics."""
        self._ends, self._report = ends, report

    def unready(self) -> str:
        """Return a line if the worker has not reported yet: it waits for its stores; else an empty text."""
        return "" if self._report is not None else "nothing was reported yet: the log says what it waits for\n"

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of the last report. Before the first report they have no values."""
        report = self._report
        families = _Families()
        if report is not None:
            families.seen.add_metric((), report.observed_us / 1e6)
            for own in report.partitions:
                place = (own.topic, own.source.rpartition("-")[2])
                families.add(own, place, self._ends.get((own.topic, int(place[1])), own.next_offset))
            for each in report.stopped:
                has_gap = str(each.log_ends is not None).lower()
                families.stopped.add_metric((each.topic, str(each.partition), has_gap), 1)
        yield from vars(families).values()


class _Families:
    """The metric families that are made from the last report at each scrape."""

    def __init__(self) -> None:
        self.seen = GaugeMetricFamily("headrace_observed_timestamp_seconds", "When all this was observed.")
        self.next = GaugeMetricFamily("headrace_partition_next_offset", "All below it was judged.", labels=_PLACE)
        self.logged = GaugeMetricFamily("headrace_partition_logged_offset", "All below it is logged.", labels=_PLACE)
        self.lag = GaugeMetricFamily("headrace_partition_lag_records", "High watermark - next offset.", labels=_PLACE)
        self.clock = GaugeMetricFamily("headrace_partition_clock_timestamp_seconds", "available_at.", labels=_PLACE)
        self.late = CounterMetricFamily("headrace_late_records", "Late records, which count.", labels=_PLACE)
        self.duplicates = CounterMetricFamily("headrace_duplicate_records", "Duplicates.", labels=_PLACE)
        self.view = GaugeMetricFamily("headrace_view_next_offset", "A view has folded below it.", labels=_VIEW)
        self.view_clock = GaugeMetricFamily("headrace_view_clock_timestamp_seconds", "A view's clock.", labels=_VIEW)
        self.stopped = GaugeMetricFamily("headrace_partition_stopped", "It is not read.", labels=(*_PLACE, "gap"))

    def add(self, own: PartitionReport, place: tuple[str, str], end: int) -> None:
        self.next.add_metric(place, own.next_offset)
        self.logged.add_metric(place, own.logged_offset)
        self.lag.add_metric(place, max(end - own.next_offset, 0))
        if own.available_us > NO_CLOCK:
            self.clock.add_metric(place, own.available_us / 1e6)
        self.late.add_metric(place, own.late)
        if own.duplicates is not UNSET:
            self.duplicates.add_metric(place, own.duplicates)
        for view, at in own.views.items():
            self.view.add_metric((*place, view), at.next_offset)
            if at.clock_us > NO_CLOCK:
                self.view_clock.add_metric((*place, view), at.clock_us / 1e6)
