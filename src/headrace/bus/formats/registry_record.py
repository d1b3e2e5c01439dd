"""Records in the wire format of schema registries: a zero byte, the id of the schema in four bytes, and the content."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headrace.bus.formats.record_format import AwaitedSchema, Headers, RecordFormat, RecordReader
from headrace.bus.message import problem
from headrace.bus.schemas.schema_store import LARGEST_ID, WAIT_S
from headrace.errors import CodecError, SchemaRegistryUnavailableError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.bus.event import Event
    from headrace.bus.schemas.schema_registry import RegisteredSchema, SchemaKind
    from headrace.bus.schemas.schema_store import SchemaStore

HEAD = 5
"""The number of bytes before the content."""


def head_of(schema_id: int) -> bytes:
    """Return the bytes before the content of a record with this schema."""
    return bytes(1) + schema_id.to_bytes(4, "big")


def needed(schemas: SchemaStore | None, what: str) -> SchemaStore:
    """Return the schemas. Raises SettingsError if no schema registry is set."""
    if schemas is None:
        raise SettingsError(
            f"the format {what} needs a schema registry: set url in [schema_registry] of headrace.toml, or "
            "HEADRACE_SCHEMA_REGISTRY__URL, and produce with headrace.connect().producer(), which reads it"
        )
    return schemas


class OwnSchema(NamedTuple):
    """The schema of an event class as a producer registers it."""

    subject: str
    kind: SchemaKind
    text: str


class RegistryFormat(RecordFormat):
    """A format whose records name a schema in a schema registry."""

    uses_schemas = True
    subject: str | None

    def subject_of(self, topic: str) -> str:
        """Return the subject of the values of a topic: as declared, or the topic and ``-value``."""
        return self.subject or f"{topic}-value"

    @abstractmethod
    def own_schema(self, topic: str, event: type[Event]) -> OwnSchema:
        """Return the schema of an event class. Raises DefinitionError if it has none in this format."""

    @abstractmethod
    def names(self, schema: RegisteredSchema) -> set[str]:
        """Return the names of the fields that records of a schema have."""


class RegistryReader(RecordReader):
    """Reads records whose schemas are in a registry. The schema of an id is looked up once.

    A subclass says what the content is: plain objects, which become rows of this ``kind``.
    """

    def __init__(self, kind: Any, schemas: SchemaStore, schema_kind: SchemaKind) -> None:
        self._kind, self._all, self._schemas, self._schema_kind = kind, list[kind], schemas, schema_kind
        self._contents: dict[bytes, Callable[[bytes], Any]] = {}

    @abstractmethod
    def content(self, schema: RegisteredSchema) -> Callable[[bytes], Any]:
        """Return a function that reads the whole value of a record of this schema.

        Raises any error if no record of this schema can be read.
        """

    def row(self, value: bytes, headers: Headers) -> Any:  # noqa: ARG002 - as the port has it
        """Return the row of a record. The reason of an error names the schema."""
        content = self.known(value[:HEAD])
        try:
            return self.converted(content(value))
        except MemoryError:
            raise
        except Exception as error:
            raise CodecError(f"{problem(error)} (schema id {schema_id(value)})") from error

    def rows(self, values: Sequence[Any], headers: Sequence[Headers]) -> list[Any]:  # noqa: ARG002
        """Return the rows of all records."""
        known = self._contents
        found = [(known.get(value[:HEAD]) or self.known(value[:HEAD]))(value) for value in values]
        return self.all_converted(found)

    def converted(self, found: Any) -> Any:
        """Return the row of a plain object."""
        return msgspec.convert(found, self._kind)

    def all_converted(self, found: list[Any]) -> list[Any]:
        """Return the rows of plain objects."""
        rows: list[Any] = msgspec.convert(found, self._all)
        return rows

    def awaited(self, values: Sequence[bytes | None]) -> AwaitedSchema | None:
        """Return the first record whose schema is not there yet. All schemas together are waited for half a second."""
        until, missing = time.monotonic() + WAIT_S, dict[bytes, str]()
        for head in self._new_heads(values):
            why = self._awaited(schema_id(head), max(0.0, until - time.monotonic()))
            if why is not None:
                missing[head] = why
        return _first(values, missing)

    def still_awaited(self, awaited: AwaitedSchema) -> str | None:
        """Return why a schema is not there yet; None if it is, or will not come."""
        return self._awaited(awaited.schema_id, 0.0, is_certain=awaited.is_certain)

    def unregistered(self, values: Sequence[bytes | None]) -> AwaitedSchema | None:
        """Return the first record whose schema the registry does not have. Such a schema may come later."""
        missing = {}
        for head in self._new_heads(values):
            try:
                self._schemas.schema(schema_id(head), last_word=True)
            except (CodecError, SchemaRegistryUnavailableError) as error:
                if schema_id(head) <= LARGEST_ID:
                    missing[head] = str(error)
        return _first(values, missing)

    def may_change(self, values: Sequence[bytes | None]) -> bool:
        """Return whether the schema of a record has never been used. It does not ask the registry.

        So the answer is that at the time when the record was read, even if the schema has been registered since.
        """
        return any(schema_id(head) <= LARGEST_ID for head in self._new_heads(values))

    def _new_heads(self, values: Sequence[bytes | None]) -> set[bytes]:
        """Return the first bytes of records whose schemas have not been used yet."""
        heads = {value[:HEAD] for value in values if value is not None and len(value) >= HEAD and value[0] == 0}
        return heads - self._contents.keys()

    def _awaited(self, of: int, wait_s: float, *, is_certain: bool = False) -> str | None:
        """Return why a schema is not there yet. ``is_certain``: it is awaited even if the registry has none."""
        try:
            self._schemas.schema(of, wait_s)
        except SchemaRegistryUnavailableError as error:
            return str(error)
        except CodecError as error:
            return f"{error}, but a worker has read this record by it" if is_certain else None
        return None

    def known(self, head: bytes) -> Callable[[bytes], Any]:
        """Return what reads the records that begin with these bytes. Raises CodecError if there is nothing."""
        if head in self._contents:
            return self._contents[head]
        if len(head) < HEAD or head[0] != 0:
            raise CodecError(
                f"The record does not begin with a zero byte and the id of a schema, but with {head.hex(' ') or 'none'}"
                ": it was not written by a serializer of a schema registry"
            )
        schema = self._schemas.schema(schema_id(head), last_word=True)  # who must not be wrong has asked `awaited`
        if schema.kind != self._schema_kind:
            raise CodecError(
                f"The schema id {schema.id} is of the kind {schema.kind}, not {self._schema_kind}, which the stream's "
                "format reads"
            )
        try:
            self._contents[head] = self.content(schema)
        except MemoryError:  # the schema is not to blame
            raise
        except Exception as error:  # noqa: BLE001 - any schema may come
            self._contents[head] = _Unreadable(f"the schema cannot be used: {problem(error)}")
        return self._contents[head]


class _Unreadable:
    """What reads the records of a schema that cannot be used."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __call__(self, value: bytes) -> Any:  # noqa: ARG002 - as what reads records
        raise CodecError(self._why)


def _first(values: Sequence[bytes | None], missing: Mapping[bytes, str]) -> AwaitedSchema | None:
    """Return the first record whose first bytes are among these, and why its schema is missing."""
    for place, value in enumerate(values) if missing else ():
        if value is not None and value[:HEAD] in missing:
            return AwaitedSchema(place, schema_id(value), missing[value[:HEAD]])
    return None


def schema_id(value: bytes) -> int:
    """Return the id of the schema in the first bytes of a record."""
    return int.from_bytes(value[1:HEAD], "big")
