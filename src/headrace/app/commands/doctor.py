"""`headrace doctor`: whether a deployment can keep what headrace promises."""

from __future__ import annotations

import json as codec
from dataclasses import asdict
from typing import Annotated

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.app.terminal.tables import print_rows

_WRONG = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Look at the project, Redis, Kafka and the event log for what would lose data or lie. Changes nothing.

    The exit code is 1 if there is an error.
    """
    from headrace.app.doctor import Severity
    from headrace.app.doctor.diagnosis import diagnose

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    found = list(diagnose(settings))
    rows = [asdict(each) for each in found]
    if json:
        typer.echo(codec.dumps(rows, indent=2))
    else:
        print_rows(tuple(rows[0]), rows)
    bad = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    if any(each.severity in bad for each in found):
        raise typer.Exit(_WRONG)
