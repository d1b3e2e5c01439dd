"""`headrace ingest`: brings events from outside to the topics of the project's streams."""

from __future__ import annotations

import os

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, LogLevel, MetricsPort, settings_from


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ingest)


def ingest(
    *,
    metrics_port: MetricsPort = None,
    log_level: LogLevel = "info",
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
) -> None:
    """Produce what arrives at the sources of headrace.toml, tables named ingest, to their streams, until stopped."""
    from headrace.app.processes import ingest as process
    from headrace.app.project.project import load_project
    from headrace.app.terminal.logs import configure_logs
    from headrace.base.failpoints import arm

    configure_logs(log_level)
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, ingest_metrics_port=metrics_port)
    arm(os.environ.get("FAILPOINT"))
    process.run(settings, load_project(settings))
