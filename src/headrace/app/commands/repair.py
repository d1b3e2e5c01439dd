"""`headrace repair`: the gaps between topics and the event log, and accepting what is lost in them."""

from __future__ import annotations

import json as codec
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.streams.plane.gap import Gap

_COLUMNS = ("topic", "partition", "log_ends", "topic_begins", "topic_ends", "rows_lost")
_UNWRAPPED = 10_000  # columns: what is no terminal gets whole lines
_NOTHING = "nothing to repair: every topic goes on where the event log ends"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(repair)


def repair(
    *,
    accept_loss: Annotated[bool, typer.Option("--accept-loss", help="Go on without the lost rows.")] = False,
    stream: Annotated[str | None, typer.Option(metavar="TOPIC", help="Only this stream's topic.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only the partition of this number.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the event log.")] = "headrace repair",
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List partitions that stopped, as topic and event log do not meet, and accept what is lost there.

    Without --accept-loss nothing changes, and the exit code is 1 if there is a gap. What is accepted is kept in the
    event log for good: running workers go on within seconds, others when they start.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.app.local.services import known_addresses
    from headrace.app.processes.connections import addresses
    from headrace.app.project.project import load_project
    from headrace.bus.topics import admin
    from headrace.event_log.event_log import EventLog
    from headrace.streams.repair import find_gaps
    from headrace.streams.worker import own_streams

    servers = known_addresses(settings).bootstrap_servers or addresses(settings)[0]
    streams = _chosen(own_streams(list(load_project(settings).streams.values())), stream)
    log = EventLog(settings.event_log)
    gaps = find_gaps(admin(servers), log, list(streams.values()))
    gaps = [gap for gap in gaps if partition in {None, gap.source.partition}]
    if json:
        typer.echo(codec.dumps([gap.told() for gap in gaps], indent=2))
    elif gaps:
        _print(gaps)
    else:
        typer.echo(_NOTHING)
    if gaps:
        _decide(gaps, streams, log, accept=accept_loss, ask=not yes, reason=reason)


def _chosen(streams: Sequence[Stream], topic: str | None) -> Mapping[str, Stream]:
    from headrace.errors import SettingsError

    known = {stream.topic: stream for stream in streams}
    if topic is None:
        return known
    if topic not in known:
        raise SettingsError(f"--stream {topic}: the project has no stream of that topic; it has {sorted(known)}")
    return {topic: known[topic]}


def _print(gaps: Sequence[Gap]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*(name.replace("_", " ") for name in _COLUMNS), box=None, pad_edge=False)
    for gap in gaps:
        told = gap.told()
        table.add_row(*(f"{told[name]:,}" if name == "rows_lost" else str(told[name]) for name in _COLUMNS))
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = _UNWRAPPED
    console.print(table)


def _decide(
    gaps: Sequence[Gap], streams: Mapping[str, Stream], log: EventLog, *, accept: bool, ask: bool, reason: str
) -> None:
    """Accept them one by one, each durable by itself: an interruption leaves the others as they were."""
    from headrace.streams.repair import accept_loss

    lost = sum(gap.rows_lost for gap in gaps)
    if not accept:
        typer.echo(f"restore the topics, or accept the loss of {lost:,} rows with --accept-loss", err=True)
        raise typer.Exit(1)
    if ask:
        typer.confirm(f"go on without {lost:,} rows in {len(gaps)} partitions, for good?", abort=True, err=True)
    for gap in gaps:
        accept_loss(log, streams[gap.topic], gap, reason)
        typer.echo(f"{gap.topic}-{gap.source.partition} goes on at {gap.goes_on_at}", err=True)
