"""`headrace log`: shows the event log, imports history into it, looks after its files by hand, adopts another log."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from headrace.app.terminal.options import (
    BootstrapServers,
    DataDir,
    JsonOption,
    RedisUrl,
    StreamOption,
    YesOption,
    check_topic,
    moment,
    settings_from,
    with_zone,
)
from headrace.app.terminal.progress import progress
from headrace.app.terminal.tables import print_list
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.app.project.settings import Settings
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.event_log.imports import ImportRecord
    from headrace.event_log.maintenance import TableShape

_STATUS = ("topic", "version", "rows", "files", "small_files", "bytes", "compacted", "vacuumed")


_IMPORTS = ("topic", "id", "state", "files", "rows", "rejected", "left_out", "available")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    log = typer.Typer(
        no_args_is_help=True, help="The event log: history from files, its files, and their upkeep by hand."
    )
    log.command("status")(status)
    log.command("import")(import_)
    log.command("imports")(imports)
    log.command("undo-import")(undo_import)
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


def import_(
    topic: Annotated[
        str, typer.Argument(metavar="STREAM", help="The stream, by its topic or its name in the project.")
    ],
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="Files, folders, Delta tables or patterns; also s3://…, gs://…")
    ],
    *,
    available_at: Annotated[
        str | None, typer.Option(help="Since when a row was known: a column of the files, or event_time+5m.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="Leave out rows that were available at this time or later, because the topic has them; `none`: leave "
            "out no row (default: the time of the first record of the topic)."
        ),
    ] = None,
    zone: Annotated[
        str | None, typer.Option(help="The zone of times without one, such as UTC or Europe/Berlin.")
    ] = None,
    deleted: Annotated[
        str | None, typer.Option(help="For a table: the column of the files that is true for a deleted row.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="parquet, csv or jsonl (default: as the names of the files say).")
    ] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
) -> None:
    """Import history from files into the event log: Parquet, Delta tables, CSV with a header, or lines of JSON.

    Rows enter the log in one commit, and workers fold them into all views of the stream. Files whose content was
    imported before are left out. If the command is interrupted, run it again: it goes on. `headrace log undo-import`
    takes an import back.
    """
    from headrace.app.processes.registry_alias import whoami
    from headrace.base.times import wall_clock
    from headrace.streams.imports.availability import Availability
    from headrace.streams.imports.history_import import HistoryImport, ImportOptions
    from headrace.streams.imports.source_file import find_files

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers)
    stream = _stream(settings, topic)
    available = Availability.of(stream, available_at, zone)
    found = find_files(files, _form(form))
    log = _log(settings)
    options = ImportOptions(available, _boundary(settings, log, stream, until), zone, whoami(), deleted)
    outcome = HistoryImport(log, stream, settings.data_dir / "imports", options, progress).run(found, wall_clock())
    for name, id_ in outcome.known.items():
        typer.echo(f"{name}: its content was imported before, by {id_}", err=True)
    _print_imports([] if outcome.record is None else [outcome.record], json=json, if_empty="nothing is new")


def imports(*, stream: StreamOption = None, json: JsonOption = False, data_dir: DataDir = None) -> None:
    """List the imports of history: their rows, their times, and whether they count."""
    from headrace.event_log.imports import Imports

    settings = settings_from(data_dir=data_dir)
    found = [each for each in Imports(_log(settings)).all() if stream in {None, each.topic}]
    _print_imports(found, json=json, if_empty="nothing was imported")


def undo_import(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The import, as `headrace log imports` shows it.")],
    *,
    yes: YesOption = False,
    data_dir: DataDir = None,
) -> None:
    """Undo an import: its rows leave the event log, and workers remove what they have folded of it from all views.

    A model version that was trained on these rows cannot be reproduced any more.
    """
    from headrace.base.times import wall_clock
    from headrace.event_log.imports import Imports
    from headrace.streams.imports.history_import import undo

    log = _log(settings_from(data_dir=data_dir))
    found = [each for each in Imports(log).all() if each.id == id_]
    if not found:
        raise SettingsError(f"there is no import {id_!r}: `headrace log imports` lists them")
    if not yes:
        typer.confirm(f"remove {found[0].rows:,} rows of {found[0].topic}, for good?", abort=True, err=True)
    done = undo(log, found[0].topic, id_, wall_clock())
    typer.echo(f"{done.topic}: import {done.id} is undone, {done.rows:,} rows are gone")


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


def _log(settings: Settings) -> EventLog:
    from headrace.event_log.event_log import EventLog

    return EventLog(settings.event_log, namespace=settings.namespace)


def _stream(settings: Settings, name: str) -> Stream:
    """Return the stream of a topic, or of that name in the project. Raises SettingsError."""
    from headrace.app.project.project import load_project

    streams = load_project(settings).streams
    by_name = {**streams, **{each.topic: each for each in streams.values()}}
    if name not in by_name:
        topics = sorted(each.topic for each in streams.values())
        raise SettingsError(f"the project has no stream {name!r}; it has {topics}")
    return by_name[name]


def _form(text: str | None) -> Any:
    if text not in {None, "parquet", "csv", "jsonl"}:
        raise typer.BadParameter(f"--format {text}: write parquet, csv or jsonl")
    return text


def _boundary(settings: Settings, log: EventLog, stream: Stream, until: str | None) -> int | None:
    """Return the time from which on rows are left out; None: no row is. Raises SettingsError if it is not known."""
    from headrace.app.local.services import known_addresses
    from headrace.app.processes.connections import schemas
    from headrace.base.times import epoch_us
    from headrace.streams.imports.boundary import first_in_log, first_in_topic

    if until is not None:
        return None if until == "none" else epoch_us(with_zone(moment(until)))
    servers = known_addresses(settings).bootstrap_servers
    logged = first_in_log(log, stream.topic)
    kept = None if servers is None else first_in_topic(servers, stream, schemas(settings, [stream]))
    found = min((us for us in (logged, kept) if us is not None), default=None)
    if found is None and servers is None:
        message = (
            f"where the topic {stream.topic!r} begins is not known: the event log has no rows of it, and no Kafka is "
            "set or running. Write --until TIME (from this time on the topic has the events), or --until none"
        )
        raise SettingsError(message)
    return found


def _print_imports(found: Sequence[ImportRecord], *, json: bool, if_empty: str) -> None:
    from headrace.event_log.imports import days

    if json:
        print_list(_IMPORTS, [{"id": each.id} | msgspec.to_builtins(each) for each in found], json=True, if_empty="")
        return
    rows = [
        {
            "topic": each.topic, "id": each.id, "state": each.state, "files": f"{len(each.files):,}",
            "rows": f"{each.rows:,}", "rejected": f"{sum(each.rejected.values()):,}",
            "left_out": f"{each.left_out:,}", "available": days(each),
        }
        for each in found
    ]  # fmt: skip
    print_list(_IMPORTS, rows, json=False, if_empty=if_empty)


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
