"""What the demo replays: the contract that a project's history keeps. The reference system's is ``streams.history``."""

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
    """Events of the past, in order of ``available_at``. The same arguments give the same history."""

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
        """Topic → source rows that are events of it: what the event log must hold in the end."""
        ...

    @property
    def unlabelled(self) -> Mapping[str, str]:
        """Request key → why it will never have a label, such as ``cancelled``."""
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
        """Topic → events in these days."""
        return self._counted

    @cached_property
    def _counted(self) -> Counter[str]:
        return Counter(topic for _, topic, _, _ in self.records())

    def records(self) -> Iterator[HistoryRecord]:
        """The events in these days."""
        return takewhile(lambda record: record[0] * 1_000 < self.to_us, self._history.records())


class HistoryReplay:
    """Hands a history out in slices of event time."""

    def __init__(self, history: History) -> None:
        self._records = history.records()
        self._next: HistoryRecord | None = next(self._records, None)

    def before(self, t_us: int) -> Iterator[HistoryRecord]:
        """The records that became available before ``t_us`` and were not handed out yet."""
        limit = t_us // 1_000
        while self._next is not None and self._next[0] < limit:
            yield self._next
            self._next = next(self._records, None)

    def take(self, count: int) -> list[HistoryRecord]:
        """The next records, whatever their time."""
        taken = [] if self._next is None else [self._next, *islice(self._records, count - 1)]
        self._next = next(self._records, None)
        return taken
