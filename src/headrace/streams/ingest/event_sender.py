"""Hands the events of a source to Kafka, and says which of them cannot be sent: no bad row stops a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headrace.bus.producer import ProducerRecord
from headrace.errors import BusUnavailableError, CodecError, RefusedError, TerminalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.bus.event import Event
    from headrace.bus.formats.record_format import Headers
    from headrace.bus.producer import EventProducer
    from headrace.bus.stream import Stream


class RefusedRecord(NamedTuple):
    """A record that the broker refuses because of its content, and why."""

    record: ProducerRecord
    reason: str


class EventSender:
    """Sends the events of one stream through one producer. For one thread at a time."""

    def __init__(self, stream: Stream, producer: EventProducer) -> None:
        self._stream, self._producer = stream, producer
        self._refused: list[ProducerRecord] = []
        self._is_behind = False

    def begin(self) -> None:
        """Wait for what an attempt has left, so that a Kafka that is away does not get it twice.

        Raises BusUnavailableError.
        """
        if self._is_behind:
            self._acknowledged()
        self._is_behind, self._refused = True, []

    def send(self, event: Event) -> str:
        """Hand over an event. Return why it cannot be sent: an empty text if it can. Raises BusUnavailableError."""
        return self._handed(lambda: self._producer.send(self._stream, event))

    def forward(self, key: bytes | None, value: bytes | None, headers: Headers) -> str:
        """Hand over a record as it is, which the worker is to judge. Return why it cannot be sent."""
        more = {"headers": list(headers)} if headers else {}
        return self._handed(lambda: self._producer.repeat(ProducerRecord(self._stream.topic, key, value, more)))

    def _handed(self, over: Callable[[], None]) -> str:
        while True:
            try:
                over()
            except RefusedError as error:  # these are earlier records: this one is not in the queue yet
                self._add(error)
            except (CodecError, TerminalError) as error:
                return str(error)
            else:
                return ""

    def flush(self) -> list[RefusedRecord]:
        """Wait until Kafka has all events, and return those that it refuses.

        Kafka refuses records in batches. So each record of such a batch is sent once more, alone. Raises
        BusUnavailableError, and RefusedError if Kafka's user lacks a right: then no record is to blame.
        """
        self._acknowledged()
        again, self._refused = self._refused, []
        found = [RefusedRecord(record, reason) for record in again if (reason := self._alone(record))]
        self._is_behind = False
        return found

    def _acknowledged(self) -> None:
        while True:
            try:
                self._producer.flush()
            except RefusedError as error:
                self._add(error)
            else:
                return

    def _add(self, error: RefusedError) -> None:
        if error.lacks_right:
            raise error
        self._refused += error.records

    def _alone(self, record: ProducerRecord) -> str:
        """Send a record once more, and return why Kafka refuses it."""
        try:
            self._producer.repeat(record)
            self._producer.flush()
        except BusUnavailableError:
            raise
        except TerminalError as error:
            return str(error)
        return ""
