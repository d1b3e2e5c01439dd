"""The status of a worker or a trainer over HTTP: metrics for Prometheus, and the probes `/livez` and `/readyz`."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from headrace.base.background_tasks import TASKS, BackgroundTasks
from headrace.base.times import SECOND, utc_datetime
from headrace.bus.unreadable_records import UNREADABLE, UnreadableRecords
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client import CollectorRegistry, Metric


class ProcessStatus(Collector):
    """The metrics that worker and trainer share: their background tasks, and the records that they cannot read."""

    def __init__(self, tasks: BackgroundTasks = TASKS, unreadable: UnreadableRecords = UNREADABLE) -> None:
        self._tasks, self._unreadable = tasks, unreadable

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        failing = GaugeMetricFamily("headrace_task_failing", "Its last attempt failed.", labels=["task"])
        failures = CounterMetricFamily("headrace_task_failures", "Failed attempts.", labels=["task"])
        for status in self._tasks.statuses():
            failing.add_metric([status.name], status.error is not None)
            failures.add_metric([status.name], status.failures_total)
        unreadable = CounterMetricFamily("headrace_unreadable_records", "Left out by all readers.", labels=["topic"])
        for topic, count in self._unreadable.counts().items():
            unreadable.add_metric([topic], count)
        yield from (failing, failures, unreadable)


class _QuietHandler(WSGIRequestHandler):
    """A handler that logs no requests."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name for it
        """Log nothing."""


def _fine() -> str:
    return ""


@dataclass(frozen=True)
class ProcessProbes:
    """What the probes ask beside the tasks: ``stands`` for `/livez`, ``unready`` for `/readyz`.

    Each returns lines that say what is wrong; an empty text if nothing is. They answer at once.
    """

    stands: Callable[[], str] = _fine
    unready: Callable[[], str] = _fine


_NO_PROBES = ProcessProbes()


def status_served(
    registry: CollectorRegistry, host: str, port: int | None, probes: ProcessProbes = _NO_PROBES
) -> AbstractContextManager[object]:
    """Return :func:`serve_status` for the port of a setting. Without one, or for 0, nothing is served."""
    return serve_status(registry, host, port, probes=probes) if port else nullcontext()


@contextmanager
def serve_status(
    registry: CollectorRegistry,
    host: str,
    port: int,
    tasks: BackgroundTasks = TASKS,
    *,
    probes: ProcessProbes = _NO_PROBES,
) -> Iterator[int]:
    """Serve `/metrics`, `/livez` and `/readyz` for as long as the context lasts.

    Give the port; for 0 the system chooses one. Raises SettingsError if the port is taken.
    """
    try:
        server = make_server(host, port, _application(registry, tasks, probes), ThreadingWSGIServer, _QuietHandler)
    except OSError as error:
        message = f"metrics cannot be served on {host}:{port}: {error}; choose another one with --metrics-port"
        raise SettingsError(message) from error
    thread = threading.Thread(target=server.serve_forever, name="headrace-status", daemon=True)
    thread.start()  # if it died, nothing would answer, which is what a probe looks for
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _application(registry: CollectorRegistry, tasks: BackgroundTasks, probes: ProcessProbes) -> WSGIApplication:
    metrics: WSGIApplication = make_wsgi_app(registry)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/livez":
                return _answer(start_response, probes.stands())
            case "/readyz":
                return _answer(start_response, probes.unready() + _failing(tasks))
            case _:
                return metrics(environ, start_response)

    return application


def _answer(start_response: StartResponse, problem: str) -> Iterable[bytes]:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
    return [(problem or "ok\n").encode()]


def _failing(tasks: BackgroundTasks) -> str:
    """Return a line for each task that fails. The error may show addresses: only the log has it."""
    return "".join(
        f"{each.name} has failed {each.failures} times since "
        f"{utc_datetime(each.since_us - each.since_us % SECOND).isoformat()}: the log says why\n"
        for each in tasks.failing()
    )
