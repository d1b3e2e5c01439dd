"""Runs a trainer of a project, as `headrace trainer` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from headrace.app.local.address_watch import watch_addresses
from headrace.app.local.lock import make_private
from headrace.app.processes.connections import addresses
from headrace.base.times import SECOND, duration_us
from headrace.models.artifact_urls import scheme_of

if TYPE_CHECKING:
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.trainers.runs.fitting import FitLimits

logger = structlog.get_logger(__name__)
_SQLITE = "sqlite:///"


def run(settings: Settings, project: Project, *, seed: int) -> None:
    """Run a trainer for all models of the project until a signal arrives.

    Raises OtherLogError if the workers of the namespace have another event log.
    """
    logger.info("trainer starts", models=sorted(project.models))
    from headrace.trainers.process.trainer import RegistryPlace, TrainerConfig, run_trainer  # imports MLflow
    from headrace.trainers.runs.run_logs import RunLogs
    from headrace.trainers.runs.training_runner import RunOptions

    servers, _ = addresses(settings)
    make_private(settings.data_dir)
    watch_addresses(settings)
    _check_log(settings, servers)
    _make_folders(settings)
    config = TrainerConfig(
        servers,
        settings.event_log,
        RegistryPlace(settings.registry_uri, _as_uri(settings.artifacts)),
        str(settings.data_dir / "faust"),
        namespace=settings.namespace,
        signing=settings.signing,
        tick_us=0 if settings.clock == "control" else duration_us(settings.tick),
        stream_clock=settings.clock == "stream",
        options=RunOptions(seed, trusted=settings.trusted_types, logs=RunLogs(run_log_folder(settings))),
        metrics_host=settings.metrics_host,
        metrics_port=settings.trainer_metrics_port,
        fit_limits=fit_limits(settings),
    )
    run_trainer(config, list(project.models.values()))


def run_log_folder(settings: Settings) -> Path:
    """Return the folder of the logs of training runs."""
    return settings.data_dir / "runs"


def fit_limits(settings: Settings) -> FitLimits:
    """Return the limits of a fit."""
    from headrace.trainers.runs.fitting import FitLimits

    return FitLimits(duration_us(settings.trainer.fit_time) / SECOND, settings.trainer.fit_memory or 0)


def _check_log(settings: Settings, servers: str) -> None:
    from headrace.event_log.event_log import EventLog
    from headrace.event_log.log_identity import LogIdentity, known_identity, place_of
    from headrace.streams.log_claims import LogClaims

    claims = LogClaims(servers, settings.namespace)
    known = claims.known()  # asked first: a worker that starts now gives its log an identity before it claims it
    own = known_identity(EventLog(settings.event_log, namespace=settings.namespace))
    if known or own:
        claims.check(own or LogIdentity("none", f"{place_of(settings.event_log)}, which is empty"))


def _make_folders(settings: Settings) -> None:
    if settings.registry_uri.startswith(_SQLITE):
        Path(settings.registry_uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    if not scheme_of(settings.artifacts):
        Path(settings.artifacts).mkdir(parents=True, exist_ok=True)


def _as_uri(place: str) -> str:
    return place if scheme_of(place) else Path(place).as_uri()
