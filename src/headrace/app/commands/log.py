"""`headrace log`: shows the files of the event log, compacts and vacuums them by hand, and adopts another log."""

from __future__ import annotations

from datetime import timedelta
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
from headrace.app.terminal.progress import progress
from headrace.app.terminal.tables import print_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.app.project.settings import Settings
    from headrace.event_log.event_log import EventLog
    from headrace.event_log.maintenance import TableShape

_STATUS = ("topic", "version", "rows", "files", "small_files", "bytes", "compacted", "vacuumed")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    log = typer.Typer(no_args_is_help=True, help="The event log: its files, and their upkeep by hand.")
    log.command("status")(status)
    log.command("compact")(compact)
    log.command("vacuum")(vacuum)
    log.command("adopt")(adopt)
    app.add_typer(log, name="log")


def status(*, stream: StreamOption = None, json: JsonOption = False, data_dir: DataDir = None) -> None:
    """Show the size of each table, its small files, and when it was last compacted and vacuumed."""
    from headrace.event_log.maintenance import table_shape

    log, topics = _tables(settings_from(data_dir=data_dir), stream)
    rows = [_row(table_shape(log, topic)) for topic in topics]
    if not json:
        rows = [row | {name: f"{row[name]:,}" for name in _STATUS[1:6]} for row in rows]
    print_list(_STATUS, rows, json=json, if_empty="the event log is empty")


def compact(*, stream: StreamOption = None, data_dir: DataDir = None) -> None:
    """Merge small files, even if there are only two. Workers do this by themselves every `compact_interval`.

    It is safe while workers run and while another compaction runs: if two meet, one is refused and changes nothing.
    """
    from headrace.base.times import wall_clock
    from headrace.event_log import maintenance

    log, topics = _tables(settings_from(data_dir=data_dir), stream)
    sizes = maintenance.CompactionSizes(least_files=2)
    for topic in topics:
        before = maintenance.table_shape(log, topic, sizes)
        with progress(topic, before.small_files) as advance:
            for files in maintenance.compact(log, topic, wall_clock() // 1_000_000, sizes):
                advance(files)
        after = maintenance.table_shape(log, topic, sizes)
        typer.echo(f"{topic}: {before.files:,} files before, {after.files:,} now")


def vacuum(
    *,
    stream: StreamOption = None,
    retention: Annotated[
        str | None,
        typer.Option(help="Delete only files that were replaced at least this long ago (default: log_retention)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the files and delete nothing.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete the files that compaction replaced. Workers do this by themselves once a day.

    A reader of a snapshot that is older than the retention loses its files. So the retention is at least seven days,
    and it has to be longer than the longest training run. Manifests pin offsets, not files: no model loses its data.
    """
    from headrace.base.times import duration_us, wall_clock
    from headrace.event_log import maintenance

    settings = settings_from(data_dir=data_dir, log_retention=retention)
    keep = timedelta(microseconds=duration_us(settings.log_retention))
    log, topics = _tables(settings, stream)
    with progress("vacuumed", len(topics)) as advance:
        for topic in topics:
            gone = maintenance.vacuum(log, topic, wall_clock() // 1_000_000, keep, dry_run=dry_run)
            advance(1)
            typer.echo(f"{topic}: {gone:,} files {'would be ' if dry_run else ''}deleted")


def adopt(
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the claim.")],
    yes: YesOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Let the namespace have this event log from now on, instead of the one that its first worker had.

    Stop all workers first. Features in Redis that were counted from the other log stay: `headrace doctor` and the
    workers' log say where they and the new log differ.
    """
    from headrace.app.processes.connections import addresses
    from headrace.base.times import wall_clock
    from headrace.event_log.event_log import EventLog
    from headrace.event_log.log_identity import identity_of
    from headrace.features.online.redis.redis_store import RedisOnlineStore
    from headrace.streams.log_claims import LogClaims

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    servers, url = addresses(settings)
    claims = LogClaims(servers, settings.namespace, RedisOnlineStore(url, settings.namespace))
    own, others = identity_of(EventLog(settings.event_log, namespace=settings.namespace)), claims.known()
    for who, known in others.items():
        typer.echo(f"{who} knows the log at {known.place}", err=True)
    holder = claims.holder(own)
    if holder not in {None, settings.namespace}:
        typer.echo(f"namespace {holder!r} has this log now, and will not have it any more", err=True)
    if not yes:
        typer.confirm(f"let namespace {settings.namespace!r} have the log at {own.place}?", abort=True, err=True)
    claims.adopt(own, wall_clock(), reason)
    typer.echo(f"namespace {settings.namespace!r} has the event log at {own.place}")


def _tables(settings: Settings, topic: str | None) -> tuple[EventLog, Sequence[str]]:
    """Return the event log, and the project's topics that it has: only ``topic``, or all of them."""
    from headrace.app.project.project import load_project
    from headrace.event_log.event_log import EventLog
    from headrace.streams.worker import own_streams

    log = EventLog(settings.event_log, namespace=settings.namespace)
    known = [stream.topic for stream in own_streams(list(load_project(settings).streams.values()), settings.namespace)]
    check_topic(topic, known)
    return log, [each for each in known if topic in {None, each} and log.exists(each)]


def _row(found: TableShape) -> dict[str, Any]:
    return {
        "topic": found.topic, "version": found.version, "rows": found.rows, "files": found.files,
        "small_files": found.small_files, "bytes": found.bytes,
        "compacted": _time(found.compacted_s), "vacuumed": _time(found.vacuumed_s),
    }  # fmt: skip


def _time(seconds: int | None) -> str | None:
    from headrace.base.times import utc_datetime

    return None if seconds is None else utc_datetime(seconds * 1_000_000).isoformat()
