"""`headrace replay`: a project's own history through the whole loop, in lockstep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app.terminal.options import JsonOption, settings_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.app.demo.history import History
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)


def replay(
    *,
    files: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="TOPIC=FILE",
            help="Events of a stream: Parquet, CSV, JSON lines, Delta; a folder or a pattern. Or `log`: the event log.",
        ),
    ],
    available_at: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC=RULE", help="Since when a row was known: a column, or event_time+5m."),
    ] = None,
    zone: Annotated[str | None, typer.Option(help="The zone of times without one, such as UTC.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Stop after this many days.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same report (default 0).")] = None,
    data_dir: Annotated[
        Path, typer.Option(help="Folder of services, event log and registry. It is emptied first.")
    ] = Path(".headrace/replay"),
    output: Annotated[Path, typer.Option(help="Folder for replay-report.json and replay-auc.png.")] = Path(),
    json: JsonOption = False,
) -> None:
    """Replay your own events through worker, trainer and application, and report which versions are published.

    A real Kafka, a real Valkey and three processes run on this machine and stop with the command. All parts follow one
    injected clock, so that every run gives the same numbers. The project has one model, whose label is true or false.
    """
    from rich.console import Console

    from headrace.app.demo.demo import DemoOptions, run_demo

    own = settings_from()
    options = DemoOptions(
        data_dir.resolve(),
        output.resolve(),
        seed=seed,
        days=days,
        source=lambda project: _history(own, project, files, _rules(available_at), zone),
        name="replay",
    )
    run_demo(options, Console(stderr=json))
    if json:
        typer.echo((output / "replay-report.json").read_text())


def _rules(given: Sequence[str] | None) -> dict[str, str]:
    rules = {}
    for each in given or ():
        topic, is_pair, rule = each.partition("=")
        if not is_pair:
            raise typer.BadParameter(f"--available-at {each}: write TOPIC=COLUMN or TOPIC=event_time+5m")
        rules[topic] = rule
    return rules


def _history(
    settings: Settings, project: Project, files: Sequence[str], rules: dict[str, str], zone: str | None
) -> History:
    """Read the events, and say on standard error how many rows were left out."""
    from headrace.app.demo.given_history import (
        FROM_LOG,
        GivenHistory,
        check_streams,
        history_of_files,
        history_of_log,
    )
    from headrace.event_log.event_log import EventLog

    streams = list(project.streams.values())
    log = EventLog(settings.event_log, namespace=settings.namespace)
    of_log = list(files) == [FROM_LOG]
    in_log = [stream.topic for stream in streams if of_log and log.exists(stream.topic)]
    for model in project.models.values():
        check_streams(model, streams, in_log if of_log else [name.partition("=")[0] for name in files])
    found = history_of_log(log, streams) if of_log else history_of_files(streams, files, rules, zone)
    for topic, own in found.items():
        if own.left_out:
            typer.echo(f"{topic}: {own.left_out:,} rows are left out, as a worker would not count them", err=True)
    return GivenHistory(found)
