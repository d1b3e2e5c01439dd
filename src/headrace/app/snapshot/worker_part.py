"""What workers report: partitions and views, folded from the newest report of each worker."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from msgspec import UNSET

from headrace.app.snapshot.snapshot import PartitionNow, ViewNow
from headrace.base.times import SECOND
from headrace.bus.source_partition import NO_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from headrace.bus.worker_report import PartitionReport, StoppedReport, WorkerReport

SILENT_US = 5 * SECOND
"""A worker reports each second."""
_RATE_US = 10 * SECOND
_FORGOTTEN_US = 3_600 * SECOND
_MOST_WORKERS = 1_000

Positions = deque[tuple[int, int]]


class TimedReport(NamedTuple):
    """A report, and the time of its record."""

    at_us: int
    report: WorkerReport


class WorkerPart:
    """The newest report of each worker, and positions of the last ten seconds for rates.

    The time of a report is that of its record: a worker's own clock may be that of a replay. A report that is not newer
    than the one that is known changes nothing, so records may be read twice.
    """

    def __init__(self) -> None:
        self._reports: dict[str, TimedReport] = {}
        self._consumed: dict[str, Positions] = {}
        self._folded: dict[tuple[str, str], Positions] = {}

    def observe(self, report: WorkerReport, at_us: int) -> None:
        """Take a report. ``at_us`` is the time of its record."""
        before = self._reports.get(report.worker)
        if before is not None and before.at_us >= at_us:
            return
        self._reports[report.worker] = TimedReport(at_us, report)
        if len(self._reports) > _MOST_WORKERS:
            self._forget()
        for each in report.partitions:
            _note(self._consumed.setdefault(each.source, deque()), at_us, each.next_offset)
            for view, cursor in each.views.items():
                _note(self._folded.setdefault((view, each.source), deque()), at_us, cursor.rows_total)

    def _forget(self) -> None:
        """Drop the older half of the reports: each start of a worker has a name of its own."""
        newest = sorted(self._reports.items(), key=lambda each: each[1].at_us)[_MOST_WORKERS // 2 :]
        self._reports = dict(newest)
        parts = [part for timed in self._reports.values() for part in timed.report.partitions]
        self._consumed = {part.source: self._consumed[part.source] for part in parts}
        self._folded = {(view, part.source): self._folded[view, part.source] for part in parts for view in part.views}

    def partitions(self, wanted: Mapping[str, int], now_us: int) -> list[PartitionNow]:
        """Return the partitions of all reports, and those of the wanted topics of which nobody has told.

        ``wanted`` has the number of partitions of each topic.
        """
        found: dict[tuple[str, int], PartitionNow] = {}
        for timed in self._oldest_first(now_us):
            for each in timed.report.partitions:
                found[each.topic, _number(each)] = self._partition(timed, each, now_us)
            for stopped in timed.report.stopped:
                found[stopped.topic, stopped.partition] = _stopped(timed, stopped, now_us)
        for topic, count in wanted.items():
            for number in range(count):
                found.setdefault((topic, number), PartitionNow(topic=topic, partition=number))
        return [found[key] for key in sorted(found)]

    def views(self, now_us: int) -> list[ViewNow]:
        """Return the views of all reports."""
        parts: dict[str, dict[str, tuple[TimedReport, PartitionReport]]] = {}
        for timed in self._oldest_first(now_us):
            for each in timed.report.partitions:
                for view in each.views:
                    parts.setdefault(view, {})[each.source] = (timed, each)
        return [self._view(view, list(parts[view].values()), now_us) for view in sorted(parts)]

    def _oldest_first(self, now_us: int) -> Iterator[TimedReport]:
        """Yield the newest report of each worker. One that has said nothing for an hour is forgotten."""
        for timed in sorted(self._reports.values(), key=lambda each: each.at_us):
            if now_us - timed.at_us < _FORGOTTEN_US:
                yield timed

    def _partition(self, timed: TimedReport, each: PartitionReport, now_us: int) -> PartitionNow:
        is_silent = now_us - timed.at_us > SILENT_US
        return PartitionNow(
            topic=each.topic,
            partition=_number(each),
            observed_us=timed.at_us,
            is_silent=is_silent,
            worker=timed.report.worker,
            lag=None if each.end_offset is UNSET else max(0, each.end_offset - each.next_offset),
            unlogged=max(0, each.next_offset - each.logged_offset),
            rate=None if is_silent else _rate([self._consumed[each.source]]),
            available_us=_known(each.available_us),
            rejected=each.rejected,
            late=each.late,
        )

    def _view(self, view: str, parts: list[tuple[TimedReport, PartitionReport]], now_us: int) -> ViewNow:
        cursors = [each.views[view] for _, each in parts]
        observed_us = min(timed.at_us for timed, _ in parts)
        is_silent = now_us - observed_us > SILENT_US
        clocks = [cursor.clock_us for cursor in cursors if _known(cursor.clock_us) is not None]
        memories = [
            report.memory[view]
            for report in {timed.report.worker: timed.report for timed, _ in parts}.values()
            if report.memory is not UNSET and view in report.memory
        ]
        return ViewNow(
            view=view,
            observed_us=observed_us,
            is_silent=is_silent,
            catching_up=any(cursor.catching_up is True for cursor in cursors),
            behind=sum(max(0, each.next_offset - each.views[view].next_offset) for _, each in parts),
            clock_us=min(clocks, default=None),
            rate=None if is_silent else _rate([self._folded[view, each.source] for _, each in parts]),
            entities=sum(memory.entities for memory in memories) if memories else None,
            bytes=sum(memory.bytes for memory in memories) if memories else None,
        )


def _stopped(timed: TimedReport, stopped: StoppedReport, now_us: int) -> PartitionNow:
    return PartitionNow(
        topic=stopped.topic,
        partition=stopped.partition,
        observed_us=timed.at_us,
        is_silent=now_us - timed.at_us > SILENT_US,
        worker=timed.report.worker,
        stopped=stopped.why,
    )


def _note(positions: Positions, at_us: int, position: int) -> None:
    """Note a position. One that is smaller, or not later, is another worker's: so the earlier ones say no rate."""
    if positions and (position < positions[-1][1] or at_us <= positions[-1][0]):
        positions.clear()
    positions.append((at_us, position))
    while len(positions) > 2 and at_us - positions[0][0] > _RATE_US:  # noqa: PLR2004 - a rate needs two
        positions.popleft()


def _rate(of: Iterable[Positions]) -> float | None:
    """Return the sum of the rates in a second; None if no position is known twice."""
    found = [
        (positions[-1][1] - positions[0][1]) * SECOND / (positions[-1][0] - positions[0][0])
        for positions in of
        if len(positions) > 1
    ]
    return round(sum(found), 1) if found else None


def _number(each: PartitionReport) -> int:
    """Return the number of a partition, the end of its source."""
    end = each.source.rpartition("-")[2]
    return int(end) if end.isdecimal() else -1


def _known(clock_us: int) -> int | None:
    return clock_us if clock_us > NO_CLOCK else None
