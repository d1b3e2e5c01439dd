"""A thread that does one step again and again. It is the one way in which headrace runs a loop in the background."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from headrace.base.background_tasks import TASKS, BackgroundTask, BackgroundTasks, TaskStatus
from headrace.base.times import Clock, wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_S, _MOST_S = 1.0, 30.0


class BackgroundLoop:
    """Calls ``step`` in a thread of its own, with ``pause_s`` seconds before each call, until :meth:`stop`.

    Whatever a step raises is logged, shown by the task of this name in ``tasks``, and tried again: after ``retry_s``
    seconds, then twice as many, up to 30. No error ends the thread.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], None],
        *,
        pause_s: float = 0.0,
        retry_s: float = _FIRST_S,
        tasks: BackgroundTasks = TASKS,
        clock: Clock = wall_clock,
    ) -> None:
        self._name, self._step, self._pause_s, self._retry_s = name, step, pause_s, retry_s
        self._tasks, self._task, self._clock = tasks, BackgroundTask(name, clock), clock
        self.stopping = threading.Event()
        """Set once the loop is to end. A step that waits waits for this."""
        self._thread: threading.Thread | None = None

    @property
    def status(self) -> TaskStatus:
        """How the steps do."""
        return self._task.status

    @property
    def is_running(self) -> bool:
        """True between start and stop. False in a process that was forked from the one that started it."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def silent_us(self) -> int:
        """The microseconds since the last step that succeeded. A step that never ends raises nothing."""
        status = self.status
        return self._clock() - (status.succeeded_us or status.since_us)

    def start(self) -> None:
        """Begin. A loop that runs already goes on."""
        if self._thread is None:
            self.stopping = threading.Event()  # a step that outlived the last stop keeps its own, and ends
            self._thread = threading.Thread(
                target=self._run, args=(self.stopping,), name=f"headrace-{self._name}", daemon=True
            )
            self._tasks.add(self._task)
            self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Ask the loop to end, and wait for its step under way, at most ``timeout_s`` seconds."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None
            self._tasks.remove(self._task)

    def _run(self, stopping: threading.Event) -> None:
        retry_s = self._retry_s
        while not stopping.wait(self._pause_s):
            with self._task.attempt():
                self._step()
            if self.status.error is None:
                retry_s = self._retry_s
            else:
                stopping.wait(retry_s)
                retry_s = min(retry_s * 2, _MOST_S)
