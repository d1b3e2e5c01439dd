"""`headrace trainer`: triggers, runs, gates, publications."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.app.options import BootstrapServers, DataDir, LogLevel, RedisUrl, settings_from


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trainer)


def trainer(
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    log_level: LogLevel = "info",
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Evaluate triggers, train, gate and publish, until stopped."""
    from headrace.app import run  # noqa: PLC0415 - --help needs none of it
    from headrace.app.logs import configure_logs  # noqa: PLC0415
    from headrace.app.project import load_project  # noqa: PLC0415

    configure_logs(log_level)
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    run.trainer(settings, load_project(settings), seed=seed)
