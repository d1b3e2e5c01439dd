"""The runs that have ended: a request that one of them answered is not fitted again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from headrace.bus.unreadable_records import readable
from headrace.trainers.runs.messages import RunEnded, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message


class RunRecords(Protocol):
    """The records of the topic of runs."""

    def drain(self) -> Sequence[Message]:
        """Return the records since the last call. Raises BusUnavailableError; then the next call returns them all."""
        ...


class EndedRuns:
    """The ends of all runs, by any trainer: id of the request → the first end. Safe from any thread."""

    def __init__(self, records: RunRecords) -> None:
        self._records = records
        self._lock = threading.Lock()
        self._ends: dict[str, RunEnded] = {}

    def find(self, request_id: str) -> RunEnded | None:
        """Return how the run of a request ended, None if it has not. Raises BusUnavailableError."""
        with self._lock:
            self._read()
            return self._ends.get(request_id)

    def known(self) -> list[RunEnded]:
        """Return all ends so far, in the order of the topic. Raises BusUnavailableError."""
        with self._lock:
            self._read()
            return list(self._ends.values())

    def _read(self) -> None:
        for run in readable(self._records.drain(), lambda record: decode(record.value(), RunEnded)):
            self._ends.setdefault(run.request_id, run)
