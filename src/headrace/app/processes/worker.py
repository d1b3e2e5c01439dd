"""Runs a worker of a project, as `headrace worker` does."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from headrace.app.local.address_watch import watch_addresses
from headrace.app.local.lock import make_private
from headrace.app.processes.connections import addresses, schemas
from headrace.base.stopping import stop_signals
from headrace.base.times import SECOND, duration_us, wall_clock
from headrace.base.waiting import UntilAvailable
from headrace.errors import OnlineStoreUnavailableError, SettingsError

if TYPE_CHECKING:
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.streams.worker import WorkerConfig

logger = structlog.get_logger(__name__)


def run(
    settings: Settings, project: Project, *, partitions: int, replay: bool = False, allow_eviction: bool = False
) -> None:
    """Run a worker until a signal arrives.

    ``partitions`` and ``replay`` apply only to topics that do not exist yet: the worker creates them. Raises
    SettingsError if Redis may evict features, unless ``allow_eviction``.
    """
    logger.info("worker starts", views=sorted(project.views))
    from headrace.streams.worker import run_worker  # each process imports only its own part

    make_private(settings.data_dir)
    config = _config(settings, project, partitions=partitions, replay=replay)
    watch_addresses(settings)
    if not allow_eviction:
        UntilAvailable(stop_signals.asked)(check_eviction, config.redis_url)
    log_redis_warnings(config.redis_url)
    run_worker(config, list(project.streams.values()), list(project.views.values()), list(project.services.values()))


def _config(settings: Settings, project: Project, *, partitions: int, replay: bool) -> WorkerConfig:
    from headrace.app.processes.scheduled_jobs import scheduled_jobs
    from headrace.streams.upkeep import UpkeepSchedule
    from headrace.streams.worker import WorkerConfig

    servers, redis_url = addresses(settings)
    return WorkerConfig(
        servers,
        redis_url,
        settings.event_log,
        str(settings.data_dir / "faust"),
        namespace=settings.namespace,
        signing=settings.signing,
        partitions=partitions,
        batch_rows=settings.batch_size,
        flush_s=duration_us(settings.flush_interval) / 1e6,
        memory_bytes=settings.memory,
        replay=replay,
        schemas=schemas(settings, project.streams.values()),
        metrics_host=settings.metrics_host,
        metrics_port=settings.metrics_port,
        upkeep=UpkeepSchedule(
            compact=timedelta(microseconds=duration_us(settings.compact_interval)),
            retention=timedelta(microseconds=duration_us(settings.log_retention)),
        ),
        jobs=scheduled_jobs(settings, project),
    )


def check_eviction(redis_url: str) -> None:
    """Raise SettingsError if a node may evict features. Raises OnlineStoreUnavailableError."""
    from headrace.app.doctor import redis

    evicting = redis.evicting(redis_url)
    if evicting:
        nodes = ", ".join(f"{address} has {policy}" for address, policy in evicting.items())
        message = (
            f"Redis may evict features when its memory is full: maxmemory-policy of {nodes}. A look-up would take what "
            f"is gone for 0 or missing. CONFIG SET maxmemory-policy {redis.NO_EVICTION} on each, or start the worker "
            "with --allow-eviction"
        )
        raise SettingsError(message)


def log_redis_warnings(redis_url: str) -> None:
    """Log every setting of Redis that would lose features.

    If Redis does not answer, nothing is logged: the worker waits for it later.
    """
    from headrace.app.doctor import redis
    from headrace.app.doctor.finding import Severity

    try:
        with suppress(OnlineStoreUnavailableError):
            for finding in redis.examine(redis_url, wall_clock() / SECOND):
                if finding.severity is not Severity.OK:
                    logger.warning(finding.found, what=finding.subject, advice=finding.advice)
    except SettingsError as error:  # it may not ask: with --allow-eviction that stops no worker
        logger.warning(str(error), what="redis")
