"""Counts what a predictor answers: for its heartbeat, and for Prometheus."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any

from headrace.serving.answerer import Answerer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from headrace.bus.source_partition import RecordPlace
    from headrace.serving.answerer import Predicted
    from headrace.serving.subscriber import LoadedModel

BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""The upper bounds of the classes in which calls are counted by their duration, in seconds."""


class AnswerCounts:
    """Counts of answers since the start. Safe from any thread.

    ``predicted`` counts answers of a version, and ``of_shadows`` the values of other versions for the same vectors.
    ``statuses`` counts rows by view and status. ``calls`` has the calls of each class of :data:`BOUNDS`, and those that
    took longer; ``seconds`` is their sum.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.predicted = self.of_shadows = 0
        self.statuses: Counter[tuple[str, str]] = Counter()
        self.calls = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def answered(self, answers: Sequence[Predicted], seconds: float) -> None:
        """Count the answers of one call, which took so long."""
        by_version = sum(1 for answer in answers if answer.version)
        shadows = sum(len(answer.shadows) - 1 for answer in answers if answer.shadows)
        statuses = Counter((view, status.value) for answer in answers for view, status in answer.statuses.items())
        with self._lock:
            self.predicted += by_version
            self.of_shadows += shadows
            self.statuses.update(statuses)
            self.calls[bisect_left(BOUNDS, seconds)] += 1
            self.seconds += seconds

    def snapshot(self) -> tuple[list[int], float, dict[tuple[str, str], int]]:
        """Return calls, seconds and statuses that belong together."""
        with self._lock:
            return list(self.calls), self.seconds, dict(self.statuses)


class CountingAnswerer(Answerer):
    """Answers as :class:`Answerer` does, and counts each call that has answers."""

    def __init__(self, *args: Any, monotonic: Callable[[], float] = time.perf_counter, **options: Any) -> None:
        super().__init__(*args, **options)
        self._monotonic = monotonic
        self.counts = AnswerCounts()

    def predict_many(
        self,
        requests: Sequence[Mapping[str, Any]],
        *,
        as_of: datetime | None = None,
        shadows: Sequence[LoadedModel] = (),
        records: Sequence[RecordPlace | None] | None = None,
    ) -> list[Predicted]:
        """Predict many requests, and count the answers: see :meth:`Answerer.predict_many`."""
        began = self._monotonic()
        answers = super().predict_many(requests, as_of=as_of, shadows=shadows, records=records)
        self.counts.answered(answers, self._monotonic() - began)
        return answers
