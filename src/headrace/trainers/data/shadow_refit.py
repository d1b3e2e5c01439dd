"""A refit of a model that is compared with the live version and never published: what a new version could do now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.base.times import utc_datetime
from headrace.errors import FitError
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.vector_scores import VectorScores
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl

    from headrace.event_log.readable_log import ReadableLog
    from headrace.models.manifest import TimeSpan
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.data.shared_vectors import SharedVectors
    from headrace.trainers.definitions import Model

    FitFunction = Callable[[Model, Examples], Any]

DAYS = 7


class ShadowRefit:
    """Fits on the rows that were matured before a day, and scores the vectors since then.

    ``fit`` fits a model on examples and returns the estimator; it raises FitError. The rows and their features are in
    memory only while it fits. A fit is used for a week of days, a fit that failed is not tried again for the same day.
    Not for several threads at once.
    """

    def __init__(self, model: Model, log: ReadableLog, vectors: SharedVectors, fit: FitFunction) -> None:
        self._model = model
        self._log = log
        self._vectors = vectors
        self._fit = fit
        self._day: int | None = None
        self._scores: VectorScores | None = None
        self._failed: tuple[int, str] | None = None

    @property
    def name(self) -> str:
        """The refit in words: "a refit on rows before 2013-05-01"."""
        until = "" if self._day is None else f" on rows before {utc_datetime(self._day * DAY_US):%Y-%m-%d}"
        return f"a refit{until}"

    def frame(self, from_day: int, excluded: Sequence[TimeSpan] = ()) -> pl.DataFrame:
        """Return the scores of the vectors since a day: see :class:`VectorScores`. Raises FitError."""
        if self._failed is not None and self._failed[0] == from_day:
            raise FitError(self._failed[1])
        if self._scores is None or self._day is None or not from_day - DAYS < self._day <= from_day:
            self._scores = None  # it may take long, and the old one is of no use
            try:
                self._scores = self._fitted(from_day, excluded)
            except FitError as error:
                self._failed = from_day, str(error)
                raise
            self._day = from_day
        return self._scores.frame()

    def _fitted(self, day: int, excluded: Sequence[TimeSpan]) -> VectorScores:
        builder = ExampleBuilder(self._model, self._log)
        examples = builder.build(day * DAY_US, self._model.learn_from, excluded=excluded)
        if not len(examples):
            raise FitError(f"there are no rows before {utc_datetime(day * DAY_US):%Y-%m-%d} to fit on")
        feed, estimator = self._vectors.feed(self._model.name), self._fit(self._model, examples)
        return VectorScores(self._model, feed, estimator, from_us=day * DAY_US)
