"""Runs processors of a project, as `headrace process` does."""

from __future__ import annotations

import itertools
import os
import re
import socket
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import structlog

from headrace.app.local.address_watch import watch_addresses
from headrace.app.local.lock import make_private
from headrace.app.processes.connections import kafka_address, schemas
from headrace.base.background_loop import BackgroundLoop
from headrace.base.stopping import stop_signals
from headrace.errors import DataFolderInUseError, ProjectError, SettingsError, TopicUnknownError, require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.streams.processors.event_features import EventFeatures
    from headrace.streams.processors.processor import Processor
    from headrace.streams.processors.processor_run import Duplicates, ProcessorOptions, ProcessorRun

logger = structlog.get_logger(__name__)
_STOP_S = 5.0
_INSTANCE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


def run(settings: Settings, project: Project, names: Sequence[str], *, instance: str | None) -> None:
    """Run processors until a signal arrives: those of these names, or all.

    Raises ProjectError if there is none of a name, and DataFolderInUseError if a process of this instance runs.
    """
    require("polars", "worker")
    from headrace.bus.process_status import status_served
    from headrace.streams.processors.processor import feeding_themselves
    from headrace.streams.processors.processor_metrics import ProcessorMetrics
    from headrace.streams.processors.processor_run import ProcessorRun

    processors = _chosen(project, names)
    streams = {stream.topic: stream for each in processors for stream in (each.source, *each.into)}
    store = schemas(settings, streams.values())
    servers = kafka_address(settings)
    make_private(settings.data_dir)
    watch_addresses(settings)
    metrics = ProcessorMetrics(processors)
    with ExitStack() as held:
        place = _place(settings, instance, held)
        options = _Options(settings, servers, store, place)
        runs = [ProcessorRun(each, options.of(each), metrics) for each in processors]
        loops = [
            BackgroundLoop(f"process {each.name}", _step(each, of, servers))
            for each, of in zip(processors, runs, strict=True)
        ]
        if around := feeding_themselves(list(project.processors.values())):
            logger.warning("what these processors write comes back to them: their functions have to end it",
                           processors=[each.name for each in around])  # fmt: skip
        logger.info("processors start", processors=[each.name for each in processors], instance=place)
        held.enter_context(status_served(metrics.registry, settings.metrics_host, settings.process_metrics_port))
        held.enter_context(stop_signals.calling(lambda: None))
        _run(loops)


def replay(settings: Settings, project: Project, names: Sequence[str], *, instance: str | None) -> None:
    """Give processors the events that the event log has and they have not had, with a progress bar.

    Topics that they write and that are not there yet are made for history: producers stamp the records. Raises
    ProjectError, DataFolderInUseError, and what a processor's run raises: then it goes on if it is begun again.
    """
    require("polars", "worker")
    from headrace.app.terminal.progress import progress
    from headrace.event_log.event_log import EventLog
    from headrace.streams.processors.logged_input import LoggedInput
    from headrace.streams.processors.processor_run import ProcessorRun

    if not names:
        raise ProjectError("name the processors whose history is to be made: headrace process --replay large_payments")
    log = EventLog(settings.event_log, namespace=settings.namespace)
    servers = kafka_address(settings)
    make_private(settings.data_dir)
    with ExitStack() as held:
        place = _place(settings, instance, held)
        for each in _chosen(project, names):
            store = schemas(settings, (each.source, *each.into))
            _make_history_topics(each, servers)
            of = ProcessorRun(each, _Options(settings, servers, store, place).of(each))
            held.callback(of.close)
            steps = of.replay(partial(LoggedInput, each, log))
            before, count = next(steps)
            with progress(each.name, count) as advance:
                for done, _ in steps:
                    advance(done - before)
                    before = done
            logger.info("the history is processed", processor=each.name, events=before)


def _make_history_topics(processor: Processor, servers: str) -> None:
    from headrace.bus.kafka_clients import admin
    from headrace.bus.topics import TopicPlan, ensure_topics, incarnations, stream_config

    topic = processor.source.topic
    partitions = incarnations(admin(servers), [topic])[topic].partitions
    ensure_topics(servers, [TopicPlan(each.topic, partitions, stream_config(replay=True)) for each in processor.into])
    _make_ready(processor, servers)


def _chosen(project: Project, names: Sequence[str]) -> list[Processor]:
    known = project.processors
    absent = [name for name in names if name not in known]
    if absent or not known:
        what = f"no processor {absent[0]!r}; it has {sorted(known) or 'none'}" if absent else "no processor"
        raise ProjectError(f"the project has {what}: docs/how-to/process-events.md shows how to write one")
    return [each for name, each in known.items() if not names or name in names]


class _Options:
    """Makes the options of processors."""

    def __init__(self, settings: Settings, servers: str, store: SchemaStore | None, place: str) -> None:
        self._settings, self._servers, self._store, self._place = settings, servers, store, place

    def of(self, processor: Processor) -> ProcessorOptions:
        from headrace.streams.processors.processor_run import ProcessorOptions

        group = f"{self._settings.namespace}-process-{processor.name}"
        return ProcessorOptions(
            self._servers,
            group,
            f"{group}-{self._place}",
            batch_rows=self._settings.process_batch_size,
            schemas=self._store,
            duplicates=(lambda: self._duplicates(processor)) if processor.source.unique_fields else None,
            enriched=self._enriched(processor),
        )

    def _enriched(self, processor: Processor) -> Callable[[bytes], EventFeatures] | None:
        """Return what makes the features of an enriched stream's events; None for a processor with a function."""
        from headrace.event_log.event_log import EventLog
        from headrace.streams.processors.enriched_stream import EnrichedStream
        from headrace.streams.processors.event_features import EventFeatures
        from headrace.streams.processors.log_reach import LogReach, TopicEnds

        stream = processor.into[0]
        if not isinstance(stream, EnrichedStream) or stream.processor is not processor:
            return None
        enrichment = stream.enrichment
        looked_up = {role.stream.topic: role.stream for view in enrichment.service.views for role in view.spec.sources}
        log = EventLog(self._settings.event_log, namespace=self._settings.namespace)
        reach = LogReach(looked_up, TopicEnds(self._servers), enrichment.silent_after_us)
        return lambda topic_id: EventFeatures(stream, log, reach, topic_id)

    def _duplicates(self, processor: Processor) -> Duplicates:
        from headrace.event_log.event_log import EventLog
        from headrace.streams.plane.followed_duplicates import FollowedDuplicates

        log = EventLog(self._settings.event_log, namespace=self._settings.namespace)
        return FollowedDuplicates(self._servers, log, processor.source, self._store).among


def _place(settings: Settings, instance: str | None, held: ExitStack) -> str:
    """Return the name of this place: that of the instance, or the machine's with the first number that is free."""
    from headrace.streams.ingest.source_state import locked

    folder = settings.data_dir / "process"
    if instance is not None and not _INSTANCE.fullmatch(instance):
        raise SettingsError(f"--instance {instance!r}: write 1 to 100 letters, digits, '.', '_' and '-', such as 'a-1'")
    host = socket.gethostname()
    for name in (f"{host}-{number}" for number in itertools.count(1)) if instance is None else [instance]:
        (folder / name).mkdir(parents=True, exist_ok=True)
        try:
            descriptor = locked(folder / name)
        except DataFolderInUseError as error:
            if instance is not None:
                message = f"another `headrace process` of the instance {instance!r} runs on {folder}: name another one"
                raise DataFolderInUseError(message) from error
        else:
            held.callback(os.close, descriptor)
            return name
    raise AssertionError("numbers do not end")


def _step(processor: Processor, of: ProcessorRun, servers: str) -> Callable[[], None]:
    is_there = False

    def step() -> None:
        nonlocal is_there
        if not is_there:
            _make_ready(processor, servers)
            is_there = True
        of.look(stop_signals.asked)

    return step


def _make_ready(processor: Processor, servers: str) -> None:
    """Make the topic of dead letters. Raises TopicUnknownError if another topic is not there, and BusUnavailableError.

    Workers make the topics of streams.
    """
    from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics, has_topic

    for stream in (processor.source, *processor.into):
        if not has_topic(servers, stream.topic):
            raise TopicUnknownError(f"Kafka has no topic {stream.topic!r}: start a worker, which makes it")
    ensure_topics(servers, [TopicPlan(processor.dead_letters, 1, FOR_EVER)])


def _run(loops: Sequence[BackgroundLoop]) -> None:
    for loop in loops:
        loop.start()
    try:
        stop_signals.asked.wait()
    finally:
        for loop in loops:
            loop.stopping.set()
        until_s = time.monotonic() + _STOP_S
        for loop in loops:
            loop.stop(max(until_s - time.monotonic(), 0.0))
