"""`headrace demo`: replays half a year of real flights through the whole loop."""

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
    days: Annotated[int | None, typer.Option(min=1, help="Stop after this many days.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same report (default 0).")] = None,
    free_run: Annotated[
        bool, typer.Option("--free-run", help="Run without lockstep, with two workers, and kill one of them.")
    ] = False,
    days_per_second: Annotated[
        float, typer.Option(min=0.01, help="Days of history that a free run replays in a second.")
    ] = 1.0,
    data_dir: Annotated[
        Path, typer.Option(help="Folder of services, event log and registry. It is emptied first.")
    ] = Path(".headrace/demo"),
    output: Annotated[Path, typer.Option(help="Folder for demo-report.json and demo-auc.png.")] = Path(),
    json: JsonOption = False,
) -> None:
    """Replay real flights through worker, trainer and application, and report the result.

    A real Kafka, a real Valkey and three processes run on this machine and stop with the command. In lockstep (the
    default) all parts follow one injected clock, so that every run gives the same numbers.
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
