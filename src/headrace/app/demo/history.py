"""The port of a history that the demo replays. ``streams.history`` is the one of the flights."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Protocol

from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HistoryRecord = tuple[int, str, bytes, bytes]
"""available_at in milliseconds UTC (the record timestamp), topic, key, value."""


class History(Protocol):
    """Events of the past in the order of ``available_at``. Every reading gives the same events."""

    @property
    def from_us(self) -> int:
        """The first whole hour, microseconds UTC."""
        ...

    @property
    def to_us(self) -> int:
        """The whole hour after the last event."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of events by topic: the event log must have them all in the end."""
        ...

    @property
    def unlabelled(self) -> Mapping[str, str]:
        """The requests that never get a label: request key → reason, such as ``cancelled``."""
        ...

    def records(self) -> Iterator[HistoryRecord]:
        """All events."""
        ...


class FirstDays:
    """The first days of a history."""

    def __init__(self, history: History, days: int) -> None:
        self._history = history
        self.from_us = history.from_us
        self.to_us = min(history.to_us, history.from_us + days * DAY_US)
        self.unlabelled = history.unlabelled

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of events by topic."""
        return self._counted

    @cached_property
    def _counted(self) -> Counter[str]:
        return Counter(topic for _, topic, _, _ in self.records())

    def records(self) -> Iterator[HistoryRecord]:
        """The events in these days."""
        return takewhile(lambda record: record[0] * 1_000 < self.to_us, self._history.records())


class HistoryReplay:
    """Returns a history slice by slice."""

    def __init__(self, history: History) -> None:
        self._records = history.records()
        self._next: HistoryRecord | None = next(self._records, None)

    def before(self, t_us: int) -> Iterator[HistoryRecord]:
        """Yield the records that became available before ``t_us`` and were not returned yet."""
        limit = t_us // 1_000
        while self._next is not None and self._next[0] < limit:
            yield self._next
            self._next = next(self._records, None)

    def take(self, count: int) -> list[HistoryRecord]:
        """Return the next ``count`` records."""
        taken = [] if self._next is None else [self._next, *islice(self._records, count - 1)]
        self._next = next(self._records, None)
        return taken
