"""`headrace score`: runs an application that predicts a model's request stream."""

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
    application: Annotated[str, typer.Option(help="The name with which it acknowledges versions.")] = "score",
    shadow_first: Annotated[
        bool, typer.Option(help="Also predict with the first version, and log its predictions as shadow.")
    ] = False,
    lockstep: Annotated[bool, typer.Option(hidden=True, help="Read commands from standard input.")] = False,
    log_level: LogLevel = "info",
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Predict every request of a model's stream with its live version. New versions are swapped in while it runs."""
    from headrace.app.processes.scorer import make_scorer, serve_in_lockstep, serve_until_interrupted
    from headrace.app.project.project import load_project
    from headrace.app.terminal.logs import configure_logs

    configure_logs(log_level)
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    project = load_project(settings)
    scorer = make_scorer(
        settings, project, model, application=application, shadow_first=shadow_first, lockstep=lockstep
    )
    serve = serve_in_lockstep if lockstep else serve_until_interrupted
    scorer.heartbeats.start()
    try:
        serve(scorer)
    finally:
        scorer.heartbeats.stop()
