"""What a trainer says of itself: its models, its last tick, and the run under way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from headrace.base.redaction import without_secrets
from headrace.bus.heartbeats import EVERY_US, PHASES, RunProgress, TrainerHeartbeat
from headrace.trainers.runs.run_under_way import RunWatch
from headrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.base.times import Clock
    from headrace.trainers.runs.messages import RetrainRequest

_LONGEST_REASON = 500


class TrainerHeartbeats(RunWatch):
    """The state of one trainer. It is told of ticks and of runs from any thread.

    ``changed`` is called after a run has begun, come to another phase, or ended. ``models`` returns the models that
    the trainer has, and ``waiting`` the ids of requests that it has taken and not begun. ``tick_us`` 0: ticks come from
    outside.
    """

    def __init__(self, process: str, clock: Clock, tick_us: int) -> None:
        self.process, self._clock, self._tick_us = process, clock, tick_us
        self._started_us = clock()
        self._lock = threading.Lock()
        self._ticked_us: int | UnsetType = UNSET
        self._run: RunProgress | UnsetType = UNSET
        self.changed: Callable[[], None] = lambda: None
        self.models: Callable[[], Iterable[str]] = tuple
        self.waiting: Callable[[], Iterable[str]] = tuple

    def ticked(self) -> None:
        """Called after the rules of all models were evaluated."""
        self._ticked_us = self._clock()

    def began(self, request: RetrainRequest) -> None:
        """Note the run of this request. A run that had to wait for a store and goes on is the same run."""
        with self._lock:
            now, before = self._clock(), self._run
            is_known = before is not UNSET and before.request_id == request.request_id
            self._run = RunProgress(
                request_id=request.request_id,
                model=request.model,
                rule=request.rule,
                reason=without_secrets(request.reason, _LONGEST_REASON),
                started_us=before.started_us if is_known and before is not UNSET else now,
                phase=PHASES[0],
                phase_us=now,
            )
        self.changed()

    def reached(self, phase: str) -> None:
        """Note that the run under way is in this phase."""
        with self._lock:
            if self._run is not UNSET:
                self._run = msgspec.structs.replace(self._run, phase=phase, phase_us=self._clock())
        self.changed()

    def ended(self) -> None:
        """Note that no run is under way."""
        with self._lock:
            self._run = UNSET
        self.changed()

    def state(self) -> TrainerHeartbeat:
        """Return the heartbeat as it is now."""
        return TrainerHeartbeat(
            process=self.process,
            release=__version__,
            started_us=self._started_us,
            observed_us=self._clock(),
            every_us=EVERY_US,
            models=sorted(self.models()),
            tick_us=self._tick_us or UNSET,
            ticked_us=self._ticked_us,
            run=self._run,
            waiting=list(self.waiting()) or UNSET,
        )
