"""Makes the sources of `headrace ingest` from the entries of headrace.toml."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

from headrace.base.times import SECOND, duration_us
from headrace.bus.event_intake import EventIntake
from headrace.bus.formats.avro import Avro
from headrace.bus.formats.cloud_events import CloudEvents
from headrace.bus.formats.json_format import Json
from headrace.bus.formats.json_schema import JsonSchema
from headrace.bus.kafka_servers import KafkaServers, read_secrets, secret_from_file
from headrace.bus.producer import EventProducer
from headrace.bus.table import Table
from headrace.errors import DefinitionError, SettingsError, require
from headrace.streams.ingest.folder_source import FolderOptions, FolderSource
from headrace.streams.ingest.postgres_query import PostgresRows
from headrace.streams.ingest.postgres_source import PostgresOptions, PostgresSource
from headrace.streams.ingest.produced_files import ProducedFiles
from headrace.streams.ingest.source_state import SourceState
from headrace.streams.ingest.topic_source import TopicOptions, TopicSource

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from headrace.app.project.ingest_settings import IngestSettings
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.bus.formats.record_format import RecordFormat
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.streams.imports.source_file import FileForm
    from headrace.streams.ingest.ingest_metrics import IngestMetrics

_LINGER = "5ms"


class EventSource(Protocol):
    """What is looked at again and again."""

    def look(self, stopping: threading.Event) -> None:
        """Produce what is new. End early once ``stopping`` is set, and then leave what others may need."""


def entry_name(settings: Settings, place: int) -> str:
    """Return how errors name an entry: by its place in headrace.toml and its name."""
    return f"[[ingest]] {place + 1} ({settings.ingest[place].name!r}) in headrace.toml"


def stream_of(settings: Settings, place: int, project: Project, store: SchemaStore | None = None) -> Stream:
    """Return the stream of an entry. Raises SettingsError, which names the entry, if it cannot run."""
    entry, where = settings.ingest[place], entry_name(settings, place)
    stream = project.streams.get(entry.stream)
    if stream is None:
        raise SettingsError(
            f"{where}, stream = {entry.stream!r}: the project has no stream of that topic; it has "
            f"{sorted(project.streams)}"
        )
    try:
        stream.format.writer(stream.topic, stream.event, store)
    except (DefinitionError, SettingsError) as error:
        raise SettingsError(f"{where}, stream = {entry.stream!r}: no event can be produced to it. {error}") from error
    if entry.folder is not None and not (settings.root / entry.folder).is_dir():
        folder = str(settings.root / entry.folder)
        raise SettingsError(f"{where}, folder = {folder!r}: there is no such folder; make it first")
    if entry.postgres is not None:
        require("psycopg", "postgres")
        password_of(settings, place)
    if entry.topic is not None:
        _check_topic(stream, format_of(entry), store, where)
        kafka_of(settings, place)
    return stream


def streams_as_read(settings: Settings, project: Project) -> Iterator[Stream]:
    """Yield the streams of entries whose records have another format, each with that format."""
    for entry in settings.ingest:
        written, stream = format_of(entry), project.streams.get(entry.stream)
        if written is not None and stream is not None:
            yield replace(stream, format=written)


def _check_topic(stream: Stream, written: RecordFormat | None, store: SchemaStore | None, where: str) -> None:
    if isinstance(stream, Table):
        raise SettingsError(
            f"{where}: {stream.topic!r} is a table. The deletes of another topic would be lost: copy it with Kafka's "
            "MirrorMaker"
        )
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


@dataclass(frozen=True)
class SourceFactory:
    """Makes sources that produce to one Kafka."""

    settings: Settings
    servers: str
    schemas: SchemaStore | None
    metrics: IngestMetrics

    def make(self, place: int, stream: Stream) -> EventSource:
        """Return the source of an entry that is no webhook. Raises DataFolderInUseError if another process runs it."""
        makers: dict[str, Callable[[int, IngestSettings, Stream], EventSource]] = {
            "folder": self._folder, "postgres": self._postgres, "topic": self._topic,
        }  # fmt: skip
        entry = self.settings.ingest[place]
        return makers[entry.kind](place, entry, stream)

    def _producer(self) -> EventProducer:
        return EventProducer(self.servers, linger=_LINGER, schemas=self.schemas)

    def _folder(self, _: int, entry: IngestSettings, stream: Stream) -> FolderSource:
        folder = self.settings.root / (entry.folder or "")
        options = FolderOptions(
            entry.name, folder, cast("FileForm | None", entry.format), entry.zone, _seconds(entry.settle)
        )
        produced = ProducedFiles(self.settings.data_dir / "ingest" / entry.name)
        return FolderSource(options, stream, self._producer(), produced, metrics=self.metrics)

    def _postgres(self, place: int, entry: IngestSettings, stream: Stream) -> PostgresSource:
        rows = PostgresRows(entry.watermark or "", tuple(entry.key), entry.table, entry.query, entry.zone)
        password = password_of(self.settings, place)
        lag_s, longest_s = _seconds(entry.lag), _seconds(entry.longest_transaction)
        options = PostgresOptions(entry.name, entry.postgres or "", rows, password, lag_s, longest_s)
        return PostgresSource(options, stream, self._producer(), self._state(entry), metrics=self.metrics)

    def _topic(self, place: int, entry: IngestSettings, stream: Stream) -> TopicSource:
        options = TopicOptions(
            entry.name,
            entry.topic or "",
            kafka_of(self.settings, place) or self.servers,
            f"{self.settings.namespace}-ingest-{entry.name}",
            format_of(entry),
            self.schemas,
        )
        return TopicSource(options, stream, self._producer(), self._state(entry), metrics=self.metrics)

    def _state(self, entry: IngestSettings) -> SourceState:
        return SourceState(self.settings.data_dir / "ingest" / entry.name)


def _seconds(duration: str) -> float:
    return duration_us(duration) / SECOND
