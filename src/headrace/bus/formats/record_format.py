"""The port of formats: how an event is written in the value and the headers of a record.

A *row* has the fields of an event as they are in the record: see :class:`~headrace.bus.event_reader.EventReader`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from headrace.bus.event import Event
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.table_keys import TableKeys

Headers: TypeAlias = "Sequence[tuple[str, bytes | None]] | None"
"""The headers of a record; None if the name of one is no text."""


class WrittenRecord(NamedTuple):
    """The value of a record that is to be produced, and its headers."""

    value: bytes
    headers: Mapping[str, bytes]


class AwaitedSchema(NamedTuple):
    """The schema that the record at a position of a batch needs, and why it is not there yet.

    ``is_certain``: there is such a schema, so the registry's word that there is none does not end the wait.
    """

    position: int
    schema_id: int
    why: str
    is_certain: bool = False


class RecordReader(ABC):
    """Reads the rows of one stream. Whether it can read a record depends on the record alone."""

    @abstractmethod
    def row(self, value: bytes, headers: Headers) -> Any:
        """Return the row of a record. Any error that it raises says why the record cannot be read."""

    def rows(self, values: Sequence[Any], headers: Sequence[Headers]) -> list[Any]:
        """Return the rows of all records, quicker than one by one. Raises any error if one of them cannot be read.

        ``headers`` are empty unless the format :attr:`~RecordFormat.reads_headers`.
        """
        return [self.row(value, own) for value, own in zip(values, headers or [()] * len(values), strict=True)]

    def awaited(self, values: Sequence[bytes | None]) -> AwaitedSchema | None:  # noqa: ARG002 - most need no schema
        """Return the first record that cannot be judged yet, because the schema registry does not answer."""
        return None

    def still_awaited(self, awaited: AwaitedSchema) -> str | None:  # noqa: ARG002
        """Return why an awaited schema is not there yet; None if it is, or will not come. Never wait."""
        return None

    def unregistered(self, values: Sequence[bytes | None]) -> AwaitedSchema | None:  # noqa: ARG002
        """Return the first record of whose schema the registry says that there is none."""
        return None

    def may_change(self, values: Sequence[bytes | None]) -> bool:  # noqa: ARG002
        """Return whether one of these records, which cannot be read, could be if a schema were registered now."""
        return False


class DeleteReader(ABC):
    """Finds the records of a table's topic that delete a row. What it finds depends on the record alone."""

    @abstractmethod
    def key(self, key: bytes | None, value: bytes | None, headers: Headers) -> Any:
        """Return the key of the row that a record deletes, as :attr:`TableKeys.kind`; None for any other record.

        Any error that it raises says why a record that deletes has no key.
        """

    def awaited(self, keys: Sequence[bytes | None]) -> AwaitedSchema | None:  # noqa: ARG002 - most need no schema
        """Return the first record whose key cannot be read yet, because the schema registry does not answer."""
        return None

    def unregistered(self, keys: Sequence[bytes | None]) -> AwaitedSchema | None:  # noqa: ARG002
        """Return the first record of whose key's schema the registry says that there is none."""
        return None

    def may_change(self, keys: Sequence[bytes | None]) -> bool:  # noqa: ARG002
        """Return whether one of these keys, which cannot be read, could be if a schema were registered now."""
        return False


class RecordWriter(ABC):
    """Writes the rows of one stream."""

    @abstractmethod
    def write(self, row: Any, at: datetime) -> WrittenRecord:
        """Return the record of a row whose event happened ``at`` this time."""


class RecordFormat(ABC):
    """The way in which the events of a stream are written in its records.

    ``reads_headers``: the verdict on a record depends on its headers too. ``spec`` is the text of the format in the
    stream's spec; None for the default. ``uses_schemas``: records name schemas, which a schema registry has.
    ``has_nan``: a number may be NaN or infinite, which JSON cannot write. ``has_deletes``: a table may be in it.
    """

    reads_headers = False
    uses_schemas = False
    has_nan = False
    has_deletes = False

    @property
    @abstractmethod
    def spec(self) -> str | None:
        """The text of it in a stream's spec."""

    @abstractmethod
    def reader(self, kind: Any, schemas: SchemaStore | None = None) -> RecordReader:
        """Return a reader of rows of this type. Raises SettingsError if it needs schemas and there are none."""

    @abstractmethod
    def writer(self, topic: str, event: type[Event], schemas: SchemaStore | None = None) -> RecordWriter:
        """Return a writer of rows of this event type.

        Raises DefinitionError if no producer may write this format, and SettingsError as :meth:`reader`.
        """

    def deletes(self, keys: TableKeys, schemas: SchemaStore | None = None) -> DeleteReader:  # noqa: ARG002
        """Return a reader of the deletes of a table whose rows have these keys.

        Raises SettingsError as :meth:`reader`, and DefinitionError unless the format :attr:`has_deletes`.
        """
        raise DefinitionError(f"a table is read from Json() or Debezium(…), not from {self!r}")
