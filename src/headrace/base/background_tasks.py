"""The background tasks of a process, and how each of them does: its failures are logged, counted and shown."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from headrace.base.times import Clock, wall_clock
from headrace.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_ENDS = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)
"""The requests to end: an attempt does not keep them back."""
logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class TaskStatus:
    """How a task does. Times are microseconds UTC.

    ``error`` is that of its last attempt, None if that succeeded. ``failures`` counts the failed attempts since the
    last success, ``failures_total`` all of them. ``since_us``: the time since when it fails, or since when it does not.
    ``succeeded_us``: the end of its last success, or None.
    """

    name: str
    since_us: int
    error: str | None = None
    failures: int = 0
    failures_total: int = 0
    succeeded_us: int | None = None


class BackgroundTask:
    """One task of a process. Each attempt of it is made within :meth:`attempt`. Safe to read from any thread."""

    def __init__(self, name: str, clock: Clock = wall_clock) -> None:
        self._clock = clock
        self._status = TaskStatus(name, clock())

    @property
    def status(self) -> TaskStatus:
        """How it does now."""
        return self._status

    def attempt(self) -> AbstractContextManager[None, bool]:
        """Return a context that notes how the attempt inside ends. Whatever is raised inside goes no further.

        It is logged. The same error again is logged each time the number of failures has doubled.
        """
        return _Attempt(self)

    def ended(self, error: BaseException | None) -> None:
        """Note how an attempt ended: with an error, or well."""
        if error is None:
            self._succeeded()
        else:
            self._failed(error)

    def _succeeded(self) -> None:
        before, now = self._status, self._clock()
        if before.failures:
            logger.info("a task works again", task=before.name, failures=before.failures)
        since = now if before.failures else before.since_us
        self._status = TaskStatus(
            before.name, since, failures_total=before.failures_total, succeeded_us=now
        )  # replaced as a whole: readers need no lock

    def _failed(self, error: BaseException) -> None:
        before, said = self._status, f"{type(error).__name__}: {error}"
        count = before.failures + 1
        since = before.since_us if before.failures else self._clock()
        self._status = TaskStatus(before.name, since, said, count, before.failures_total + 1, before.succeeded_us)
        if said == before.error and count & (count - 1):
            return
        unexpected = not isinstance(error, TransientError)
        logger.warning("a task failed and is tried again", task=before.name, failures=count, error=said,
                       exc_info=error if unexpected else None)  # fmt: skip


class _Attempt(AbstractContextManager[None, bool]):
    """One attempt of a task. It keeps every error back, also the panic of a library, which is no Exception."""

    def __init__(self, task: BackgroundTask) -> None:
        self._task = task

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, _ENDS):
            return False
        self._task.ended(error)
        return True


class BackgroundTasks:
    """The tasks that a process has now. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: list[BackgroundTask] = []

    def add(self, *tasks: BackgroundTask) -> None:
        """Show these tasks from now on."""
        with self._lock:
            self._tasks += tasks

    def remove(self, *tasks: BackgroundTask) -> None:
        """Do not show these tasks any more: they were ended on purpose."""
        with self._lock:
            self._tasks = [task for task in self._tasks if task not in tasks]

    def statuses(self) -> Sequence[TaskStatus]:
        """Return how each task does."""
        with self._lock:
            return [task.status for task in self._tasks]

    def failing(self) -> Sequence[TaskStatus]:
        """Return the tasks whose last attempt failed."""
        return [status for status in self.statuses() if status.error is not None]


TASKS = BackgroundTasks()
"""The background tasks of this process."""
