"""`headrace worker`: runs a worker."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, LogLevel, MetricsPort, RedisUrl, settings_from


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def worker(
    *,
    partitions: Annotated[int, typer.Option(min=1, help="Number of partitions of topics that do not exist yet.")] = 4,
    replay: Annotated[
        bool, typer.Option("--replay", help="History is replayed in order: new topics keep the producers' timestamps.")
    ] = False,
    memory: Annotated[
        str | None, typer.Option(help="Largest memory for cached entities, such as 512MiB (default 1GiB).")
    ] = None,
    allow_eviction: Annotated[
        bool, typer.Option("--allow-eviction", help="Start although Redis may evict features when its memory is full.")
    ] = False,
    metrics_port: MetricsPort = None,
    log_level: LogLevel = "info",
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Write features to Redis and events to the event log, exactly once, until stopped.

    Start as many workers as the load needs: they share the partitions.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # batches are small: handing them to threads costs more

    from headrace.app.processes import worker as process
    from headrace.app.project.project import load_project
    from headrace.app.terminal.logs import configure_logs
    from headrace.base.failpoints import arm

    configure_logs(log_level)
    settings = settings_from(
        data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url, memory=memory,
        metrics_port=metrics_port,
    )  # fmt: skip
    arm(os.environ.get("FAILPOINT"))
    project = load_project(settings)
    process.run(settings, project, partitions=partitions, replay=replay, allow_eviction=allow_eviction)
