"""`headrace reproduce`: make a version again from its manifest, and compare what both predict."""

from __future__ import annotations

import json as codec
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app.processes.broker import kafka, states
from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.app.terminal.tables import print_details, print_rows

if TYPE_CHECKING:
    from headrace.trainers.runs.reproduce import Reproduction

_DIFFERS = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reproduce)


def reproduce(
    version: Annotated[int, typer.Argument(min=1, help="The version, as `headrace models list` shows it.")],
    *,
    model: Annotated[str | None, typer.Option(help="The model; needed where several have events.")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Make a version again from its manifest and compare its predictions with the published one's, bit for bit.

    Reads the pinned rows of the event log, fits with this project's code and the manifest's seed, and says what differs
    from the manifest: data, definitions, code, packages. Exit code 1 if a prediction differs. Changes nothing.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.app import provenance
    from headrace.app.project.project import load_project
    from headrace.trainers.runs.fitting import FitPool
    from headrace.trainers.runs.reproduce import Reproducer

    with kafka(settings) as servers:
        found = states(servers)
    name = provenance.choose(found, model)
    event, published = provenance.publication(found[name], version)
    definition = load_project(settings).model(name)
    reproducer = Reproducer(settings.event_log, FitPool(), settings.trusted_types)
    told = reproducer.reproduce(definition, published, provenance.manifest_of(published), event.at_us)
    _tell(told, json=json)
    if not told.identical:
        raise typer.Exit(_DIFFERS)


def _tell(told: Reproduction, *, json: bool) -> None:
    import msgspec

    plain = msgspec.to_builtins(told)
    if json:
        typer.echo(codec.dumps(plain, indent=2))
        return
    differences = plain.pop("differences")
    print_details(plain)
    if differences:
        print_rows(("what", "then", "now"), differences)
    else:
        typer.echo("data, definitions, code and packages are those of the manifest")
