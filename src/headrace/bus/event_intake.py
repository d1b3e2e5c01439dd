"""Reads what comes from outside as events of a stream, before they are produced: from files and from webhooks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.bus.event import value_of
from headrace.bus.event_reader import EventReader
from headrace.bus.formats.json_format import Json
from headrace.bus.stream_spec import AVAILABLE_AT
from headrace.errors import CodecError

if TYPE_CHECKING:
    from headrace.bus.event import Event
    from headrace.bus.formats.record_format import Headers, RecordFormat
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream


class EventIntake:
    """Reads events that are written in ``written`` (default: JSON), whatever the format of the stream's records is.

    ``schemas`` are needed if that format names schemas.

    EventProducer can produce these events: it writes them in the stream's own format.
    """

    def __init__(self, stream: Stream, written: RecordFormat | None = None, schemas: SchemaStore | None = None) -> None:
        self._topic = stream.topic
        self._reader = EventReader(replace(stream, format=written or Json()), schemas)
        clock = [] if stream.event_time == AVAILABLE_AT else [stream.event_time]
        self._needed = tuple(dict.fromkeys((*stream.key_fields, *clock)))

    def read(self, content: bytes | None, headers: Headers = ()) -> Event:
        """Return the event in these bytes. Raises CodecError, with the reason, for bytes that no event can be made of.

        Its key and its time must be there: a producer could not write the record of an event without them. Raises
        SchemaRegistryUnavailableError while a schema that they name is not known.
        """
        event = self._reader.read(content, headers)
        absent = next((name for name in self._needed if value_of(event, name) is None), None)
        if absent is not None:
            raise CodecError(f"{absent} is null: every event of {self._topic!r} needs it")
        return event
