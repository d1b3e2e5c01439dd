"""Checks the sources of `headrace ingest`: the entries of headrace.toml, and what they read from."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from headrace.app.doctor.finding import Finding, error, ok, warning
from headrace.app.project.ingest_entries import check_access, database_of, kafka_of, named_stream
from headrace.bus.topics import has_topic
from headrace.errors import HeadraceError
from headrace.streams.ingest.postgres_source import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.bus.stream import Stream

_CORRECT = "correct the entry in headrace.toml; docs/how-to/ingest.md has its settings"
_REACH = "`headrace ingest` waits until it can read"


def examine(settings: Settings, project: Project, servers: str | None) -> Iterator[Finding]:
    """Check each entry. ``servers`` are those of the streams, if they are known."""
    for place, entry in enumerate(settings.ingest):
        subject = f"ingest {entry.name}"
        try:
            stream = named_stream(settings, place, project)
            check_access(settings, place)
        except HeadraceError as failed:
            yield error(subject, str(failed), _CORRECT)
            continue
        try:
            yield from _read(settings, place, stream, servers)
        except HeadraceError as failed:
            yield error(subject, str(failed), _REACH)


def _read(settings: Settings, place: int, stream: Stream, servers: str | None) -> Iterator[Finding]:
    entry = settings.ingest[place]
    subject, source = f"ingest {entry.name}", kafka_of(settings, place) or servers
    if entry.topic is not None and source is not None and not has_topic(source, entry.topic):
        yield error(subject, f"Kafka at {source} has no topic {entry.topic!r}", _REACH)
        return
    if entry.postgres is not None:
        database = opened(database_of(settings, place), stream)
        with closing(database.connection):
            if database.has_unread:
                columns = ", ".join((entry.watermark or "", *entry.key))
                yield warning(subject, f"rows with null in {columns} are never read", "give these columns NOT NULL")
    yield ok(subject, f"{entry.kind} to {entry.stream}")
