"""`headrace models`: lists and shows the versions of a model, and rolls back."""

from __future__ import annotations

import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app.processes.connections import artifact_places, kafka_for_command, signing
from headrace.app.terminal.options import (
    BootstrapServers,
    DataDir,
    JsonOption,
    ModelChoice,
    ModelFilter,
    RedisUrl,
    VersionArgument,
    settings_from,
)
from headrace.app.terminal.tables import print_details, print_json, print_list

if TYPE_CHECKING:
    from headrace.app.project.settings import Settings

_LISTED = ("model", "version", "status", "published_at", "cause", "gate", "run")  # the metrics are in JSON and `show`


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(no_args_is_help=True, help="The versions of a model: list, show, roll back.")
    models.command("list")(list_versions)
    models.command("show")(show)
    models.command("rollback")(rollback)
    models.command("unpin")(unpin)
    app.add_typer(models, name="models")


def list_versions(
    model: ModelFilter = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List every published version: its status, why it was trained, and the verdict of the gate.

    If no services run on the data folder, they are started for this command.
    """
    from headrace.app import model_versions

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with kafka_for_command(settings) as servers:
        states = model_versions.read_model_states(servers, settings.topics.models, signing(settings))
    names = sorted(states) if model is None else [model_versions.choose_model(states, model)]
    rows = [
        model_versions.summarize_version(states[name], version)
        for name in names
        for version in model_versions.published_versions(states[name])
    ]
    print_list(_LISTED, rows, json=json, if_empty="no version was published yet")


def show(
    version: VersionArgument,
    *,
    model: ModelChoice = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show how one version was made: cause, data, code, seeds, libraries, gate report, registry run and artifact.

    The manifest is read from the place that the version's event names, and its hash is checked. If no services run on
    the data folder, they are started for this command.
    """
    from headrace.app import model_versions

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with kafka_for_command(settings) as servers:
        states = model_versions.read_model_states(servers, settings.topics.models, signing(settings))
    state = states[model_versions.choose_model(states, model)]
    _, published = model_versions.find_publication(state, version)
    details = model_versions.describe_version(
        state, version, model_versions.fetch_manifest(published, artifact_places(settings))
    )
    if json:
        print_json(details)
    else:
        print_details(details)


def rollback(
    version: Annotated[int, typer.Argument(min=1, help="The version to go back to.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept in the event.")],
    model: ModelChoice = None,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Make an earlier version live at once, and pin it.

    Every application that follows the model swaps to it. While it is pinned, triggers do not ask for a run. The pin
    ends with `headrace models unpin`, or when as many new labels have come as the model's rules ask for.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    name = _append_rollback(settings, model, version, reason)
    typer.echo(f"version {version} of {name} is live, and pinned until `headrace models unpin --model {name}`")


def unpin(
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept in the event.")] = "",
    model: ModelChoice = None,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Remove the pin of a rollback, so that triggers may ask for a run again. The live version stays."""
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    name = _append_rollback(settings, model, None, reason)
    typer.echo(f"{name} is not pinned any more")


def _append_rollback(settings: Settings, model: str | None, version: int | None, reason: str) -> str:
    """Append a rollback event, and return the model's name. Raises TerminalError if it would change nothing."""
    from headrace.app import model_versions
    from headrace.base.times import wall_clock
    from headrace.models.intervention import intervene, unpin
    from headrace.models.kafka_model_event_log import KafkaModelEventLog
    from headrace.models.model_events import RolledBack

    with kafka_for_command(settings) as servers:
        states = model_versions.read_model_states(servers, settings.topics.models, signing(settings))
        name = model_versions.choose_model(states, model)
        data = unpin(states[name], name, reason, "") if version is None else RolledBack(version=version, reason=reason)
        event = intervene(states[name], data, id_=uuid.uuid4().hex, model=name, at_us=wall_clock())
        log = KafkaModelEventLog(
            servers, settings.topics.models, signing=signing(settings), timeout=model_versions.TIMEOUT
        )
        with closing(log):
            log.append(event)
    return name
