"""The event log's upkeep, and other jobs on a schedule. The worker that reads a topic's partition 0 does them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Self

import structlog

from headrace.errors import FencedError, TransientError
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


@dataclass(frozen=True)
class ScheduledJob:
    """A job of the worker that reads a topic's partition 0. ``run`` returns its results by name, for the metrics."""

    name: str
    topic: str
    every: timedelta
    run: Callable[[], Mapping[str, float]]


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
        report: Callable[[str, Mapping[str, float]], None],
    ) -> None:
        self._jobs, self._leads, self._clock, self._report = jobs, leads, clock, report
        self._ran = {job.name: clock() for job in jobs}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-jobs", daemon=True)

    def __enter__(self) -> Self:
        if self._jobs:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._jobs:
            self._thread.join(STOP_S)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.step()

    def step(self) -> None:
        """Run the jobs that are due and are this worker's."""
        for job in self._jobs:
            is_due = self._clock() - self._ran[job.name] >= job.every // timedelta(microseconds=1)
            if is_due and self._leads(job.topic) and not self._stop.is_set():
                self._do(job)

    def _do(self, job: ScheduledJob) -> None:
        self._ran[job.name] = self._clock()
        try:
            found = job.run()
        except (FencedError, TransientError) as error:
            logger.warning("job: later", job=job.name, error=str(error))
        except Exception:
            logger.exception("job failed", job=job.name)
        else:
            logger.info("job done", job=job.name, **found)
            self._report(job.name, found)


class LogUpkeep:
    """Compacts and vacuums the event log, in a thread of its own for as long as the context lasts.

    It first runs after one interval. ``leads`` returns whether this worker has to look after a topic. While a partition
    moves, two workers may think so: compaction and vacuum bear that, and ``jobs`` must (see :class:`ScheduledJobs`). An
    error is logged and never stops the worker. ``report`` is called with the name and the results of a finished job.
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
        report: Callable[[str, Mapping[str, float]], None] = lambda _name, _found: None,
    ) -> None:
        self._jobs = ScheduledJobs(jobs, leads, clock, report)
        self._log, self._topics, self._leads = log, topics, leads
        self._schedule, self._clock = schedule, clock
        self._looked: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-upkeep", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._jobs.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until a commit of the upkeep that is under way is finished."""
        self._stop.set()
        self._jobs.__exit__()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._schedule.compact.total_seconds()):
            self.step()

    def step(self) -> None:
        """Look once after each topic that is this worker's."""
        for topic in self._topics:
            if self._leads(topic) and not self._stop.is_set():
                try:
                    self._tend(topic)
                except (FencedError, TransientError) as error:
                    logger.warning("upkeep of the event log: later", topic=topic, error=str(error))
                except Exception:
                    logger.exception("upkeep of the event log failed", topic=topic)

    def _tend(self, topic: str) -> None:
        schedule = self._schedule
        for files in compact(self._log, topic, self._now_s(), schedule.sizes):
            logger.info("event log compacted", topic=topic, files=files)
            if self._stop.is_set() or not self._leads(topic):
                return
        last = self._looked.get(topic, table_shape(self._log, topic, schedule.sizes).vacuumed_s or 0)
        if self._now_s() - last >= schedule.vacuum.total_seconds():
            gone = vacuum(self._log, topic, self._now_s(), schedule.retention)
            self._looked[topic] = self._now_s()  # the table remembers only when something was deleted
            logger.info("event log vacuumed", topic=topic, files=gone)

    def _now_s(self) -> int:
        return self._clock() // 1_000_000
