"""The format JSON with a schema registry, in Confluent's wire format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.event import fields
from headrace.bus.formats.record_format import Headers, RecordReader, RecordWriter, WrittenRecord
from headrace.bus.formats.registry_record import HEAD, OwnSchema, RegistryFormat, RegistryReader, head_of, needed
from headrace.bus.written_events import written_events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from headrace.bus.event import Event
    from headrace.bus.schemas.schema_registry import RegisteredSchema
    from headrace.bus.schemas.schema_store import SchemaStore


@dataclass(frozen=True)
class JsonSchema(RegistryFormat):
    """Each record is a JSON object, after the id of its JSON Schema in the schema registry.

    The event class says what is accepted. The schema has to be in the registry, but records are not checked against it.
    A producer registers the JSON Schema of the event class under ``subject``, by default the topic and ``-value``.

    It needs the extra ``schemas`` (``pip install "headrace[schemas]"``) and ``[schema_registry]`` in headrace.toml.

    >>> from headrace import JsonSchema, Stream
    >>> from streams.flights import Departure
    >>> departures = Stream("departures", Departure, event_time="departed_at", format=JsonSchema())
    >>> departures.spec.format
    'jsonschema'
    """

    subject: str | None = None

    @property
    def spec(self) -> str:
        """The text of it in a stream's spec: what a reader has to know."""
        return "jsonschema"

    def reader(self, kind: Any, schemas: SchemaStore | None = None) -> RecordReader:
        """Return a reader of rows of this type. Raises SettingsError without a schema registry."""
        return _JsonSchemaReader(kind, needed(schemas, "JsonSchema()"))

    def writer(self, topic: str, event: type[Event], schemas: SchemaStore | None = None) -> RecordWriter:
        """Return a writer of rows. Raises SettingsError without a schema registry."""
        return _JsonSchemaWriter(self.own_schema(topic, event), needed(schemas, "JsonSchema()"))

    def own_schema(self, topic: str, event: type[Event]) -> OwnSchema:
        """Return the JSON Schema of an event class."""
        return OwnSchema(self.subject_of(topic), "JSON", json.dumps(json_schema(event)))

    def names(self, schema: RegisteredSchema) -> set[str]:
        """Return the names of the properties of a schema."""
        document = json.loads(schema.text)
        found = document.get("$ref", "").rpartition("/")[2] if isinstance(document, dict) else ""
        return set((document.get("$defs", {}).get(found) or document).get("properties", ()))


def json_schema(event: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema of an event class, with the names and the times that its records have."""
    written = written_events(event)
    found = msgspec.json.schema(event if written is None else written.written)
    _mark_times(event, found["$defs"])
    return found


def _mark_times(event: type[Event], definitions: dict[str, Any]) -> None:
    """Say which texts are times: msgspec does not."""
    properties = definitions.get(event.__name__, {}).get("properties", {})
    for field, info in zip(fields(event), msgspec.structs.fields(event), strict=True):
        if field.event is not None:
            _mark_times(field.event, definitions)
        elif field.kind == "datetime" and field.form is None and info.encode_name in properties:
            _mark(properties[info.encode_name])


def _mark(schema: dict[str, Any]) -> None:
    for each in (schema, *schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        if each.get("type") == "string":
            each |= {"format": "date-time"}
        elif each is not schema:
            _mark(each)


class _JsonSchemaReader(RegistryReader):
    def __init__(self, kind: Any, schemas: SchemaStore) -> None:
        super().__init__(kind, schemas, "JSON")
        self._decode = msgspec.json.Decoder(kind).decode

    def content(self, schema: RegisteredSchema) -> Callable[[bytes], Any]:  # noqa: ARG002 - as the port has it
        return lambda value: self._decode(value[HEAD:])

    def rows(self, values: Sequence[Any], headers: Sequence[Headers]) -> list[Any]:  # noqa: ARG002
        for head in {value[:HEAD] for value in values}:
            self.known(head)
        return list(map(self._decode, [value[HEAD:] for value in values]))

    def converted(self, found: Any) -> Any:
        return found


class _JsonSchemaWriter(RecordWriter):
    def __init__(self, own: OwnSchema, schemas: SchemaStore) -> None:
        self._own, self._schemas = own, schemas

    def write(self, row: Any, at: datetime) -> WrittenRecord:  # noqa: ARG002 - as the port has it
        head = head_of(self._schemas.id_of(*self._own))
        return WrittenRecord(head + msgspec.json.encode(row), {})
