"""`headrace train`: asks for a training run at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, ModelArgument, RedisUrl, settings_from
from headrace.app.terminal.tables import harmless, print_json

if TYPE_CHECKING:
    from headrace.trainers.runs.messages import DecisionRecord

_REFUSED = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)


def train(
    model: ModelArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the decision.")],
    lift_pin: Annotated[
        bool, typer.Option("--lift-pin", help="Also if a version is pinned. The pin ends if the run publishes.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the run has ended. Ctrl-C ends the waiting, not the run.")
    ] = False,
    by: Annotated[str | None, typer.Option(help="Who asks (default: user@host).")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Ask for a run at once. Cooldown, daily budget and hold do not stop it.

    An open run stops it. A pin stops it too, unless you give --lift-pin. The gate judges the run like any other. The
    exit code is 1 if the trainer refuses, and with --wait also if the run fails.
    """
    from headrace.app import operators
    from headrace.app.processes.connections import kafka_for_command
    from headrace.app.project.project import load_project

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    name = operators.chosen_model(load_project(settings).models, model).name
    request = operators.new_request(name, "train", by, reason, lift_pin=lift_pin)
    with kafka_for_command(settings) as servers:
        answer = operators.answered(servers, settings.topics, request)
        run = answer.state.request if answer.decision is not None and answer.decision.fired else None
        if not json:
            typer.echo(harmless(_told(answer, run)))
        end = operators.wait_for_end(servers, settings.topics, run) if run is not None and wait else None
    if json:
        ended = {} if end is None else {"outcome": end.outcome, "version": end.version, "result": end.reason}
        print_json({"asked": run is not None, "request": answer.state.request, "reason": answer.reason, **ended})
    elif end is not None:
        version = "" if end.version is None else f", version {end.version}"
        typer.echo(harmless(f"{end.outcome}{version}: {end.reason}"))
    if run is None or (end is not None and end.outcome == "failed"):
        raise typer.Exit(_REFUSED)


def _told(answer: DecisionRecord, run: str | None) -> str:
    """Return the trainer's answer in a sentence."""
    if run is not None:
        return f"run {run} is asked for: `headrace runs show {run}` says how it ends"
    if answer.decision is not None and answer.state.request is None and answer.state.pin is not None:
        return (
            f"no run: {answer.reason}. Ask again with --lift-pin, or run `headrace models unpin {answer.model}` first"
        )
    return f"no run: {answer.reason}"
