"""`headrace score`: an application that predicts a model's request stream."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, LogLevel, RedisUrl, settings_from


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(score)


def score(
    model: Annotated[str, typer.Argument(help="The model to follow.")],
    *,
    application: Annotated[str, typer.Option(help="The name under which it acknowledges versions.")] = "score",
    shadow_first: Annotated[bool, typer.Option(help="Let the first version predict beside the live one.")] = False,
    lockstep: Annotated[bool, typer.Option(hidden=True, help="Obey commands on standard input.")] = False,
    log_level: LogLevel = "info",
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Predict every request of a model's stream with its live version, swapping versions while running."""
    from headrace.app.processes import processes
    from headrace.app.project.project import load_project
    from headrace.app.terminal.logs import configure_logs

    configure_logs(log_level)
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    project = load_project(settings)
    how = {"shadow_first": shadow_first, "lockstep": lockstep}
    scorer = processes.scorer(settings, project, model, application=application, **how)
    if lockstep:
        processes.obey(scorer)
    else:
        processes.follow(scorer)
