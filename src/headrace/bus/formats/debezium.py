"""The format of Debezium's change events: https://debezium.io/documentation/reference/stable/connectors/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.formats.record_format import Headers, RecordFormat, RecordReader, RecordWriter
from headrace.errors import CodecError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.bus.event import Event

_WITH_ROW = frozenset({"c", "r", "u"})
"""The operations after which the row exists: created, read by a snapshot, updated."""
_WITHOUT = {"d": "a delete", "t": "a truncate", "m": "a message"}


@dataclass(frozen=True)
class Debezium(RecordFormat):
    """Each record is a change of a table's row, as Debezium writes it in JSON; the row after the change is the event.

    The envelope may have the wrapper with ``schema`` and ``payload``, or not. A record of a delete, a truncate or a
    message is rejected: a stream has no events that take back.

    >>> from headrace import Debezium, Stream
    >>> from streams.flights import Departure
    >>> departures = Stream("db.public.departures", Departure, event_time="departed_at", format=Debezium())
    >>> departures.spec.format
    'debezium'
    """

    @property
    def spec(self) -> str:
        """The text of it in a stream's spec."""
        return "debezium"

    def reader(self, kind: Any) -> RecordReader:
        """Return a reader of rows of this type."""
        return _ChangeReader(kind)

    def writer(self, topic: str, event: type[Event]) -> RecordWriter:
        """Refuse: only Debezium writes its change events. Raises DefinitionError."""
        raise DefinitionError(f"{topic!r}, {event.__name__}: a Debezium connector writes this topic, not a producer")


class _ChangeReader(RecordReader):
    def __init__(self, kind: Any) -> None:
        members = [("op", str | None, None), ("after", kind | None, None)]
        envelope = msgspec.defstruct("ChangeEnvelope", members, gc=False)
        wrapped = msgspec.defstruct("WrappedChange", [*members, ("payload", envelope | None, None)], gc=False)
        self._decode = msgspec.json.Decoder(wrapped).decode

    def row(self, value: bytes, headers: Headers) -> Any:  # noqa: ARG002 - as the port has it
        return row_after(self._decode(value))

    def rows(self, values: Sequence[Any], headers: Sequence[Headers]) -> list[Any]:  # noqa: ARG002
        return list(map(row_after, map(self._decode, values)))


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
        raise CodecError(f"The change is {_WITHOUT[operation]} (op `{operation}`): a stream takes rows that exist only")
    if operation not in _WITH_ROW:
        raise CodecError(f"The change has the unknown op {operation!r}")
    raise CodecError(f"The change has the op `{operation}`, and no row `after` it")
