"""`headrace triggers`: why a model is trained again or not, and triggers without a hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.processes.connections import kafka_for_command
from headrace.app.terminal.options import (
    BootstrapServers,
    DataDir,
    JsonOption,
    ModelArgument,
    ModelFilter,
    RedisUrl,
    settings_from,
)
from headrace.app.terminal.tables import harmless, print_details, print_json, print_list, print_rows

if TYPE_CHECKING:
    from headrace.app.project.settings import Settings
    from headrace.trainers.definitions import Model

_LISTED = ("model", "decided_at", "rule", "progress", "reason", "until")
_DIFFERS = 1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    triggers = typer.Typer(
        no_args_is_help=True, help="Why a model is trained again, or not: list, explain, replay, reset."
    )
    triggers.command("list")(list_triggers)
    triggers.command("explain")(explain)
    triggers.command("replay")(replay)
    triggers.command("reset")(reset)
    app.add_typer(triggers, name="triggers")


def list_triggers(
    model: ModelFilter = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List the triggers of each model: the rule that fired or is nearest to firing, or what holds them, and until when.

    It knows the last decision, and what has happened since: a run that ended, a reset, or a pin.
    """
    from headrace.app import model_versions, operators
    from headrace.app.project.project import load_project

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    models = load_project(settings).models
    names = sorted(models) if model is None else [operators.chosen_model(models, model).name]
    with kafka_for_command(settings) as servers:
        last = operators.last_records(servers, settings.topics, names)
        decided = operators.earlier_decisions(servers, settings.topics, last)
        states = model_versions.read_model_states(servers, settings.topics.models, settings.signing)
    rows = [
        operators.summarize_triggers(models[name], last.get(name), decided.get(name), states.get(name))
        for name in names
    ]
    if not json:
        rows = [row | {"progress": row["progress"] and f"{row['progress']:.0%}"} for row in rows]
    print_list(_LISTED, rows, json=json, if_empty="the project has no models")


def explain(
    model: ModelArgument,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show the state of a model's triggers: what holds its rules until when, or how far each rule is from firing.

    Below it are the watched inputs: null values, values that were not seen before, and the label, lately and before.
    `by chance` is the range in which `lately` lies if nothing has changed.
    """
    from headrace.app import model_versions, operators

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    chosen = _model(settings, model)
    with kafka_for_command(settings) as servers:
        states = model_versions.read_model_states(servers, settings.topics.models, settings.signing)
        found = operators.explain(chosen, operators.history(servers, settings.topics, model), states.get(model))
    if json:
        print_json(found)
    else:
        watched = found.pop("watched", None)
        print_details(found)
        if watched is not None:
            _print_watched(watched)


def _print_watched(watched: dict[str, Any]) -> None:
    from headrace.trainers.triggers.watched_inputs import WatchedInput

    typer.echo(f"\nwatched inputs at {watched['evaluated_at']}, the newest 14 days against those before")
    inputs = [WatchedInput(**each) for each in watched["inputs"]]
    rows = [
        {
            "input": each.input, "watched": each.what, "before": each.said(each.before),
            "lately": each.said(each.lately), "by chance": each.by_chance,
            "note": "out of range" if each.out else each.lacking,
        }
        for each in inputs
    ]  # fmt: skip
    print_rows(("input", "watched", "before", "lately", "by chance", "note"), rows)
    if watched["rules"]:
        typer.echo("\nso the rules were evaluated, though they may not ask now")
        print_rows(("rule", "fired", "progress", "reason"), watched["rules"])


def replay(
    model: ModelArgument,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Judge all recorded decisions on a model again, with its present rules. The exit code is 1 if a decision differs.

    If the rules were not changed since, there are no differences. Changed thresholds, cooldowns and budgets are judged.
    A new rule, or another sample or metric, was not measured then, and is not measured again.
    """
    from headrace.app import operators

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    chosen = _model(settings, model)
    with kafka_for_command(settings) as servers:
        found = operators.replay(chosen, operators.history(servers, settings.topics, model))
    if json:
        print_json(found)
    else:
        others = len(found["differences"])
        unknown = ""
        if found["unknown"]:
            unknown = f", {found['unknown']:,} not known: nothing was measured for the present rules"
        typer.echo(f"{found['decisions']:,} decisions judged again, {others:,} with another verdict{unknown}")
        if others:
            print_rows(("decided_at", "then", "now"), found["differences"])
    if found["differences"]:
        raise typer.Exit(_DIFFERS)


def reset(
    model: ModelArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the decision.")],
    by: Annotated[str | None, typer.Option(help="Who asks (default: user@host).")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Remove what holds a model's rules: cooldown, daily budget, the hold after a run, hysteresis.

    The rules do not wait for an open run any more. The run itself goes on: `headrace runs cancel` ends it. Labels and
    time are counted from the same run as before. A pin stays: `headrace models unpin` ends it.
    """
    from headrace.app import operators

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    request = operators.new_request(_model(settings, model).name, "reset", by, reason)
    with kafka_for_command(settings) as servers:
        answer = operators.answered(servers, settings.topics, request)
        open_runs = operators.open_runs(servers, settings.topics, model)
    pinned = answer.state.pin is not None
    if json:
        print_json({"model": model, "reason": answer.reason, "pinned": pinned, "open_runs": open_runs})
    else:
        but = f", but a version is pinned (`headrace models unpin {model}`)" if pinned else ""
        typer.echo(harmless(f"the triggers of {model} are free{but}: {answer.reason}"))
        if open_runs:
            named = ", ".join(open_runs)
            typer.echo(f"still open, and not waited for: {named}. `headrace runs cancel ID --reason …` ends a run")


def _model(settings: Settings, name: str) -> Model:
    from headrace.app import operators
    from headrace.app.project.project import load_project

    return operators.chosen_model(load_project(settings).models, name)
