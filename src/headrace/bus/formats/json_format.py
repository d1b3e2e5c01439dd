"""The format of a record that is a JSON object, and nothing else: the default of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.formats.record_format import (
    DeleteReader,
    Headers,
    RecordFormat,
    RecordReader,
    RecordWriter,
    WrittenRecord,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from headrace.bus.event import Event
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.table_keys import TableKeys


@dataclass(frozen=True)
class Json(RecordFormat):
    """The value of a record is one JSON object, the event. It is the default format of a stream.

    >>> from headrace import Json
    >>> from streams.flights import departures
    >>> departures.format
    Json()
    """

    has_deletes = True

    @property
    def spec(self) -> None:
        """None: a spec without a format has this one."""
        return

    def reader(self, kind: Any, schemas: SchemaStore | None = None) -> RecordReader:  # noqa: ARG002 - as the port has it
        """Return a reader of rows of this type."""
        return _JsonReader(kind)

    def writer(self, topic: str, event: type[Event], schemas: SchemaStore | None = None) -> RecordWriter:  # noqa: ARG002
        """Return a writer of rows."""
        return _JsonWriter()

    def deletes(self, keys: TableKeys, schemas: SchemaStore | None = None) -> DeleteReader:  # noqa: ARG002
        """Return a reader of tombstones: records without a value."""
        return _Tombstones(keys)


class _JsonReader(RecordReader):
    def __init__(self, kind: Any) -> None:
        self._decode = msgspec.json.Decoder(kind).decode

    def row(self, value: bytes, headers: Headers) -> Any:  # noqa: ARG002 - as the port has it
        return self._decode(value)

    def rows(self, values: Sequence[Any], headers: Sequence[Headers]) -> list[Any]:  # noqa: ARG002
        return list(map(self._decode, values))


class _JsonWriter(RecordWriter):
    def write(self, row: Any, at: datetime) -> WrittenRecord:  # noqa: ARG002 - as the port has it
        return WrittenRecord(msgspec.json.encode(row), {})


class _Tombstones(DeleteReader):
    def __init__(self, keys: TableKeys) -> None:
        self._keys = keys

    def key(self, key: bytes | None, value: bytes | None, headers: Headers) -> Any:  # noqa: ARG002
        return self._keys.read(key) if value is None else None
