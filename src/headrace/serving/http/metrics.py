"""The server's metrics for Prometheus. docs/reference/http.md explains each."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.values import MutexValue, ValueClass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from headrace.serving.features import FeatureVectors

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ENTITIES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
_KEPT = 1_024
OTHER = "other"
"""The label of every unknown path."""


class HttpMetrics:
    """Measures the requests of one process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        requests = Counter(
            "headrace_http_requests_total", "Requests answered.", ("path", "status"), registry=self.registry
        )
        seconds = Histogram(
            "headrace_http_request_seconds", "Until the answer.", ("path",), buckets=_SECONDS, registry=self.registry
        )
        self._entities = Histogram(
            "headrace_http_entities", "Entities of one look-up.", buckets=_ENTITIES, registry=self.registry
        )
        statuses = Counter(
            "headrace_http_statuses_total", "Rows looked up.", ("view", "status"), registry=self.registry
        )
        ProcessCollector(registry=self.registry)
        # labels() costs more than counting, so its results are kept.
        self._requests = lru_cache(_KEPT)(requests.labels)
        self._seconds = lru_cache(_KEPT)(seconds.labels)
        self._statuses = lru_cache(_KEPT)(statuses.labels)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests(path, status).inc()
        self._seconds(path).observe(seconds)

    def looked_up(self, found: FeatureVectors) -> None:
        """Count the entities and statuses of a look-up."""
        self._entities.observe(found.rows)
        for answer in found.views:
            for status in {*answer.statuses}:
                self._statuses(answer.view, status.value).inc(answer.statuses.count(status))

    def text(self) -> bytes:
        """Return the metrics in Prometheus' format. With several processes, they are the sums over all processes."""
        if ValueClass is MutexValue:  # the library decides this once, at its import
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


class MeasuringMiddleware:
    """Middleware: counts and times every request."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics, paths: Iterable[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            path = scope["path"] if scope["path"] in self._paths else OTHER
            self._metrics.answered(path, status, time.perf_counter() - started)
