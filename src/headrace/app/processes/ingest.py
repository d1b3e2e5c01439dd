"""Runs the sources of a project, as `headrace ingest` does."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import structlog

from headrace.app.local.address_watch import watch_addresses
from headrace.app.local.lock import make_private
from headrace.app.processes.connections import kafka_address, schemas
from headrace.base.background_loop import BackgroundLoop
from headrace.base.stopping import stop_signals
from headrace.base.times import SECOND, duration_us
from headrace.errors import DefinitionError, SettingsError, TopicUnknownError, require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from headrace.app.project.ingest_settings import IngestSettings
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.streams.ingest.folder_source import FolderSource
    from headrace.streams.ingest.ingest_metrics import IngestMetrics

logger = structlog.get_logger(__name__)
_LOOK_S, _STOP_S = 1.0, 5.0


def run(settings: Settings, project: Project) -> None:
    """Run all sources until a signal arrives. Raises SettingsError for an entry that does not fit the project."""
    require("prometheus_client", "worker")
    from headrace.streams.ingest.ingest_metrics import IngestMetrics

    entries = settings.ingest
    if not entries:
        raise SettingsError("headrace.toml has no table [[ingest]]: docs/how-to/ingest.md shows one")
    store = schemas(settings, project.streams.values())
    streams = [stream_of(settings, place, project, store) for place in range(len(entries))]
    servers = kafka_address(settings)
    make_private(settings.data_dir)
    watch_addresses(settings)
    metrics, stopping = IngestMetrics([entry.name for entry in entries]), threading.Event()
    loops = []
    for entry, stream in zip(entries, streams, strict=True):
        source = _folder_source(settings, entry, stream, servers, store, metrics)
        loops.append(BackgroundLoop(f"ingest {entry.name}", _step(source, servers, stream, stopping), pause_s=_LOOK_S))
    logger.info("ingest starts", sources=[entry.name for entry in entries])
    with _status_served(settings, metrics), stop_signals.calling(stopping.set):
        _run_until(stopping, loops)


def stream_of(settings: Settings, place: int, project: Project, store: SchemaStore | None = None) -> Stream:
    """Return the stream of an entry. Raises SettingsError, which names the entry, if no event can be produced to it."""
    entry = settings.ingest[place]
    where = f"[[ingest]] {place + 1} ({entry.name!r}) in headrace.toml"
    stream, folder = project.streams.get(entry.stream), settings.root / entry.folder
    if stream is None:
        raise SettingsError(
            f"{where}, stream = {entry.stream!r}: the project has no stream of that topic; it has "
            f"{sorted(project.streams)}"
        )
    try:
        stream.format.writer(stream.topic, stream.event, store)
    except (DefinitionError, SettingsError) as error:
        raise SettingsError(f"{where}, stream = {entry.stream!r}: no event can be produced to it. {error}") from error
    if not folder.is_dir():
        raise SettingsError(f"{where}, folder = {str(folder)!r}: there is no such folder; make it first")
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
        entry.name, settings.root / entry.folder, entry.format, entry.zone, duration_us(entry.settle) / SECOND
    )
    produced = ProducedFiles(settings.data_dir / "ingest" / entry.name)
    return FolderSource(options, stream, EventProducer(servers, linger="5ms", schemas=store), produced, metrics=metrics)


def _step(source: FolderSource, servers: str, stream: Stream, stopping: threading.Event) -> Callable[[], None]:
    from headrace.bus.topics import has_topic

    is_there = False

    def step() -> None:
        nonlocal is_there
        is_there = is_there or has_topic(servers, stream.topic)
        if not is_there:
            raise TopicUnknownError(f"Kafka has no topic {stream.topic!r}: start a worker, which makes it")
        source.look(stopping)

    return step


def _run_until(stopping: threading.Event, loops: Sequence[BackgroundLoop]) -> None:
    for loop in loops:
        loop.start()
    stopping.wait()
    for loop in loops:
        loop.stopping.set()
    for loop in loops:
        loop.stop(_STOP_S)


def _status_served(settings: Settings, metrics: IngestMetrics) -> AbstractContextManager[object]:
    from headrace.bus.process_status import serve_status

    if not settings.ingest_metrics_port:
        return nullcontext()
    return serve_status(metrics.registry, settings.metrics_host, settings.ingest_metrics_port)
