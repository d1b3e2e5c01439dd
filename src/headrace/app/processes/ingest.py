"""Runs the sources of a project, as `headrace ingest` does."""

from __future__ import annotations

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
from headrace.errors import DefinitionError, SettingsError, TopicUnknownError, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace.app.project.ingest_settings import IngestSettings
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.streams.ingest.folder_source import FolderSource
    from headrace.streams.ingest.ingest_metrics import IngestMetrics

logger = structlog.get_logger(__name__)
_LOOK_S, _CHECK_S, _STOP_S = 1.0, 5.0, 2.0


def run(settings: Settings, project: Project) -> None:
    """Run all sources until a signal arrives. Raises SettingsError for an entry that does not fit the project."""
    require("prometheus_client", "worker")
    from headrace.bus.process_status import status_served
    from headrace.bus.producer import EventProducer
    from headrace.streams.ingest.ingest_metrics import IngestMetrics

    entries = settings.ingest
    if not entries:
        raise SettingsError("headrace.toml has no table [[ingest]]: docs/how-to/ingest.md shows one")
    store = schemas(settings, project.streams.values())
    streams = [stream_of(settings, place, project, store) for place in range(len(entries))]
    if any(entry.webhook for entry in entries):
        tokens_of(settings)  # raises before anything starts
    servers = kafka_address(settings)
    make_private(settings.data_dir)
    watch_addresses(settings)
    metrics = IngestMetrics([entry.name for entry in entries])
    loops, posted = [], {}
    for entry, stream in zip(entries, streams, strict=True):
        if entry.folder is None:
            posted[entry.name] = stream
            continue
        source = _folder_source(settings, entry, stream, servers, store, metrics)
        loops.append(BackgroundLoop(f"ingest {entry.name}", _step(source, servers, stream), pause_s=_LOOK_S))
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


def stream_of(settings: Settings, place: int, project: Project, store: SchemaStore | None = None) -> Stream:
    """Return the stream of an entry. Raises SettingsError, which names the entry, if no event can be produced to it."""
    entry = settings.ingest[place]
    where = f"[[ingest]] {place + 1} ({entry.name!r}) in headrace.toml"
    stream = project.streams.get(entry.stream)
    if stream is None:
        raise SettingsError(
            f"{where}, stream = {entry.stream!r}: the project has no stream of that topic; it has "
            f"{sorted(project.streams)}"
        )
    try:
        stream.format.writer(stream.topic, stream.event, store)
    except (DefinitionError, SettingsError) as error:
        raise SettingsError(f"{where}, stream = {entry.stream!r}: no event can be produced to it. {error}") from error
    if entry.folder is not None and not (settings.root / entry.folder).is_dir():
        folder = str(settings.root / entry.folder)
        raise SettingsError(f"{where}, folder = {folder!r}: there is no such folder; make it first")
    return stream


def _folder_source(  # noqa: PLR0917 - one call site
    settings: Settings,
    entry: IngestSettings,
    stream: Stream,
    servers: str,
    store: SchemaStore | None,
    metrics: IngestMetrics,
) -> FolderSource:
    from headrace.bus.producer import EventProducer
    from headrace.streams.ingest.folder_source import FolderOptions, FolderSource
    from headrace.streams.ingest.produced_files import ProducedFiles

    options = FolderOptions(
        entry.name, settings.root / (entry.folder or ""), entry.format, entry.zone, duration_us(entry.settle) / SECOND
    )
    produced = ProducedFiles(settings.data_dir / "ingest" / entry.name)
    return FolderSource(options, stream, EventProducer(servers, linger="5ms", schemas=store), produced, metrics=metrics)


def _step(source: FolderSource, servers: str, stream: Stream) -> Callable[[], None]:
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
        for loop in loops:
            loop.stop(_STOP_S)
