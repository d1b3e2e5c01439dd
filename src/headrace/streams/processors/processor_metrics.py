"""What `headrace process` serves for Prometheus: events, outputs and failures, by processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from headrace.bus.process_status import ProcessStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.streams.processors.processor import Processor


class ProcessorMetrics:
    """Counts what the processors of one process do, in a registry of its own."""

    def __init__(self, processors: Iterable[Processor]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(ProcessStatus())
        self._events = self._counter("events", "Events that the function got, and that are committed.")
        self._left = self._counter("left_records", "Records that are no event, or duplicates: they are left out.")
        self._failed = self._counter("failed_events", "Events that became dead letters.")
        self._produced = self._counter("produced_events", "Events that were written, by topic.", "topic")
        self._given_up = self._counter("given_up_transactions", "Transactions that failed and were tried again.")
        self._behind = Gauge(
            "headrace_process_behind_records", "Offsets that are not read yet.", ["processor"], registry=self.registry
        )
        for each in processors:
            for counter in (self._events, self._left, self._failed, self._given_up):
                counter.labels(each.name)
            for stream in each.into:
                self._produced.labels(each.name, stream.topic)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"headrace_process_{name}", text, ["processor", *labels], registry=self.registry)

    def committed(self, processor: str, events: int, failed: int, produced: Mapping[str, int]) -> None:
        """Count what a transaction that is committed has: events that were read, failed ones, and events by topic."""
        self._events.labels(processor).inc(events)
        self._failed.labels(processor).inc(failed)
        for topic, count in produced.items():
            self._produced.labels(processor, topic).inc(count)

    def left(self, processor: str, records: int) -> None:
        """Count records that were left out. After a failure they are read, and counted, again."""
        self._left.labels(processor).inc(records)

    def given_up(self, processor: str) -> None:
        """Count a transaction that failed."""
        self._given_up.labels(processor).inc()

    def behind(self, processor: str, offsets: int) -> None:
        """Set how many offsets of the partitions of this process are not read yet."""
        self._behind.labels(processor).set(offsets)
