"""`headrace trainer`: runs a trainer."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, LogLevel, MetricsPort, RedisUrl, settings_from


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trainer)


def trainer(
    *,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    metrics_port: MetricsPort = None,
    log_level: LogLevel = "info",
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Evaluate triggers, train new versions, judge them by the gate and publish them, until stopped."""
    from headrace.app.processes import trainer as process
    from headrace.app.project.project import load_project
    from headrace.app.terminal.logs import configure_logs
    from headrace.base.failpoints import arm

    configure_logs(log_level)
    settings = settings_from(
        data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url, trainer_metrics_port=metrics_port
    )
    arm(os.environ.get("FAILPOINT"))
    process.run(settings, load_project(settings), seed=seed)
