"""What every peer is told, reports, and writes to."""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis import Redis

if TYPE_CHECKING:
    from collections.abc import Iterable

WINDOW_S, HOP_S, LATE_S = 60, 10, 60
PIPELINE = 2_000
Totals = tuple[int, float, float]
"""Count, sum and max."""


@dataclass(frozen=True)
class Task:
    """Which topic to fold, whether with Python's cyclic garbage collector, and where results go (None: nowhere)."""

    servers: str
    topic: str
    folder: str
    events: int
    gc: bool
    redis_url: str | None

    @staticmethod
    def from_argv() -> Task:
        """The task on the command line; garbage collection is set at once."""
        task = Task(**json.loads(sys.argv[1]))
        gc.collect()
        gc.freeze()
        if not task.gc:
            gc.disable()
        return task

    def reached(self, name: str, **more: Any) -> None:
        """Tell that this point was reached, and when."""
        moment = {"at": time.monotonic(), "cpu": time.process_time(), **more}
        draft = Path(self.folder) / f"{name}.draft"
        draft.write_text(json.dumps(moment))
        draft.replace(Path(self.folder) / name)


class Results:
    """Takes finished windows: counts what is in them, and keeps each in Redis if there is one."""

    def __init__(self, task: Task) -> None:
        self._redis: Any = None if task.redis_url is None else Redis.from_url(task.redis_url)
        self._buffer: list[tuple[str, int, Totals]] = []
        self.counted = 0

    def take(self, windows: Iterable[tuple[str, int, Totals]]) -> None:
        """Windows as (user, window, totals)."""
        for window in windows:
            self.counted += window[2][0]
            if self._redis is not None:
                self._buffer.append(window)
        if len(self._buffer) >= PIPELINE:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered, in one pipeline."""
        if not self._buffer:
            return
        with self._redis.pipeline(transaction=False) as pipeline:
            for user, window, (count, total, largest) in self._buffer:
                pipeline.hset(f"peer:{user}", str(window), b"%d|%r|%r" % (count, total, largest))
            pipeline.execute()
        self._buffer.clear()
