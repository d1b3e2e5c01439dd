"""`headrace repair`: lists what is missing or damaged in the event log, restores it, and accepts what is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.terminal.options import (
    BootstrapServers,
    DataDir,
    JsonOption,
    RedisUrl,
    StreamOption,
    YesOption,
    check_topic,
    settings_from,
)
from headrace.app.terminal.tables import print_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.event_log.damage import DamagedFile
    from headrace.event_log.event_log import EventLog
    from headrace.streams.plane.gap import LogGap

_COLUMNS = ("topic", "partition", "log_ends", "topic_begins", "topic_ends", "rows_lost")
_DAMAGE = ("topic", "file", "what")
_RESTORED = ("topic", "partition", "first", "end", "restored", "lost")
_NOTHING = "nothing to repair: every topic goes on where the event log ends"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(repair)


def repair(
    *,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Accept that the listed rows are lost, so that the partitions go on.")
    ] = False,
    restore: Annotated[
        bool,
        typer.Option("--restore", help="Set damaged files aside, and make missing rows again from Kafka."),
    ] = False,
    stream: StreamOption = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only the partition with this number.")] = None,
    yes: YesOption = False,
    reason: Annotated[str, typer.Option(help="Why; it is kept in the event log.")] = "headrace repair",
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List the damaged files of the event log, and the partitions that stopped because of a gap between it and a topic.

    Without --restore and --accept-loss nothing changes, and the exit code is 1 if there is something. --restore moves
    damaged files into the folder _damaged of their table, makes every missing row again from Kafka, and says which
    offsets are lost. An accepted gap is kept in the event log for good. Running workers go on within seconds, other
    workers when they start.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.app.local.services import known_addresses
    from headrace.app.processes.connections import addresses, schemas
    from headrace.app.project.project import load_project
    from headrace.bus.kafka_clients import admin
    from headrace.event_log.damage import find_damage
    from headrace.event_log.event_log import EventLog
    from headrace.streams.repair import find_gaps
    from headrace.streams.worker import own_streams

    servers = known_addresses(settings).bootstrap_servers or addresses(settings)[0]
    streams = _chosen(own_streams(list(load_project(settings).streams.values()), settings.namespace), stream)
    log = EventLog(settings.event_log, namespace=settings.namespace)
    if restore:
        own = list(streams.values())
        _restore(servers, log, own, schemas=schemas(settings, own), reason=reason, json=json)
        return
    if damage := [found for topic in streams for found in find_damage(log, topic)]:
        print_list(_DAMAGE, [_damage(found) for found in damage], json=json, if_empty=_NOTHING)
        typer.echo("their rows are made again from Kafka, while it has them, with --restore", err=True)
        raise typer.Exit(1)
    gaps = find_gaps(admin(servers), log, list(streams.values()))
    gaps = [gap for gap in gaps if partition in {None, gap.source.partition}]
    print_list(_COLUMNS, [_row(gap, json=json) for gap in gaps], json=json, if_empty=_NOTHING)
    if gaps:
        _decide(gaps, streams, log, accept=accept_loss, ask=not yes, reason=reason)


def _chosen(streams: Sequence[Stream], topic: str | None) -> Mapping[str, Stream]:
    known = {stream.topic: stream for stream in streams}
    check_topic(topic, known)
    return known if topic is None else {topic: known[topic]}


def _damage(found: DamagedFile) -> dict[str, Any]:
    return {"topic": found.topic, "file": str(found.file), "what": found.what}


def _restore(
    servers: str, log: EventLog, streams: Sequence[Stream], *, schemas: SchemaStore | None, reason: str, json: bool
) -> None:
    """Restore each stream's table. The exit code is 1 if rows are lost."""
    from headrace.streams.restored_rows import LogRestorer

    done = [each for stream in streams for each in LogRestorer(servers, log, stream, reason, schemas).restore()]
    rows = [{name: getattr(each, name) for name in _RESTORED} for each in done]
    print_list(_RESTORED, rows, json=json, if_empty="nothing is missing: every offset below the log's end has a row")
    if lost := sum(each.lost for each in done):
        typer.echo(f"{lost:,} rows are lost: Kafka does not have them any more", err=True)
        raise typer.Exit(1)


def _row(gap: LogGap, *, json: bool) -> dict[str, Any]:
    row = gap.to_json()
    return row if json else row | {"rows_lost": f"{row['rows_lost']:,}"}


def _decide(
    gaps: Sequence[LogGap], streams: Mapping[str, Stream], log: EventLog, *, accept: bool, ask: bool, reason: str
) -> None:
    """Accept the gaps one by one. Each is durable by itself, so an interruption leaves the others unchanged."""
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
