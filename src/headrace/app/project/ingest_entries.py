"""What the entries [[ingest]] of headrace.toml name: streams, passwords, servers, formats. Errors name the entry."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.base.times import SECOND, duration_us
from headrace.bus.event_intake import EventIntake
from headrace.bus.formats.avro import Avro
from headrace.bus.formats.cloud_events import CloudEvents
from headrace.bus.formats.json_format import Json
from headrace.bus.formats.json_schema import JsonSchema
from headrace.bus.kafka_servers import KafkaServers, read_secrets, secret_from_file
from headrace.bus.table import Table
from headrace.errors import DefinitionError, SettingsError, require
from headrace.streams.ingest.postgres_query import PostgresRows
from headrace.streams.ingest.postgres_source import PostgresOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.project.ingest_settings import IngestSettings
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.bus.formats.record_format import RecordFormat
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream


def entry_name(settings: Settings, place: int) -> str:
    """Return how errors name an entry: by its place in headrace.toml and its name."""
    return f"[[ingest]] {place + 1} ({settings.ingest[place].name!r}) in headrace.toml"


def named_stream(settings: Settings, place: int, project: Project) -> Stream:
    """Return the stream that an entry names. Raises SettingsError, which names the entry, if it cannot be the one."""
    entry, where = settings.ingest[place], entry_name(settings, place)
    stream = project.streams.get(entry.stream)
    if stream is None:
        raise SettingsError(
            f"{where}, stream = {entry.stream!r}: the project has no stream of that topic; it has "
            f"{sorted(project.streams)}"
        )
    if entry.topic is not None and isinstance(stream, Table):
        raise SettingsError(
            f"{where}: {stream.topic!r} is a table. The deletes of another topic would be lost: copy it with Kafka's "
            "MirrorMaker"
        )
    return stream


def stream_of(settings: Settings, place: int, project: Project, store: SchemaStore | None = None) -> Stream:
    """Return the stream of an entry. Raises SettingsError, which names the entry, if it cannot run."""
    stream, where = named_stream(settings, place, project), entry_name(settings, place)
    entry = settings.ingest[place]
    try:
        stream.format.writer(stream.topic, stream.event, store)
    except (DefinitionError, SettingsError) as error:
        raise SettingsError(f"{where}, stream = {entry.stream!r}: no event can be produced to it. {error}") from error
    check_access(settings, place)
    if entry.topic is not None:
        _check_readable(stream, format_of(entry), store, where)
    return stream


def check_access(settings: Settings, place: int) -> None:
    """Check what this machine needs for an entry. Raises SettingsError, and MissingExtraError."""
    entry = settings.ingest[place]
    if entry.folder is not None and not (settings.root / entry.folder).is_dir():
        folder = str(settings.root / entry.folder)
        raise SettingsError(
            f"{entry_name(settings, place)}, folder = {folder!r}: there is no such folder; make it first"
        )
    if entry.postgres is not None:
        require("psycopg", "postgres")
        password_of(settings, place)
    kafka_of(settings, place)


def streams_as_read(settings: Settings, project: Project) -> Iterator[Stream]:
    """Yield the streams of entries whose records have another format, each with that format."""
    for entry in settings.ingest:
        written, stream = format_of(entry), project.streams.get(entry.stream)
        if written is not None and stream is not None:
            yield replace(stream, format=written)


def _check_readable(stream: Stream, written: RecordFormat | None, store: SchemaStore | None, where: str) -> None:
    try:
        EventIntake(stream, written or stream.format, store)
    except (DefinitionError, SettingsError) as error:
        raise SettingsError(f"{where}: its records cannot be read. {error}") from error


def password_of(settings: Settings, place: int) -> str | None:
    """Return the password of an entry's database, None if it has none of its own. Raises SettingsError."""
    entry, where = settings.ingest[place], entry_name(settings, place)
    if entry.password_file is not None:
        return secret_from_file(f"{where}, password_file", settings.root / entry.password_file.expanduser())
    if entry.password_env is not None and entry.password_env not in os.environ:
        raise SettingsError(f"{where}, password_env = {entry.password_env!r}: the environment has no such variable")
    return None if entry.password_env is None else os.environ[entry.password_env]


def kafka_of(settings: Settings, place: int) -> KafkaServers | None:
    """Return the Kafka of an entry's topic; None if it is that of the streams. Raises SettingsError."""
    entry = settings.ingest[place]
    if entry.bootstrap_servers is None:
        return None
    try:
        return KafkaServers(entry.bootstrap_servers, read_secrets(entry.kafka, settings.root))
    except SettingsError as error:
        raise SettingsError(f"{entry_name(settings, place)}: {error}") from error


def format_of(entry: IngestSettings) -> RecordFormat | None:
    """Return the format of the records of an entry's topic; None if it is that of the stream."""
    formats: dict[str, RecordFormat] = {
        "json": Json(), "cloudevents": CloudEvents(), "avro": Avro(), "json-schema": JsonSchema(),
    }  # fmt: skip
    return formats.get(entry.format or "") if entry.topic is not None else None


def database_of(settings: Settings, place: int) -> PostgresOptions:
    """Return the database of an entry. Raises SettingsError."""
    entry = settings.ingest[place]
    rows = PostgresRows(entry.watermark or "", tuple(entry.key), entry.table, entry.query, entry.zone)
    lag_s, longest_s = (duration_us(each) / SECOND for each in (entry.lag, entry.longest_transaction))
    return PostgresOptions(entry.name, entry.postgres or "", rows, password_of(settings, place), lag_s, longest_s)
