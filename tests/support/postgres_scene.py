"""A source of database rows with a producer that keeps the events."""

from __future__ import annotations

import json
import threading
from datetime import datetime  # noqa: TC003 - a field
from typing import TYPE_CHECKING, Any

from headrace import Event, Stream
from headrace.streams.ingest.postgres_query import PostgresRows
from headrace.streams.ingest.postgres_source import PostgresOptions, PostgresSource
from headrace.streams.ingest.source_state import SourceState
from tests.support.recording_producer import RecordingProducer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres_server import Postgres


class Note(Event):
    id: int
    note: str | None
    updated_at: datetime


NOTES = Stream("notes", Note, event_time="updated_at", key="id")


class PostgresScene:
    """A source of one table, and what it has produced."""

    def __init__(self, postgres: Postgres, folder: Path, *, stream: Stream = NOTES, **options: Any) -> None:
        self.postgres, self.folder, self.stream = postgres, folder, stream
        rows = {"watermark": "updated_at", "key": ("id",)} | options.pop("rows", {})
        self.options = PostgresOptions(
            "shop", options.pop("url", postgres.url()), PostgresRows(**rows), **{"lag_s": 0.0, **options}
        )
        self.producer = RecordingProducer()
        self.begin()

    def begin(self) -> None:
        """Make the source, as a start does."""
        self.state, producer = SourceState(self.folder / "state"), self.producer
        self.source = PostgresSource(self.options, self.stream, producer, self.state)  # type: ignore[arg-type]

    def end(self) -> None:
        self.source.close()
        self.state.close()

    def look(self) -> list[Any]:
        """The events that one look produces."""
        before = len(self.producer.flushed)
        self.source.look(threading.Event())
        return self.producer.flushed[before:]

    def rejected(self) -> list[dict[str, Any]]:
        file = self.state.rejected
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
