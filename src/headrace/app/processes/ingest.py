"""Runs the sources of a project, as `headrace ingest` does."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from headrace.app.local.address_watch import watch_addresses
from headrace.app.local.lock import make_private
from headrace.app.processes.connections import kafka_address, schemas
from headrace.app.processes.webhook_server import serve_webhooks, tokens_of
from headrace.base.background_loop import BackgroundLoop
from headrace.base.stopping import stop_signals
from headrace.base.times import SECOND, duration_us
from headrace.errors import SettingsError, TopicUnknownError, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace.app.processes.ingest_sources import EventSource
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.bus.stream import Stream

logger = structlog.get_logger(__name__)
_LOOK_S, _CHECK_S, _STOP_S = 1.0, 5.0, 2.0


def run(settings: Settings, project: Project) -> None:
    """Run all sources until a signal arrives. Raises SettingsError for an entry that does not fit the project."""
    require("prometheus_client", "worker")
    from headrace.app.processes.ingest_sources import SourceFactory
    from headrace.app.project.ingest_entries import stream_of, streams_as_read
    from headrace.bus.process_status import status_served
    from headrace.bus.producer import EventProducer
    from headrace.streams.ingest.ingest_metrics import IngestMetrics

    entries = settings.ingest
    if not entries:
        raise SettingsError("headrace.toml has no table [[ingest]]: docs/how-to/ingest.md shows one")
    store = schemas(settings, [*project.streams.values(), *streams_as_read(settings, project)])
    streams = [stream_of(settings, place, project, store) for place in range(len(entries))]
    if any(entry.webhook for entry in entries):
        tokens_of(settings)  # raises before anything starts
    servers = kafka_address(settings)
    make_private(settings.data_dir)
    watch_addresses(settings)
    metrics = IngestMetrics([entry.name for entry in entries])
    factory = SourceFactory(settings, servers, store, metrics)
    loops, posted = [], {}
    for place, (entry, stream) in enumerate(zip(entries, streams, strict=True)):
        if entry.kind == "webhook":
            posted[entry.name] = stream
            continue
        step = _step(factory.make(place, stream), servers, stream)
        pause_s = {"folder": _LOOK_S, "topic": 0.0}.get(entry.kind, duration_us(entry.interval) / SECOND)
        loops.append(BackgroundLoop(f"ingest {entry.name}", step, pause_s=pause_s))
    if posted:
        topics = sorted({stream.topic for stream in posted.values()})
        loops.append(BackgroundLoop("ingest webhooks", partial(_check, servers, topics), pause_s=_CHECK_S))
    logger.info("ingest starts", sources=[entry.name for entry in entries])

    def serve() -> None:
        if posted:
            serve_webhooks(settings, posted, lambda most: EventProducer(servers, timeout=most, schemas=store), metrics)
        else:
            stop_signals.asked.wait()

    with (
        status_served(metrics.registry, settings.metrics_host, settings.ingest_metrics_port),
        stop_signals.calling(lambda: None),
    ):
        _run_while(serve, loops)


def _step(source: EventSource, servers: str, stream: Stream) -> Callable[[], None]:
    is_there = False

    def step() -> None:
        nonlocal is_there
        if not is_there:
            _check(servers, [stream.topic])
            is_there = True
        source.look(stop_signals.asked)

    return step


def _check(servers: str, topics: Iterable[str]) -> None:
    """Raise TopicUnknownError if a topic is not there, and BusUnavailableError."""
    from headrace.bus.topics import has_topic

    for topic in topics:
        if not has_topic(servers, topic):
            raise TopicUnknownError(f"Kafka has no topic {topic!r}: start a worker, which makes it")


def _run_while(serve: Callable[[], None], loops: Sequence[BackgroundLoop]) -> None:
    """Run the loops for as long as ``serve`` runs."""
    for loop in loops:
        loop.start()
    try:
        serve()
    finally:
        for loop in loops:
            loop.stopping.set()
        until_s = time.monotonic() + _STOP_S
        for loop in loops:
            loop.stop(max(until_s - time.monotonic(), 0.0))
