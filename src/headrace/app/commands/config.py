"""`headrace config`: shows the settings in force."""

from __future__ import annotations

import json as codec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.app.terminal.tables import print_json

if TYPE_CHECKING:
    from rich.table import Table

Explain = Annotated[bool, typer.Option("--explain", help="Also show where each value came from and what it means.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(config)


def config(
    explain: Explain = False,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show the settings in force. A flag wins over HEADRACE_…, which wins over headrace.toml, then the default."""
    from headrace.app.project.settings import explain as rows_of

    rows = rows_of(settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url))
    if json:
        print_json(rows if explain else {row["name"]: row["value"] for row in rows})
    elif explain:
        _print(_table(rows))
    else:
        for row in rows:
            typer.echo(f"{row['name']} = {codec.dumps(row['value'])}")


def _table(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "value", "from", "meaning", header_style="bold", box=None, pad_edge=False)
    for row in rows:
        value = row["value"] if isinstance(row["value"], str) else codec.dumps(row["value"])
        table.add_row(*(Text(text) for text in (row["name"], value, row["origin"], row["description"])))
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    Console().print(table)
