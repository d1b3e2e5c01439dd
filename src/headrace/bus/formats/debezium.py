"""The format of Debezium's change events: https://debezium.io/documentation/reference/stable/connectors/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.formats.json_format import Json
from headrace.bus.formats.record_format import AwaitedSchema, Headers, RecordFormat, RecordReader, RecordWriter
from headrace.errors import CodecError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.bus.event import Event
    from headrace.bus.schemas.schema_store import SchemaStore

_JSON = Json()
_WITH_ROW = frozenset({"c", "r", "u"})
"""The operations after which the row exists: created, read by a snapshot, updated."""
_WITHOUT = {"d": "a delete", "t": "a truncate", "m": "a message"}


@dataclass(frozen=True)
class Debezium(RecordFormat):
    """Each record is a change of a table's row, as Debezium writes it; the row after the change is the event.

    ``envelope`` is the format of the envelopes: ``Json()`` by default, with the wrapper of ``schema`` and ``payload``
    or without it, or another format, such as ``Avro()``. A record of a delete, a truncate or a message is rejected: no
    event of a stream takes an earlier one back.

    >>> from headrace import Debezium, Stream
    >>> from streams.flights import Departure
    >>> departures = Stream("db.public.departures", Departure, event_time="departed_at", format=Debezium())
    >>> departures.spec.format
    'debezium'
    """

    envelope: RecordFormat = _JSON

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


class _ChangeReader(RecordReader):
    def __init__(self, envelopes: RecordReader) -> None:
        self._envelopes = envelopes

    def row(self, value: bytes, headers: Headers) -> Any:
        return row_after(self._envelopes.row(value, headers))

    def rows(self, values: Sequence[Any], headers: Sequence[Headers]) -> list[Any]:
        return list(map(row_after, self._envelopes.rows(values, headers)))

    def awaited(self, values: Sequence[bytes | None]) -> AwaitedSchema | None:
        return self._envelopes.awaited(values)

    def still_awaited(self, of: int) -> str | None:
        return self._envelopes.still_awaited(of)


def _envelope(kind: Any) -> Any:
    """Return the type of an envelope, with or without the wrapper, around a row of this type."""
    members = [("op", str | None, None), ("after", kind | None, None)]
    envelope = msgspec.defstruct("ChangeEnvelope", members, gc=False)
    return msgspec.defstruct("WrappedChange", [*members, ("payload", envelope | None, None)], gc=False)


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
