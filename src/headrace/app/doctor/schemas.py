"""Compares streams whose records name a schema with the schema registry."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from headrace.app.doctor.finding import Finding, error, ok, warning
from headrace.errors import SchemaRegistryUnavailableError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headrace.app.project.settings import Settings
    from headrace.bus.formats.registry_record import RegistryFormat
    from headrace.bus.schemas.schema_registry import RegisteredSchema, SchemaRegistry
    from headrace.bus.stream import Stream

_SUBJECT = "schemas"
NO_REGISTRY = "set url in [schema_registry] of headrace.toml, or HEADRACE_SCHEMA_REGISTRY__URL"


def examine(settings: Settings, streams: Iterable[Stream]) -> Iterator[Finding]:
    """Check that the registry answers, and that its newest schemas have what the event classes need."""
    using = [stream for stream in streams if stream.format.uses_schemas]
    if not using:
        return
    try:
        registry = registry_of(settings)
    except SettingsError as failed:
        yield error(_SUBJECT, f"{using[0].topic!r} needs a schema registry: {failed}", NO_REGISTRY)
        return
    with closing(registry):
        try:
            for stream, written in with_subjects(using):
                yield _compared(registry, stream, written)
        except SchemaRegistryUnavailableError as failed:
            said = f"the schema registry {registry.url} does not answer: {failed}"
            yield error(_SUBJECT, said, "partitions with a schema that is not known yet wait for it")


def registry_of(settings: Settings) -> SchemaRegistry:
    """Return the schema registry of the settings. Raises SettingsError if there is none."""
    from headrace.bus.schemas.confluent_schema_registry import ConfluentSchemaRegistry

    access = settings.schema_registry.access(settings.root)
    if access is None:
        raise SettingsError(f"no schema registry: {NO_REGISTRY}")
    return ConfluentSchemaRegistry(access)


def with_subjects(streams: Iterable[Stream]) -> list[tuple[Stream, RegistryFormat]]:
    """Return the streams that have a subject in a schema registry, each with its format."""
    from headrace.bus.formats.registry_record import RegistryFormat

    return [(each, each.format) for each in streams if isinstance(each.format, RegistryFormat)]


def lacking(stream: Stream, written: RegistryFormat, newest: RegisteredSchema) -> list[str]:
    """Return the names that each record must have, and that records of a schema do not have.

    A field at another place needs the first name of its path.
    """
    infos = msgspec.structs.fields(stream.event)
    needed = {info.encode_name.removeprefix("$.").partition(".")[0] for info in infos if info.required}
    return sorted(needed - written.names(newest))


def _compared(registry: SchemaRegistry, stream: Stream, written: RegistryFormat) -> Finding:
    subject = written.subject_of(stream.topic)
    newest = registry.latest(subject)
    if newest is None:
        said = f"the schema registry has no subject {subject!r} for {stream.topic!r}"
        return warning(_SUBJECT, said, "a producer registers it with its first record")
    missing = lacking(stream, written, newest)
    if missing:
        said = (
            f"the newest schema of {subject!r} (id {newest.id}) lacks {', '.join(missing)} of {stream.event.__name__}"
        )
        return error(_SUBJECT, said, "its records are dead letters: give these fields a default, or mend the schema")
    return ok(_SUBJECT, f"{stream.topic!r} reads the newest schema of {subject!r} (id {newest.id})")
