"""`headrace score`: an application that predicts a model's request stream."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.app.options import BootstrapServers, DataDir, LogLevel, RedisUrl, settings_from


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
    from headrace.app import run  # noqa: PLC0415 - --help needs none of it
    from headrace.app.logs import configure_logs  # noqa: PLC0415
    from headrace.app.project import load_project  # noqa: PLC0415

    configure_logs(log_level)
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    project = load_project(settings)
    how = {"shadow_first": shadow_first, "lockstep": lockstep}
    scorer = run.scorer(settings, project, model, application=application, **how)
    if lockstep:
        run.obey(scorer)
    else:
        run.follow(scorer)
