"""The format of Debezium's change events: https://debezium.io/documentation/reference/stable/connectors/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.formats.json_format import Json
from headrace.bus.formats.record_format import (
    AwaitedSchema,
    DeleteReader,
    Headers,
    RecordFormat,
    RecordReader,
    RecordWriter,
)
from headrace.errors import CodecError, DefinitionError, TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.bus.event import Event
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.table_keys import TableKeys

_JSON = Json()
_WITH_ROW = frozenset({"c", "r", "u"})
"""The operations after which the row exists: created, read by a snapshot, updated."""
_DELETE = "d"
_WITHOUT = {_DELETE: "a delete", "t": "a truncate", "m": "a message"}


@dataclass(frozen=True)
class Debezium(RecordFormat):
    """Each record is a change of a table's row, as Debezium writes it; the row after the change is the event.

    ``envelope`` is the format of the envelopes: ``Json()`` by default, with the wrapper of ``schema`` and ``payload``
    or without it, or another format, such as ``Avro()``. A stream rejects records of deletes, truncates and messages. A
    :class:`headrace.Table` reads deletes and tombstones too, and rejects truncates and messages.

    >>> from headrace import Debezium, Stream
    >>> from streams.flights import Departure
    >>> departures = Stream("db.public.departures", Departure, event_time="departed_at", format=Debezium())
    >>> departures.spec.format
    'debezium'
    """

    envelope: RecordFormat = _JSON
    has_deletes = True

    @property
    def reads_headers(self) -> bool:  # type: ignore[override]
        """As the envelopes."""
        return self.envelope.reads_headers

    @property
    def uses_schemas(self) -> bool:  # type: ignore[override]
        """As the envelopes."""
        return self.envelope.uses_schemas

    @property
    def has_nan(self) -> bool:  # type: ignore[override]
        """As the envelopes."""
        return self.envelope.has_nan

    @property
    def spec(self) -> str:
        """The text of it in a stream's spec."""
        return "debezium" if self.envelope.spec is None else f"debezium:{self.envelope.spec}"

    def reader(self, kind: Any, schemas: SchemaStore | None = None) -> RecordReader:
        """Return a reader of rows of this type. Raises SettingsError as the format of the envelopes does."""
        return _ChangeReader(self.envelope.reader(_envelope(kind), schemas))

    def writer(self, topic: str, event: type[Event], schemas: SchemaStore | None = None) -> RecordWriter:  # noqa: ARG002
        """Refuse: only Debezium writes its change events. Raises DefinitionError."""
        raise DefinitionError(f"{topic!r}, {event.__name__}: a Debezium connector writes this topic, not a producer")

    def deletes(self, keys: TableKeys, schemas: SchemaStore | None = None) -> DeleteReader:
        """Return a reader of changes with the op ``d``, and of the tombstones that follow them."""
        return _ChangedAway(self.envelope, keys, schemas)


class _ChangeReader(RecordReader):
    def __init__(self, envelopes: RecordReader) -> None:
        self._envelopes = envelopes

    def row(self, value: bytes, headers: Headers) -> Any:
        return row_after(self._envelopes.row(value, headers))

    def rows(self, values: Sequence[Any], headers: Sequence[Headers]) -> list[Any]:
        return list(map(row_after, self._envelopes.rows(values, headers)))

    def awaited(self, values: Sequence[bytes | None]) -> AwaitedSchema | None:
        return self._envelopes.awaited(values)

    def still_awaited(self, awaited: AwaitedSchema) -> str | None:
        return self._envelopes.still_awaited(awaited)

    def unregistered(self, values: Sequence[bytes | None]) -> AwaitedSchema | None:
        return self._envelopes.unregistered(values)

    def may_change(self, values: Sequence[bytes | None]) -> bool:
        return self._envelopes.may_change(values)


class _ChangedAway(DeleteReader):
    """Finds deletes. The key of the row is in ``before``, and in the key of the record."""

    def __init__(self, envelope: RecordFormat, keys: TableKeys, schemas: SchemaStore | None) -> None:
        self._keys = keys
        self._operations = envelope.reader(_wrapped("Operation", [("op", str | None, None)]), schemas)
        before = [("before", keys.kind | None, None)]
        self._befores = envelope.reader(_wrapped("RowBefore", before), schemas)
        self._of_records = envelope.reader(keys.kind, schemas) if envelope.uses_schemas else None

    def key(self, key: bytes | None, value: bytes | None, headers: Headers) -> Any:
        if value is None:
            return self._of_record(key, headers)
        return self._before(key, value, headers) if self._deletes(value, headers) else None

    def awaited(self, keys: Sequence[bytes | None]) -> AwaitedSchema | None:
        return None if self._of_records is None else self._of_records.awaited(keys)

    def unregistered(self, keys: Sequence[bytes | None]) -> AwaitedSchema | None:
        return None if self._of_records is None else self._of_records.unregistered(keys)

    def may_change(self, keys: Sequence[bytes | None]) -> bool:
        return self._of_records is not None and self._of_records.may_change(keys)

    def _deletes(self, value: bytes, headers: Headers) -> bool:
        try:
            change = self._operations.row(value, headers)
        except (MemoryError, TransientError):
            raise
        except Exception:  # noqa: BLE001 - the reader of rows says what is wrong
            return False
        return bool((change.payload or change).op == _DELETE)

    def _before(self, key: bytes | None, value: bytes, headers: Headers) -> Any:
        try:
            change = self._befores.row(value, headers)
            found = (change.payload or change).before
        except (MemoryError, TransientError):
            raise
        except Exception:  # noqa: BLE001 - a `before` without the key: the record's key has it
            found = None
        return self._of_record(key, headers) if found is None else found

    def _of_record(self, key: bytes | None, headers: Headers) -> Any:
        if self._of_records is None or key is None:
            return self._keys.read(key)
        return self._of_records.row(key, headers)


def _envelope(kind: Any) -> Any:
    """Return the type of an envelope, with or without the wrapper, around a row of this type."""
    return _wrapped("Change", [("op", str | None, None), ("after", kind | None, None)])


def _wrapped(name: str, members: list[tuple[str, Any, None]]) -> Any:
    envelope: Any = msgspec.defstruct(f"{name}Envelope", members, gc=False)
    return msgspec.defstruct(f"Wrapped{name}", [*members, ("payload", envelope | None, None)], gc=False)


def row_after(change: Any) -> Any:
    """Return the row after a change. Raises CodecError if there is none."""
    envelope = change.payload or change
    operation, after = envelope.op, envelope.after
    if after is not None and operation in _WITH_ROW:
        return after
    if operation is None:
        raise CodecError(
            "The record has no Debezium envelope with `op`: if the connector unwraps it (ExtractNewRecordState), "
            "leave the stream's format out"
        )
    if operation in _WITHOUT:
        raise CodecError(f"The change is {_WITHOUT[operation]} (op `{operation}`), after which there is no row to read")
    if operation not in _WITH_ROW:
        raise CodecError(f"The change has the unknown op {operation!r}")
    raise CodecError(f"The change has the op `{operation}`, and no row `after` it")
