"""`headrace demo`: the whole loop on half a year of real flights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.app.options import Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    months: Annotated[int, typer.Option(min=1, max=12, help="Months of 2013 to replay, from January on.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same report.")] = 0,
    days: Annotated[int | None, typer.Option(min=1, help="Stop after so many days.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Emptied first: services, event log, registry.")] = Path(
        ".headrace/demo"
    ),
    output: Annotated[Path, typer.Option(help="Where demo-report.json and demo-auc.png go.")] = Path(),
    json: Json = False,
) -> None:
    """Replay real flights through worker, trainer and application, and report what came of it.

    Everything runs on this machine and stops with the command: a real Kafka, a real Valkey, three processes.
    """
    from rich.console import Console  # noqa: PLC0415 - --help needs none of it

    from headrace.app.demo.demo import DemoOptions, run_demo  # noqa: PLC0415

    run_demo(DemoOptions(months, data_dir.resolve(), output.resolve(), seed, days), Console(stderr=json))
    if json:
        typer.echo((output / "demo-report.json").read_text())
