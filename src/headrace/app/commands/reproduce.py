"""`headrace reproduce`: makes a version again from its manifest, and compares the predictions of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from headrace.app.processes.connections import artifact_places, kafka_for_command
from headrace.app.terminal.options import (
    BootstrapServers,
    DataDir,
    JsonOption,
    ModelArgument,
    RedisUrl,
    VersionArgument,
    settings_from,
)
from headrace.app.terminal.tables import print_details, print_json, print_rows

if TYPE_CHECKING:
    from headrace.trainers.runs.reproduce import Reproduction

_DIFFERS = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reproduce)


def reproduce(
    model: ModelArgument,
    version: VersionArgument,
    *,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Make a version again from its manifest, and compare its predictions with the published version's, bit for bit.

    It reads the pinned rows of the event log, fits with this project's code and the manifest's seed, and lists what
    differs from the manifest: data, definitions, code, packages. Exit code 1 if a prediction differs. Changes nothing.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.app import model_versions
    from headrace.app.processes.trainer import fit_limits
    from headrace.app.project.project import load_project
    from headrace.trainers.runs.fitting import FitPool
    from headrace.trainers.runs.reproduce import Reproducer

    with kafka_for_command(settings) as servers:
        states = model_versions.read_model_states(servers, settings.topics.models, settings.signing)
    name = model_versions.choose_model(states, model)
    event, published = model_versions.find_publication(states[name], version)
    definition = load_project(settings).model(name)
    places = artifact_places(settings)
    fits = FitPool(fit_limits(settings))
    reproducer = Reproducer(settings.event_log, fits, settings.trusted_types, places, settings.namespace)
    manifest = model_versions.fetch_manifest(published, places)
    found = reproducer.reproduce(definition, published, manifest, event.at_us)
    _print(found, json=json)
    if not found.identical:
        raise typer.Exit(_DIFFERS)


def _print(found: Reproduction, *, json: bool) -> None:
    import msgspec

    if json:
        print_json(found)
        return
    details = msgspec.to_builtins(found)
    differences = details.pop("differences")
    print_details(details)
    if differences:
        print_rows(("what", "then", "now"), differences)
    else:
        typer.echo("data, definitions, code and packages are those of the manifest")
