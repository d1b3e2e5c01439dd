"""The log of model events: one partition, kept for ever. The port and its in-memory double."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from headrace.base.times import SECOND, duration_us
from headrace.errors import CodecError
from headrace.models.model_events import ModelEvent, ModelEventRecord, decode, encode
from headrace.models.model_state import ModelState, advance
from headrace.models.publication_signing import UNSIGNED, PublicationSigning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.base.times import Duration
    from headrace.models.model_events import Acknowledgement


@dataclass(frozen=True)
class ModelLogEntry:
    """One record of the log: its event, or why it cannot be read. An unreadable record has no effect on any reader."""

    offset: int
    event: ModelEvent | None
    error: str = ""


class ModelEventLog(Protocol):
    """All model events in their one order."""

    def append(self, event: ModelEvent) -> int:
        """Append an event and return its offset, once it is durable.

        Raises BusUnavailableError: then the event may be in the log or not.
        """
        ...

    def read(self, start: int = 0, *, wait: Duration = "0s") -> list[ModelLogEntry]:
        """Return the entries from ``start`` to the end of the log. If there are none, wait up to ``wait`` for one.

        The next call continues at the last entry's offset + 1. Raises BusUnavailableError.
        """
        ...

    def close(self) -> None:
        """Close the connections. The log itself stays."""
        ...


class Acknowledgements(Protocol):
    """The port to which applications send their acknowledgements of model events."""

    def send(self, message: Acknowledgement) -> None:
        """Send one acknowledgement, and return when it is durable. Raises BusUnavailableError."""
        ...


def entry(offset: int, record: ModelEventRecord, signing: PublicationSigning = UNSIGNED) -> ModelLogEntry:
    """Return the entry of a record, readable or not. A record without the signature that it needs is not readable."""
    try:
        signing.check(offset, record)
        return ModelLogEntry(offset, decode(record))
    except CodecError as error:
        return ModelLogEntry(offset, None, str(error))


def events(entries: Iterable[ModelLogEntry], model: str) -> list[ModelEvent]:
    """Return the readable events of one model, ready to fold."""
    return [e.event for e in entries if e.event is not None and e.event.model == model]


class FoldedEvents:
    """The states of models by a log. Each call reads on from where the last one ended. For one thread."""

    def __init__(self, log: ModelEventLog) -> None:
        self._log = log
        self._next = 0
        self._states: dict[str, ModelState] = {}

    def state(self, model: str) -> ModelState:
        """Return the state at the present end of the log. Raises BusUnavailableError."""
        self.read_on()
        return self.known(model)

    def known(self, model: str) -> ModelState:
        """Return the state when the log was last read."""
        return self._states.get(model, ModelState())

    def read_on(self, wait: Duration = "0s") -> None:
        """Fold the events that have come. If there are none, wait up to ``wait`` for one.

        Raises BusUnavailableError.
        """
        for one in self._log.read(self._next, wait=wait):
            self._next = one.offset + 1
            if one.event is not None:
                before = self._states.get(one.event.model, ModelState())
                self._states[one.event.model] = advance(before, one.event)


class MemoryModelEventLog:
    """A :class:`ModelEventLog` in this process: the same bytes in a list. Safe to share between threads.

    >>> from headrace.testing import MemoryModelEventLog
    >>> from headrace.models.model_events import ModelEvent, Retired
    >>> log = MemoryModelEventLog()
    >>> log.append(ModelEvent(id="e1", model="delay", at_us=0, data=Retired(version=1, reason="a test")))
    0
    >>> [entry.event.data.reason for entry in log.read()]
    ['a test']
    """

    def __init__(self, signing: PublicationSigning = UNSIGNED) -> None:
        self._signing = signing
        self._records: list[ModelEventRecord] = []
        self._grown = threading.Condition()

    def append(self, event: ModelEvent) -> int:
        """Add the event's record."""
        return self.append_record(self._signing.signed(encode(event)))

    def append_record(self, record: ModelEventRecord) -> int:
        """Add any record, also one that is not a model event."""
        with self._grown:
            self._records.append(record)
            self._grown.notify_all()
            return len(self._records) - 1

    def read(self, start: int = 0, *, wait: Duration = "0s") -> list[ModelLogEntry]:
        """The entries from ``start``."""
        with self._grown:
            self._grown.wait_for(lambda: len(self._records) > start, duration_us(wait) / SECOND)
            found = [*enumerate(self._records)][start:]
        return [entry(offset, record, self._signing) for offset, record in found]

    def close(self) -> None:
        """Do nothing: there is no connection."""


class MemoryAcknowledgements:
    """:class:`Acknowledgements` in a list.

    >>> from headrace.testing import MemoryAcknowledgements
    >>> MemoryAcknowledgements().sent
    []
    """

    def __init__(self) -> None:
        self.sent: list[Acknowledgement] = []

    def send(self, message: Acknowledgement) -> None:
        """Keep it."""
        self.sent.append(message)
