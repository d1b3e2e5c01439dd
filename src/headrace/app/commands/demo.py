"""`headrace demo`: the whole loop on half a year of real flights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.app.terminal.options import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    *,
    months: Annotated[int | None, typer.Option(min=1, max=12, help="Months of 2013 to replay (default 6).")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Stop after so many days.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same report (default 0).")] = None,
    free_run: Annotated[bool, typer.Option("--free-run", help="No lockstep: two workers, one is killed.")] = False,
    days_per_second: Annotated[float, typer.Option(min=0.01, help="The pace of a free run.")] = 1.0,
    data_dir: Annotated[Path, typer.Option(help="Emptied first: services, event log, registry.")] = Path(
        ".headrace/demo"
    ),
    output: Annotated[Path, typer.Option(help="Where demo-report.json and demo-auc.png go.")] = Path(),
    json: JsonOption = False,
) -> None:
    """Replay real flights through worker, trainer and application, and report what came of it.

    Everything runs on this machine and stops with the command: a real Kafka, a real Valkey, three processes. In
    lockstep, the default, one injected clock makes every run give the same numbers.
    """
    from rich.console import Console

    from headrace.app.demo.demo import DemoOptions, run_demo

    options = DemoOptions(
        data_dir.resolve(),
        output.resolve(),
        months=months,
        seed=seed,
        days=days,
        free_run=free_run,
        days_per_second=days_per_second,
    )
    run_demo(options, Console(stderr=json))
    if json:
        typer.echo((output / "demo-report.json").read_text())
