"""The event log's upkeep, and other jobs on a schedule. The worker that reads a topic's partition 0 does them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import msgspec
import structlog

from headrace.base.background_loop import BackgroundLoop
from headrace.base.background_tasks import TASKS, BackgroundTask
from headrace.bus import check_report
from headrace.errors import FencedError
from headrace.event_log.maintenance import (
    LEAST_RETENTION,
    CompactionSizes,
    check_retention,
    compact,
    table_shape,
    vacuum,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.base.times import Clock
    from headrace.bus.check_report import CheckReport
    from headrace.event_log.event_log import EventLog

logger = structlog.get_logger(__name__)
LOOK_S = 1.0
"""The pause between two checks whether a job is due."""
STOP_S = 5.0
"""The longest time that a stop waits for a running job, in seconds."""


@dataclass(frozen=True)
class UpkeepSchedule:
    """The intervals at which small files are compacted and replaced files are deleted, and the time these are kept.

    Raises SettingsError for a retention of less than seven days.
    """

    compact: timedelta = timedelta(minutes=10)
    vacuum: timedelta = timedelta(days=1)
    retention: timedelta = LEAST_RETENTION
    sizes: CompactionSizes = field(default_factory=CompactionSizes)

    def __post_init__(self) -> None:
        check_retention(self.retention)


def _no_reports(_: Mapping[str, float]) -> Sequence[CheckReport]:
    return ()


@dataclass(frozen=True)
class ScheduledJob:
    """A job of the worker that reads a topic's partition 0. ``run`` returns its results by name, for the metrics.

    ``reports`` makes of the results what the bus is told. The worker fills in who checked, when, and how often.
    """

    name: str
    topic: str
    every: timedelta
    run: Callable[[], Mapping[str, float]]
    reports: Callable[[Mapping[str, float]], Sequence[CheckReport]] = _no_reports


class JobReports:
    """Tells the metrics, and the bus through ``send``, what the jobs of a worker have found."""

    def __init__(
        self,
        worker: str,
        clock: Clock,
        meter: Callable[[str, Mapping[str, float]], None],
        send: Callable[[bytes, bytes], None],
    ) -> None:
        self._worker, self._clock, self._meter, self._send = worker, clock, meter, send

    def done(self, job: ScheduledJob, found: Mapping[str, float]) -> None:
        """Called when a job has ended with these results."""
        self._meter(job.name, found)
        every_us = job.every // timedelta(microseconds=1)
        for each in job.reports(found):
            report = msgspec.structs.replace(each, by=self._worker, at_us=self._clock(), every_us=every_us)
            self._send(report.key.encode(), check_report.encode(report))


class ScheduledJobs:
    """Runs jobs one after the other, in a thread of its own for as long as the context lasts.

    A job first runs when its interval has passed, and then once in each interval. A job that fails is tried again the
    next time. A stop waits for a job for :data:`STOP_S` at most: a job must bear to be cut off at any moment.
    """

    def __init__(
        self,
        jobs: Sequence[ScheduledJob],
        leads: Callable[[str], bool],
        clock: Clock,
        report: Callable[[ScheduledJob, Mapping[str, float]], None],
    ) -> None:
        self._jobs, self._leads, self._clock, self._report = jobs, leads, clock, report
        self._ran = {job.name: clock() for job in jobs}
        self._tasks = {job.name: BackgroundTask(f"job {job.name}", clock) for job in jobs}
        self._loop = BackgroundLoop("jobs", self.step, pause_s=LOOK_S)

    def __enter__(self) -> Self:
        if self._jobs:
            TASKS.add(*self._tasks.values())
            self._loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.stop(STOP_S)
        TASKS.remove(*self._tasks.values())

    def step(self) -> None:
        """Run the jobs that are due and are this worker's."""
        for job in self._jobs:
            is_due = self._clock() - self._ran[job.name] >= job.every // timedelta(microseconds=1)
            if is_due and self._leads(job.topic) and not self._loop.stopping.is_set():
                with self._tasks[job.name].attempt():
                    self._do(job)

    def _do(self, job: ScheduledJob) -> None:
        self._ran[job.name] = self._clock()
        try:
            found = job.run()
        except FencedError as error:  # another worker does it just now
            logger.warning("job: later", job=job.name, error=str(error))
            return
        logger.info("job done", job=job.name, **found)
        self._report(job, found)


class LogUpkeep:
    """Compacts and vacuums the event log, in a thread of its own for as long as the context lasts.

    It first runs after one interval. ``leads`` returns whether this worker has to look after a topic. While a partition
    moves, two workers may think so: compaction and vacuum bear that, and ``jobs`` must (see :class:`ScheduledJobs`). An
    error is logged and never stops the worker. ``report`` is called with a finished job and its results.
    """

    def __init__(
        self,
        log: EventLog,
        topics: Sequence[str],
        leads: Callable[[str], bool],
        schedule: UpkeepSchedule,
        clock: Clock,
        *,
        jobs: Sequence[ScheduledJob] = (),
        report: Callable[[ScheduledJob, Mapping[str, float]], None] = lambda _job, _found: None,
    ) -> None:
        self._jobs = ScheduledJobs(jobs, leads, clock, report)
        self._log, self._topics, self._leads = log, topics, leads
        self._schedule, self._clock = schedule, clock
        self._looked: dict[str, int] = {}
        self._tasks = {topic: BackgroundTask(f"upkeep {topic}", clock) for topic in topics}
        self._loop = BackgroundLoop("upkeep", self.step, pause_s=schedule.compact.total_seconds())

    def __enter__(self) -> Self:
        TASKS.add(*self._tasks.values())
        self._loop.start()
        self._jobs.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until a commit of the upkeep that is under way is finished."""
        self._loop.stopping.set()
        self._jobs.__exit__()
        self._loop.stop()
        TASKS.remove(*self._tasks.values())

    def step(self) -> None:
        """Look once after each topic that is this worker's."""
        for topic in self._topics:
            if self._leads(topic) and not self._loop.stopping.is_set():
                with self._tasks[topic].attempt():
                    self._tend(topic)

    def _tend(self, topic: str) -> None:
        try:
            self._tend_now(topic)
        except FencedError as error:  # a writer came between
            logger.warning("upkeep of the event log: later", topic=topic, error=str(error))

    def _tend_now(self, topic: str) -> None:
        schedule = self._schedule
        for files in compact(self._log, topic, self._now_s(), schedule.sizes):
            logger.info("event log compacted", topic=topic, files=files)
            if self._loop.stopping.is_set() or not self._leads(topic):
                return
        last = self._looked.get(topic, table_shape(self._log, topic, schedule.sizes).vacuumed_s or 0)
        if self._now_s() - last >= schedule.vacuum.total_seconds():
            gone = vacuum(self._log, topic, self._now_s(), schedule.retention)
            self._looked[topic] = self._now_s()  # the table remembers only when something was deleted
            logger.info("event log vacuumed", topic=topic, files=gone)

    def _now_s(self) -> int:
        return self._clock() // 1_000_000
