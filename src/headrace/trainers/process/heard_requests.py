"""The operators' requests, and which of them were answered."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from msgspec import UNSET

from headrace.bus.unreadable_records import readable
from headrace.trainers.runs.operator_requests import OperatorRequest, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.trainers.process.ended_runs import RunRecords
    from headrace.trainers.triggers.trigger_state import TriggerState


class HeardRequest(NamedTuple):
    """An operator's request, and its place.

    The place is the time of its record in milliseconds, or that of an earlier record if it is later, and the offset. So
    places only grow, although each record has the clock of the machine that sent it. A topic that is made anew has
    later times.
    """

    request: OperatorRequest
    place: tuple[int, int]


class HeardRequests:
    """The requests of all operators in the order of their topic, each id once. Safe from any thread."""

    def __init__(self, records: RunRecords) -> None:
        self._records = records
        self._lock = threading.Lock()
        self._known: dict[str, HeardRequest] = {}
        self._newest_ms = 0

    def known(self) -> list[HeardRequest]:
        """Return all requests so far. Raises BusUnavailableError."""
        with self._lock:
            for heard in self._new():
                self._known.setdefault(heard.request.id, heard)
            return list(self._known.values())

    def _new(self) -> Iterator[HeardRequest]:
        records = self._records.drain()
        for request, sent_ms, offset in readable(
            records, lambda record: (decode(record.value()), record.timestamp()[1], record.offset() or 0)
        ):
            self._newest_ms = max(self._newest_ms, sent_ms)
            yield HeardRequest(request, (self._newest_ms, offset))


def is_answered(state: TriggerState, heard: HeardRequest) -> bool:
    """Return whether a request was answered before the triggers had this state."""
    marks = [state.heard] if heard.request.action == "train" else [state.heard, state.reset_heard]
    return any(mark is not UNSET and heard.place <= mark for mark in marks)
