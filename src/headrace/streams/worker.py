"""The worker process: a Faust app around the data plane."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from headrace.base.stopping import stop_signals
from headrace.base.times import wall_clock
from headrace.base.waiting import UntilAvailable
from headrace.bus.control import ControlMessage, FlushRequest, decode_control
from headrace.bus.control_topics import DEFAULT_NAMESPACE, ControlTopics
from headrace.bus.faust_shell import ThreadService, listen, run_shell, shell
from headrace.bus.kafka_clients import admin
from headrace.bus.process_status import ProcessProbes, status_served
from headrace.bus.report_sender import ReportSender
from headrace.bus.tail import TopicTail
from headrace.bus.topics import (
    FOR_EVER,
    TopicPlan,
    dead_letter_topic,
    ensure_report_topics,
    ensure_topics,
    stamped_by_producers,
    stream_config,
)
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_identity import identity_of
from headrace.event_log.storage_fence import check_fence
from headrace.features.definitions.spec import to_document
from headrace.features.definitions.store_documents import ViewDocument
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.models.kafka_model_event_log import SignedTail
from headrace.models.predictions import predictions_of, vectors_of
from headrace.models.publication_signing import UNSIGNED, PublicationSigning
from headrace.streams.deployments.kafka_deployment_log import KafkaDeploymentLog
from headrace.streams.deployments.rollout import Rollout, RolloutTimes
from headrace.streams.log_claims import LogClaims
from headrace.streams.metrics import WorkerMetrics
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.plane_config import PlaneConfig, PlaneEnvironment
from headrace.streams.upkeep import JobReports, LogUpkeep, ScheduledJob, UpkeepSchedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faust import App

    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.features.definitions.service import FeatureService
    from headrace.features.definitions.view import FeatureView
    from headrace.features.online.store import OnlineStore


logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class WorkerConfig:
    """The servers, folders and settings of a worker.

    ``schemas`` are a schema registry's, if a stream needs one. ``metrics_port`` 0: no metrics. ``partitions`` and
    ``replay`` are for topics that do not exist yet, see :func:`make_topics`. Existing topics are not changed.
    """

    bootstrap_servers: str
    redis_url: str
    event_log: str
    data_dir: str
    namespace: str = DEFAULT_NAMESPACE
    signing: PublicationSigning = UNSIGNED
    partitions: int = 4
    batch_rows: int = 20_000
    flush_s: float = 1.0
    memory_bytes: int = 1 << 30
    replay: bool = False
    schemas: SchemaStore | None = field(default=None, repr=False)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    upkeep: UpkeepSchedule = field(default_factory=UpkeepSchedule)
    jobs: Sequence[ScheduledJob] = ()


def own_streams(streams: Sequence[Stream], namespace: str) -> list[Stream]:
    """Return all streams that the workers of a namespace log: the project's, served vectors and predictions."""
    return [*streams, vectors_of(namespace), predictions_of(namespace)]


def make_topics(
    bootstrap_servers: str, streams: Sequence[Stream], partitions: int, *, namespace: str, replay: bool = False
) -> None:
    """Make the topics of all streams, their dead letters, and the control plane of a namespace.

    ``replay``: history is replayed in order, so record timestamps are the producers'. Else they are the broker's.
    """
    config = stream_config(replay=replay)
    logged, topics = own_streams(streams, namespace), ControlTopics(namespace)
    plans = [TopicPlan(stream.topic, partitions, config) for stream in logged]
    plans += [TopicPlan(dead_letter_topic(stream.topic), 1, FOR_EVER) for stream in logged]
    plans += [TopicPlan(topics.control)]
    plans += [TopicPlan(topics.definitions, 1, FOR_EVER), TopicPlan(topics.models, 1, FOR_EVER)]
    ensure_topics(bootstrap_servers, plans)
    ensure_report_topics(bootstrap_servers, topics.observations, findings=topics.findings)


def warn_of_producers_stamps(bootstrap_servers: str, streams: Sequence[Stream]) -> None:
    """Log which topics do not have the broker's timestamps, and what to do. Raises BusUnavailableError."""
    of_record = [stream.topic for stream in streams if stream.available_at == "record"]
    topics = stamped_by_producers(admin(bootstrap_servers), of_record)
    if topics:
        logger.warning(
            "record timestamps are the producers': what was available when is only as true as their clocks",
            topics=topics,
            do="set message.timestamp.type=LogAppendTime on them (kafka-configs --alter --entity-type topics …), "
            "or start the worker with --replay if history is replayed in order",
        )


def publish_definitions(store: OnlineStore, views: Sequence[FeatureView], services: Sequence[FeatureService]) -> None:
    """Put the specs into the store, so that applications need no definition code."""
    for view in views:
        store.put_document(f"view:{view.spec.versioned_name}", to_document(view.spec))
        store.put_document(f"view:{view.name}", to_document(ViewDocument.of(view.name, view.version)))
    for service in services:
        store.put_document(f"service:{service.name}", to_document(service.spec))


def follow_deployments(
    bootstrap_servers: str,
    namespace: str,
    streams: Sequence[Stream],
    store: OnlineStore,
    *,
    signing: PublicationSigning = UNSIGNED,
    **waits: float,
) -> Rollout:
    """Return the rollout that follows both logs on Kafka for a worker of these streams. Raises BusUnavailableError."""
    topics = ControlTopics(namespace)
    tail = TopicTail(bootstrap_servers, [topics.definitions, topics.models], from_beginning=True)
    return Rollout(
        namespace,
        streams,
        store,
        SignedTail(tail, signing, topics.models),
        KafkaDeploymentLog(bootstrap_servers, namespace).append,
        new_id=lambda: uuid.uuid4().hex,
        times=RolloutTimes(wall_clock, time.monotonic, **waits),
    )


def run_worker(
    config: WorkerConfig, streams: Sequence[Stream], views: Sequence[FeatureView], services: Sequence[FeatureService]
) -> None:
    """Run until a signal stops it.

    The deployed definitions are in force. If nothing was deployed yet, the given definitions are deployed. Raises
    OtherLogError if the namespace has another event log, and SettingsError if the log's storage loses commits.
    """
    streams, logged = list(streams), own_streams(streams, config.namespace)
    make_topics(config.bootstrap_servers, streams, config.partitions, namespace=config.namespace, replay=config.replay)
    if not config.replay:
        warn_of_producers_stamps(config.bootstrap_servers, logged)
    store = RedisOnlineStore(config.redis_url, config.namespace)
    log = EventLog(config.event_log, namespace=config.namespace)
    claims = LogClaims(config.bootstrap_servers, config.namespace, store)
    UntilAvailable(stop_signals.asked)(_own_log, log, claims)
    rollout = follow_deployments(config.bootstrap_servers, config.namespace, logged, store, signing=config.signing)
    rollout.begin([view.spec for view in views], [service.spec for service in services])
    name, metrics = f"{config.namespace}-worker-{uuid.uuid4().hex[:8]}", WorkerMetrics()
    findings = ReportSender(config.bootstrap_servers, ControlTopics(config.namespace).findings)
    environment = PlaneEnvironment(schemas=config.schemas)
    plane = DataPlane(_plane_config(config, name), logged, rollout, store, log, environment=environment, meter=metrics)
    upkeep = LogUpkeep(
        log, [stream.topic for stream in logged], plane.leads, config.upkeep, wall_clock,
        jobs=config.jobs, report=JobReports(name, wall_clock, metrics.job, findings.send).done,
    )  # fmt: skip
    app = shell(name, config.data_dir)
    _flush_on_request(app, config, plane)
    probes = ProcessProbes(plane.pulse.problem, metrics.unready)
    with upkeep, status_served(metrics.registry, config.metrics_host, config.metrics_port, probes):
        gc.collect()
        gc.freeze()  # collections need not look at what the libraries made again: that would stop batches
        run_shell(app, ThreadService(plane.run, plane.stop))


def _own_log(log: EventLog, claims: LogClaims) -> None:
    """Make sure that the log fences its writers, and that it is the namespace's."""
    check_fence(log.url, uuid.uuid4().hex)
    claims.claim(identity_of(log), wall_clock())


def _plane_config(config: WorkerConfig, name: str) -> PlaneConfig:
    return PlaneConfig(
        config.bootstrap_servers,
        group=f"{config.namespace}-workers",
        worker=name,
        namespace=config.namespace,
        batch_rows=config.batch_rows,
        flush_s=config.flush_s,
        memory_bytes=config.memory_bytes,
    )


def _flush_on_request(app: App, config: WorkerConfig, plane: DataPlane) -> None:
    async def on_control(message: ControlMessage) -> None:
        if isinstance(message, FlushRequest):
            plane.flush_soon()
        await asyncio.sleep(0)

    listen(app, config.bootstrap_servers, ControlTopics(config.namespace).control, decode_control, on_control)
