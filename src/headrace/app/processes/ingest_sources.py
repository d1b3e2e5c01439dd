"""Makes the sources of `headrace ingest` from the entries of headrace.toml."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from headrace.base.times import SECOND, duration_us
from headrace.bus.kafka_servers import secret_from_file
from headrace.bus.producer import EventProducer
from headrace.errors import DefinitionError, SettingsError, require
from headrace.streams.ingest.folder_source import FolderOptions, FolderSource
from headrace.streams.ingest.postgres_query import PostgresRows
from headrace.streams.ingest.postgres_source import PostgresOptions, PostgresSource
from headrace.streams.ingest.produced_files import ProducedFiles
from headrace.streams.ingest.source_state import SourceState

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from headrace.app.project.ingest_settings import IngestSettings
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.streams.ingest.ingest_metrics import IngestMetrics

_LINGER = "5ms"


class EventSource(Protocol):
    """What is looked at again and again."""

    def look(self, stopping: threading.Event) -> None:
        """Produce what is new. End early once ``stopping`` is set."""


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
    return stream


def password_of(settings: Settings, place: int) -> str | None:
    """Return the password of an entry's database, None if it has none of its own. Raises SettingsError."""
    entry, where = settings.ingest[place], entry_name(settings, place)
    if entry.password_file is not None:
        return secret_from_file(f"{where}, password_file", settings.root / entry.password_file.expanduser())
    if entry.password_env is not None and entry.password_env not in os.environ:
        raise SettingsError(f"{where}, password_env = {entry.password_env!r}: the environment has no such variable")
    return None if entry.password_env is None else os.environ[entry.password_env]


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
            "folder": self._folder, "postgres": self._postgres,
        }  # fmt: skip
        entry = self.settings.ingest[place]
        return makers[entry.kind](place, entry, stream)

    def _producer(self) -> EventProducer:
        return EventProducer(self.servers, linger=_LINGER, schemas=self.schemas)

    def _folder(self, _: int, entry: IngestSettings, stream: Stream) -> FolderSource:
        folder = self.settings.root / (entry.folder or "")
        options = FolderOptions(entry.name, folder, entry.format, entry.zone, _seconds(entry.settle))
        produced = ProducedFiles(self.settings.data_dir / "ingest" / entry.name)
        return FolderSource(options, stream, self._producer(), produced, metrics=self.metrics)

    def _postgres(self, place: int, entry: IngestSettings, stream: Stream) -> PostgresSource:
        rows = PostgresRows(entry.watermark or "", tuple(entry.key), entry.table, entry.query, entry.zone)
        password = password_of(self.settings, place)
        lag_s, longest_s = _seconds(entry.lag), _seconds(entry.longest_transaction)
        options = PostgresOptions(entry.name, entry.postgres or "", rows, password, lag_s, longest_s)
        return PostgresSource(options, stream, self._producer(), self._state(entry), metrics=self.metrics)

    def _state(self, entry: IngestSettings) -> SourceState:
        return SourceState(self.settings.data_dir / "ingest" / entry.name)


def _seconds(duration: str) -> float:
    return duration_us(duration) / SECOND
