"""`headrace process`: runs processors of the project."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, LogLevel, MetricsPort, settings_from


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(process)


def process(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help="The processors to run: all.")] = None,
    *,
    instance: Annotated[
        str | None,
        typer.Option(
            help="Name of this place, the same at each start. No other process has it at the same time. Default: the "
            "name of the machine, and a number."
        ),
    ] = None,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Give the named processors what the event log has of their source, and end."),
    ] = False,
    metrics_port: MetricsPort = None,
    log_level: LogLevel = "info",
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
) -> None:
    """Give the events of streams to the project's processors, and write what they give, exactly once, until stopped."""
    from headrace.app.processes.processors import replay as replay_history
    from headrace.app.processes.processors import run
    from headrace.app.project.project import load_project
    from headrace.app.terminal.logs import configure_logs
    from headrace.base.failpoints import arm

    configure_logs(log_level)
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, process_metrics_port=metrics_port)
    arm(os.environ.get("FAILPOINT"))
    start = replay_history if replay else run
    start(settings, load_project(settings), names or [], instance=instance)
