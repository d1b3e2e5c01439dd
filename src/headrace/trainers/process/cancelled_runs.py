"""The runs that a person has cancelled, and fits that end with them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from msgspec import UNSET

from headrace.errors import FitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from headrace.trainers.process.heard_requests import HeardRequest
    from headrace.trainers.runs.fit_task import FitResult, FitTask, ScoreTask
    from headrace.trainers.runs.fitting import Fits
    from headrace.trainers.runs.operator_requests import OperatorRequest


class CancelledRuns:
    """The cancelled runs by the id of their request. Safe from any thread.

    ``heard`` returns all requests of operators so far. It is called for each question, so no tick is waited for.
    """

    def __init__(self, heard: Callable[[], Sequence[HeardRequest]] = tuple) -> None:
        self._lock = threading.Lock()
        self._heard = heard
        self._read = 0
        self._why: dict[str, str] = {}

    def hear(self, request: OperatorRequest) -> None:
        """Called with each operator's request; only those that cancel a run count, the first one of a run."""
        with self._lock:
            self._hear(request)

    def _hear(self, request: OperatorRequest) -> None:
        if request.action == "cancel" and request.request_id is not UNSET:
            self._why.setdefault(request.request_id, f"cancelled by {request.words}")

    def all(self) -> dict[str, str]:
        """Return who cancelled which run, and why, of the requests that were heard so far."""
        with self._lock:
            return dict(self._why)

    def why(self, request_id: str) -> str | None:
        """Return who cancelled a run and why, None if nobody did. Raises BusUnavailableError."""
        known = self._heard()
        with self._lock:
            for heard in known[self._read :]:
                self._hear(heard.request)
            self._read = max(self._read, len(known))
            return self._why.get(request_id)


class CancellableFits:
    """:class:`Fits` that refuse the fits of a cancelled run, and throw away what came of one that was cancelled."""

    def __init__(self, fits: Fits, cancelled: CancelledRuns) -> None:
        self._fits = fits
        self._cancelled = cancelled

    def fit(self, task: FitTask) -> FitResult:
        """Do one fit. Raises FitError, also if the run is cancelled before or meanwhile: so it publishes nothing."""
        self._check(task)
        found = self._fits.fit(task)
        self._check(task)
        return found

    def score(self, task: ScoreTask) -> np.ndarray:
        """Return predictions. Raises FitError. The fit after it is refused if the run is cancelled."""
        return self._fits.score(task)

    def _check(self, task: FitTask) -> None:
        why = self._cancelled.why(task.run.request_id)
        if why is not None:
            raise FitError(why)
