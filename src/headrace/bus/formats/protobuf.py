"""The format Protobuf with a schema registry, in Confluent's wire format."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.bus.formats.record_format import RecordReader, RecordWriter, WrittenRecord
from headrace.bus.formats.registry_record import HEAD, OwnSchema, RegistryFormat, RegistryReader, head_of, needed
from headrace.bus.schemas.avro_schema import plain_record
from headrace.bus.schemas.message_names import index_bytes, indexes, message_names
from headrace.bus.schemas.protobuf_values import filled, missing_fields, plain_message
from headrace.errors import CodecError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from headrace.bus.event import Event
    from headrace.bus.schemas.schema_registry import RegisteredSchema
    from headrace.bus.schemas.schema_store import SchemaStore


@dataclass(frozen=True)
class Protobuf(RegistryFormat):
    """Each record is a Protobuf message, after the id of its schema in the schema registry.

    ``message`` is the class that ``protoc`` makes of the message. A field of the message goes to the field of the event
    with the same name. A record of another message of the schema is rejected. A producer registers the file of the
    message under ``subject``, by default the topic and ``-value``.

    It needs the extra ``schemas`` (``pip install "headrace[schemas]"``) and ``[schema_registry]`` in headrace.toml.

    >>> from google.protobuf.timestamp_pb2 import Timestamp
    >>> from headrace import Protobuf
    >>> Protobuf(Timestamp).spec
    'protobuf:google.protobuf.Timestamp'
    """

    message: Any
    subject: str | None = None
    has_nan = True

    def __post_init__(self) -> None:
        if not hasattr(self.message, "DESCRIPTOR") or not hasattr(self.message, "FromString"):
            raise DefinitionError(f"Protobuf({self.message!r}): give the class of a message, such as shop_pb2.Payment")

    @property
    def spec(self) -> str:
        """The text of it in a stream's spec: what a reader has to know."""
        return f"protobuf:{self.message.DESCRIPTOR.full_name}"

    def reader(self, kind: Any, schemas: SchemaStore | None = None) -> RecordReader:
        """Return a reader of rows of this type. Raises SettingsError without a schema registry."""
        return _ProtobufReader(kind, needed(schemas, "Protobuf(…)"), self.message)

    def writer(self, topic: str, event: type[Event], schemas: SchemaStore | None = None) -> RecordWriter:
        """Return a writer of rows.

        Raises DefinitionError if the message lacks a field of the event, and SettingsError without a schema registry.
        """
        return _ProtobufWriter(self.own_schema(topic, event), self.message, needed(schemas, "Protobuf(…)"))

    def own_schema(self, topic: str, event: type[Event]) -> OwnSchema:
        """Return the file of the message. Raises DefinitionError if the message lacks a field of the event."""
        lacking = missing_fields(self.message.DESCRIPTOR, event.__struct_encode_fields__)
        if lacking:
            name = self.message.DESCRIPTOR.full_name
            message = (
                f"the message {name} has no field for {', '.join(lacking)} of {event.__name__}; add it to the message, "
                "or leave it out of the event"
            )
            raise DefinitionError(message)
        text = b64encode(self.message.DESCRIPTOR.file.serialized_pb).decode()
        return OwnSchema(self.subject_of(topic), "PROTOBUF", text)

    def names(self, schema: RegisteredSchema) -> set[str]:
        """Return the names of the message's fields, if the schema has the message."""
        is_there = self.message.DESCRIPTOR.full_name in message_names(schema.text).values()
        return set(self.message.DESCRIPTOR.fields_by_name) if is_there else set()


class _ProtobufReader(RegistryReader):
    def __init__(self, kind: Any, schemas: SchemaStore, message: Any) -> None:
        super().__init__(kind, schemas, "PROTOBUF")
        self._parse, self._name = message.FromString, message.DESCRIPTOR.full_name
        self._plain = plain_message(message.DESCRIPTOR, getattr(kind, "__struct_encode_fields__", None))

    def content(self, schema: RegisteredSchema) -> Callable[[bytes], Any]:
        names, own, parse, plain = message_names(schema.text), self._name, self._parse, self._plain

        def content(value: bytes) -> Any:
            place, start = indexes(value, HEAD)
            if names.get(place) != own:
                raise CodecError(f"The record is the message {names.get(place) or list(place)}, not {own}")
            return plain(parse(value[start:]))

        return content


class _ProtobufWriter(RecordWriter):
    def __init__(self, own: OwnSchema, message: Any, schemas: SchemaStore) -> None:
        names = message_names(own.text)
        place = next(place for place, name in names.items() if name == message.DESCRIPTOR.full_name)
        self._own, self._schemas, self._message = own, schemas, message
        self._indexes = index_bytes(place)

    def write(self, row: Any, at: datetime) -> WrittenRecord:  # noqa: ARG002 - as the port has it
        head = head_of(self._schemas.id_of(*self._own)) + self._indexes
        try:
            content: bytes = filled(self._message(), plain_record(row)).SerializeToString()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CodecError(f"the event cannot be written in Protobuf: {error}") from error
        return WrittenRecord(head + content, {})
