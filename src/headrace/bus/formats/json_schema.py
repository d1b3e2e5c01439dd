"""The format JSON with a schema registry, in Confluent's wire format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.formats.record_format import RecordFormat, RecordReader, RecordWriter, WrittenRecord
from headrace.bus.formats.registry_record import HEAD, RegistryReader, head_of, needed
from headrace.bus.written_events import written_events

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from headrace.bus.event import Event
    from headrace.bus.schemas.schema_registry import RegisteredSchema
    from headrace.bus.schemas.schema_store import SchemaStore


@dataclass(frozen=True)
class JsonSchema(RecordFormat):
    """Each record is a JSON object, after the id of its JSON Schema in the schema registry.

    The event class says what is accepted; the schema has to be there, and is not used to check the record again. A
    producer registers the JSON Schema of the event class under ``subject``, by default the topic and ``-value``.

    >>> from headrace import JsonSchema, Stream
    >>> from streams.flights import Departure
    >>> departures = Stream("departures", Departure, event_time="departed_at", format=JsonSchema())
    >>> departures.spec.format
    'jsonschema'
    """

    subject: str | None = None
    uses_schemas = True

    @property
    def spec(self) -> str:
        """The text of it in a stream's spec: what a reader has to know."""
        return "jsonschema"

    def reader(self, kind: Any, schemas: SchemaStore | None = None) -> RecordReader:
        """Return a reader of rows of this type. Raises SettingsError without a schema registry."""
        return _JsonSchemaReader(kind, needed(schemas, "JsonSchema()"), "JSON")

    def writer(self, topic: str, event: type[Event], schemas: SchemaStore | None = None) -> RecordWriter:
        """Return a writer of rows. Raises SettingsError without a schema registry."""
        return _JsonSchemaWriter(self.subject or f"{topic}-value", event, needed(schemas, "JsonSchema()"))


def json_schema(event: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema of an event class, with the names and the times that its records have."""
    written = written_events(event)
    return msgspec.json.schema(event if written is None else written.written)


class _JsonSchemaReader(RegistryReader):
    def content(self, schema: RegisteredSchema) -> Callable[[bytes], Any]:  # noqa: ARG002 - as the port has it
        decode = msgspec.json.Decoder(self._kind).decode
        return lambda value: decode(memoryview(value)[HEAD:])

    def converted(self, found: Any) -> Any:
        return found

    def all_converted(self, found: list[Any]) -> list[Any]:
        return found


class _JsonSchemaWriter(RecordWriter):
    def __init__(self, subject: str, event: type[Event], schemas: SchemaStore) -> None:
        self._subject, self._schemas = subject, schemas
        self._text = json.dumps(json_schema(event))

    def write(self, row: Any, at: datetime) -> WrittenRecord:  # noqa: ARG002 - as the port has it
        head = head_of(self._schemas.id_of(self._subject, "JSON", self._text))
        return WrittenRecord(head + msgspec.json.encode(row), {})
