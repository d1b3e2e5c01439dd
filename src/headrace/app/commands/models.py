"""`headrace models`: the versions of a model, and what made each of them."""

from __future__ import annotations

import json as codec
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app.processes.broker import TIMEOUT_SECONDS, kafka, states
from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.app.terminal.tables import print_details, print_rows

if TYPE_CHECKING:
    from headrace.app.project.settings import Settings

_LISTED = ("model", "version", "status", "published_at", "cause", "gate", "run")  # the metrics are in JSON and `show`

ModelName = Annotated[str | None, typer.Option(help="The model; needed where several have events.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(no_args_is_help=True, help="The versions of a model, and what made each of them.")
    models.command("list")(list_versions)
    models.command("show")(show)
    models.command("rollback")(rollback)
    models.command("unpin")(unpin)
    app.add_typer(models, name="models")


def list_versions(
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List every published version: whether it is live, why it was made, how it was judged.

    If no services run on the data folder, they are started for the time it takes.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with kafka(settings) as servers:
        found = states(servers)
    from headrace.app import provenance

    chosen = sorted(found) if model is None else [provenance.choose(found, model)]
    rows = [provenance.summarize(found[name], each) for name in chosen for each in provenance.versions(found[name])]
    if json:
        typer.echo(codec.dumps(rows, indent=2))
    elif rows:
        print_rows(_LISTED, rows)
    else:
        typer.echo("no version was published yet")


def show(
    version: Annotated[int, typer.Argument(min=1, help="The version, as `headrace models list` shows it.")],
    *,
    model: ModelName = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show what made one version: cause, data, code, seeds, libraries, gate report, registry run and artifact.

    The manifest is read where the version's event says, and checked against the event's hash. If no services run on
    the data folder, they are started for the time it takes.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with kafka(settings) as servers:
        found = states(servers)
    from headrace.app import provenance

    state = found[provenance.choose(found, model)]
    _, published = provenance.publication(state, version)
    told = provenance.describe(state, version, provenance.manifest_of(published))
    if json:
        typer.echo(codec.dumps(told, indent=2))
    else:
        print_details(told)


def rollback(
    version: Annotated[int, typer.Argument(min=1, help="The version to go back to.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the event.")],
    model: ModelName = None,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Go back to an earlier version, at once and whatever is live, and hold it there.

    Every application that follows the model swaps to it. Triggers ask for no run until `headrace models unpin`, or
    until there are as many new labels as the model's rules ask for.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    name = _go_back(settings, model, version, reason, pin=True)
    typer.echo(f"version {version} of {name} is live, and pinned until `headrace models unpin --model {name}`")


def unpin(
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the event.")] = "",
    model: ModelName = None,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Let triggers ask again after a rollback; the version that is live stays."""
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    name = _go_back(settings, model, None, reason, pin=False)
    typer.echo(f"{name} is not pinned any more")


def _go_back(settings: Settings, model: str | None, version: int | None, reason: str, *, pin: bool) -> str:
    """Append the event, unless it would change nothing; the model's name."""
    from headrace.app import provenance
    from headrace.base.times import wall_clock
    from headrace.models.kafka_model_event_log import KafkaModelEventLog
    from headrace.models.model_state import rollback_event

    with kafka(settings) as servers:
        found = states(servers)
        name = provenance.choose(found, model)
        event = rollback_event(found[name], uuid.uuid4().hex, name, version, reason, at_us=wall_clock(), pin=pin)
        with closing(KafkaModelEventLog(servers, timeout_s=TIMEOUT_SECONDS)) as log:
            log.append(event)
    return name
