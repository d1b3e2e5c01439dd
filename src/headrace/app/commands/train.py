"""`headrace train`: asks for a training run at once."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.app.terminal.tables import print_json

_REFUSED = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)


def train(
    model: Annotated[str, typer.Argument(help="The model.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the decision.")],
    lift_pin: Annotated[bool, typer.Option("--lift-pin", help="Also if a version is pinned: the pin ends.")] = False,
    by: Annotated[str | None, typer.Option(help="Who asks (default: user@host).")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Ask for a run at once: no cooldown, daily budget or hold after a refusal is above it.

    A run that is not finished is, and a pin, unless --lift-pin is given. The gate judges the run like any other. Exit
    code 1 if the trainer refuses.
    """
    from headrace.app import operators
    from headrace.app.processes.connections import kafka_for_command
    from headrace.app.project.project import load_project

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    name = operators.chosen_model(load_project(settings).models, model).name
    request = operators.new_request(name, "train", by, reason, lift_pin=lift_pin)
    with kafka_for_command(settings) as servers:
        answer = operators.answered(servers, settings.topics, request)
    asked = answer.decision is not None and answer.decision.fired
    if json:
        print_json({"asked": asked, "request": answer.state.request, "reason": answer.reason})
    elif asked:
        typer.echo(
            f"run {answer.state.request} is asked for: `headrace runs show {answer.state.request}` says how it ends"
        )
    else:
        typer.echo(f"no run: {answer.reason}")
    if not asked:
        raise typer.Exit(_REFUSED)
