"""The format Avro with a schema registry, in Confluent's wire format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from headrace.bus.formats.record_format import RecordReader, RecordWriter, WrittenRecord
from headrace.bus.formats.registry_record import HEAD, OwnSchema, RegistryFormat, RegistryReader, head_of, needed
from headrace.bus.schemas.avro_schema import avro_schema, plain_record
from headrace.bus.schemas.readable_avro import parsed
from headrace.errors import CodecError, require

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from headrace.bus.event import Event
    from headrace.bus.schemas.schema_registry import RegisteredSchema
    from headrace.bus.schemas.schema_store import SchemaStore


@dataclass(frozen=True)
class Avro(RegistryFormat):
    """Each record is Avro, after the id of its schema in the schema registry.

    A record is read by the schema with which it was written. A field of the record goes to the field of the event with
    the same name. Records of several schemas may follow each other. A producer registers the schema of the event class
    under ``subject``, by default the topic and ``-value``.

    It needs the extra ``schemas`` (``pip install "headrace[schemas]"``) and ``[schema_registry]`` in headrace.toml.

    >>> from headrace import Avro, Stream
    >>> from streams.flights import Departure
    >>> departures = Stream("departures", Departure, event_time="departed_at", format=Avro())
    >>> departures.spec.format
    'avro'
    """

    subject: str | None = None
    has_nan = True

    @property
    def spec(self) -> str:
        """The text of it in a stream's spec: what a reader has to know."""
        return "avro"

    def reader(self, kind: Any, schemas: SchemaStore | None = None) -> RecordReader:
        """Return a reader of rows of this type. Raises SettingsError without a schema registry."""
        return _AvroReader(kind, needed(schemas, "Avro()"))

    def writer(self, topic: str, event: type[Event], schemas: SchemaStore | None = None) -> RecordWriter:
        """Return a writer of rows. Raises SettingsError without a schema registry."""
        return _AvroWriter(self.own_schema(topic, event), needed(schemas, "Avro()"))

    def own_schema(self, topic: str, event: type[Event]) -> OwnSchema:
        """Return the Avro schema of an event class. Raises DefinitionError for a field that stands at another place."""
        return OwnSchema(self.subject_of(topic), "AVRO", json.dumps(avro_schema(event)))

    def names(self, schema: RegisteredSchema) -> set[str]:
        """Return the names of the fields of a schema, and their aliases."""
        document = json.loads(schema.text)
        fields = document.get("fields", ()) if isinstance(document, dict) else ()
        return {name for each in fields for name in (each.get("name"), *each.get("aliases", ()))}


class _AvroReader(RegistryReader):
    def __init__(self, kind: Any, schemas: SchemaStore) -> None:
        super().__init__(kind, schemas, "AVRO")
        self._read = require("fastavro", "schemas").schemaless_reader  # here: no record is to blame if it is missing

    def content(self, schema: RegisteredSchema) -> Callable[[bytes], Any]:
        written_with, read, renamed = parsed(schema), self._read, self._renamed(json.loads(schema.text))

        def content(value: bytes) -> Any:
            source = BytesIO(value)
            source.seek(HEAD)
            try:
                found = read(source, written_with, None)
            except (EOFError, IndexError, ValueError, OverflowError) as error:  # their texts have addresses of objects
                raise CodecError("The Avro record is cut short, or was not written with its schema") from error
            if source.tell() != len(value):
                raise CodecError(f"{len(value) - source.tell()} bytes are left over after the Avro record")
            return found

        if not renamed:
            return content
        return lambda value: {renamed.get(name, name): each for name, each in content(value).items()}

    def _renamed(self, schema: Any) -> dict[str, str]:
        """Return the fields that the event class has by an older name, which the schema gives as an alias."""
        wanted = set(getattr(self._kind, "__struct_encode_fields__", ()))
        fields = schema.get("fields", ()) if isinstance(schema, dict) else ()
        names = {each.get("name") for each in fields}
        return {
            each["name"]: alias
            for each in fields
            for alias in each.get("aliases", ())
            if alias in wanted - names and each["name"] not in wanted
        }


class _AvroWriter(RecordWriter):
    def __init__(self, own: OwnSchema, schemas: SchemaStore) -> None:
        fastavro = require("fastavro", "schemas")
        self._own, self._schemas = own, schemas
        self._parsed, self._write = fastavro.parse_schema(json.loads(own.text)), fastavro.schemaless_writer

    def write(self, row: Any, at: datetime) -> WrittenRecord:  # noqa: ARG002 - as the port has it
        target = BytesIO(head_of(self._schemas.id_of(*self._own)))
        target.seek(HEAD)
        try:
            self._write(target, self._parsed, plain_record(row))
        except (ValueError, TypeError, OverflowError) as error:
            raise CodecError(f"the event cannot be written in Avro: {error}") from error
        return WrittenRecord(target.getvalue(), {})
