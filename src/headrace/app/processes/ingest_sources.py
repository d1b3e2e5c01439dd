"""Makes the sources of `headrace ingest` from the entries of headrace.toml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from headrace.app.project.ingest_entries import database_of, format_of, kafka_of
from headrace.base.times import SECOND, duration_us
from headrace.bus.producer import EventProducer
from headrace.streams.ingest.folder_source import FolderOptions, FolderSource
from headrace.streams.ingest.postgres_source import PostgresSource
from headrace.streams.ingest.produced_files import ProducedFiles
from headrace.streams.ingest.source_state import SourceState
from headrace.streams.ingest.topic_source import TopicOptions, TopicSource

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from headrace.app.project.ingest_settings import IngestSettings
    from headrace.app.project.settings import Settings
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.streams.imports.source_file import FileForm
    from headrace.streams.ingest.ingest_metrics import IngestMetrics

_LINGER = "5ms"


class EventSource(Protocol):
    """A source of events that a process looks at again and again."""

    def look(self, stopping: threading.Event) -> None:
        """Produce what is new. End early once ``stopping`` is set, and then leave what others may need."""


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
            entry.name, folder, cast("FileForm | None", entry.format), entry.zone, duration_us(entry.settle) / SECOND
        )
        produced = ProducedFiles(self.settings.data_dir / "ingest" / entry.name)
        return FolderSource(options, stream, self._producer(), produced, metrics=self.metrics)

    def _postgres(self, place: int, entry: IngestSettings, stream: Stream) -> PostgresSource:
        options = database_of(self.settings, place)
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
