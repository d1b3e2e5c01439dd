"""What `headrace ingest` serves for Prometheus: rows, rejected rows and files, by source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, ProcessCollector

from headrace.bus.process_status import ProcessStatus

if TYPE_CHECKING:
    from collections.abc import Iterable


class IngestMetrics:
    """Counts what the sources of one process do, in a registry of its own."""

    def __init__(self, sources: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(ProcessStatus())
        self._rows = self._counter("rows", "Rows that were produced.", "source")
        self._rejected = self._counter("rejected_rows", "Rows that are no event.", "source")
        self._files = self._counter("files", "Files, by how they ended.", "source", "result")
        self._requests = self._counter("requests", "Requests to webhooks, by status.", "source", "status")
        for source in sources:
            self._rows.labels(source)
            self._rejected.labels(source)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"headrace_ingest_{name}", text, labels, registry=self.registry)

    def produced(self, source: str, rows: int, rejected: int) -> None:
        """Count rows that were produced, and rows that are no event."""
        self._rows.labels(source).inc(rows)
        self._rejected.labels(source).inc(rejected)

    def produced_file(self, source: str, rows: int, rejected: int) -> None:
        """Count a file that was produced, with its rows."""
        self.produced(source, rows, rejected)
        self._files.labels(source, "produced").inc()

    def failed_file(self, source: str) -> None:
        """Count a file that cannot be produced."""
        self._files.labels(source, "failed").inc()

    def answered(self, source: str, status: int, rows: int) -> None:
        """Count a request to a webhook that was answered, with the events that were taken."""
        self._requests.labels(source, str(status)).inc()
        self._rows.labels(source).inc(rows)
