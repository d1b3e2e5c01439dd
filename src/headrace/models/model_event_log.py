"""The log of model events: one partition, kept for ever. A port and its in-memory double; Kafka's is beside it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from headrace.errors import CodecError
from headrace.models.model_events import ModelEvent, ModelEventRecord, decode, encode
from headrace.models.model_state import ModelState, advance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.models.acknowledgement import Acknowledgement


@dataclass(frozen=True)
class ModelLogEntry:
    """One record of the log: its event, or why it has none. An unreadable record changes nothing for anyone."""

    offset: int
    event: ModelEvent | None
    error: str = ""


class ModelEventLog(Protocol):
    """All model events in their one order."""

    def append(self, event: ModelEvent) -> int:
        """The event's offset, once it is durable. Raises BusUnavailableError: then it may be in the log or not."""
        ...

    def read(self, start: int = 0, *, wait_s: float = 0.0) -> list[ModelLogEntry]:
        """The entries from ``start`` to the end of the log; if there is none yet, the first to come within ``wait_s``.

        Continue from the last entry's offset + 1. Raises BusUnavailableError.
        """
        ...

    def close(self) -> None:
        """Let go of the connections. The log itself stays."""
        ...


class Acknowledgements(Protocol):
    """Where applications say what they made of a model event."""

    def send(self, message: Acknowledgement) -> None:
        """Returns once it is durable. Raises BusUnavailableError."""
        ...


def entry(offset: int, record: ModelEventRecord) -> ModelLogEntry:
    """The entry of a record, readable or not."""
    try:
        return ModelLogEntry(offset, decode(record))
    except CodecError as error:
        return ModelLogEntry(offset, None, str(error))


def events(entries: Iterable[ModelLogEntry], model: str) -> list[ModelEvent]:
    """The readable events of one model, ready to fold."""
    return [e.event for e in entries if e.event is not None and e.event.model == model]


class FoldedEvents:
    """The states of models by a log: each look reads on from where the last one ended. Not for several threads."""

    def __init__(self, log: ModelEventLog) -> None:
        self._log = log
        self._next = 0
        self._states: dict[str, ModelState] = {}

    def state(self, model: str) -> ModelState:
        """The state at the present end of the log. Raises BusUnavailableError."""
        for one in self._log.read(self._next):
            self._next = one.offset + 1
            if one.event is not None:
                before = self._states.get(one.event.model, ModelState())
                self._states[one.event.model] = advance(before, one.event)
        return self._states.get(model, ModelState())


class MemoryModelEventLog:
    """The double: the same bytes in a list. Safe to share between threads."""

    def __init__(self) -> None:
        self._records: list[ModelEventRecord] = []
        self._grown = threading.Condition()

    def append(self, event: ModelEvent) -> int:
        """Add the event's record."""
        return self.append_record(encode(event))

    def append_record(self, record: ModelEventRecord) -> int:
        """Add any record, also one that is no model event."""
        with self._grown:
            self._records.append(record)
            self._grown.notify_all()
            return len(self._records) - 1

    def read(self, start: int = 0, *, wait_s: float = 0.0) -> list[ModelLogEntry]:
        """The entries from ``start``."""
        with self._grown:
            self._grown.wait_for(lambda: len(self._records) > start, wait_s)
            return [entry(offset, record) for offset, record in enumerate(self._records) if offset >= start]

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryAcknowledgements:
    """The double: acknowledgements in a list."""

    def __init__(self) -> None:
        self.sent: list[Acknowledgement] = []

    def send(self, message: Acknowledgement) -> None:
        """Keep it."""
        self.sent.append(message)
