"""The fits that passed the gate for earlier versions: the registry keeps them, and they can score the same new rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from msgspec import UNSET

from headrace.errors import FitError, UnknownVersionError
from headrace.trainers.runs.fit_task import ScoreTask
from headrace.trainers.runs.provenance import service_ref

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.models.model_events import Published
    from headrace.models.registry import Registry
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.fitting import Fits
    from headrace.trainers.train_function import Run


@dataclass(frozen=True)
class KeptScores:
    """The scores that the gated fit of a version gives the rows of a holdout.

    They are NaN for a row that is not later than all rows that it was trained on. ``left_out`` says why there are none.
    """

    version: int
    scores: np.ndarray
    left_out: str = ""


class KeptFits:
    """Scores rows with the gated fits of one model's versions."""

    def __init__(self, model: Model, registry: Registry, fits: Fits, trusted: Sequence[str]) -> None:
        self._model = model
        self._registry = registry
        self._fits = fits
        self._trusted = trusted

    def scores(self, published: Published, held: Examples, run: Run) -> KeptScores:
        """Score the rows, in the process where fits are done. Raises RegistryUnavailableError, and StoppingError.

        A version whose fit is gone, cannot be loaded, or has other features is left out.
        """
        scores = np.full(held.task.shape(len(held)), np.nan)
        left_out = self._unlike(published)
        stored = None if left_out else self._stored(published.version)
        if stored is None:
            return KeptScores(published.version, scores, left_out or "the registry does not have its gated fit")
        later = held.requested_us > gated_to_us(published)
        if later.any():
            rows = held.frame[later].reset_index(drop=True)
            try:
                scores[later] = self._fits.score(ScoreTask(stored, rows, run, self._trusted, task=held.task))
            except FitError as error:
                return KeptScores(published.version, scores, f"its gated fit cannot be used: {error}")
        return KeptScores(published.version, scores)

    def _stored(self, version: int) -> bytes | None:
        try:
            return self._registry.gated_fit(self._model.name, version)
        except UnknownVersionError:
            return None

    def _unlike(self, published: Published) -> str:
        """Return in what a version differs from the model as it is defined now; an empty text if it can be compared."""
        if published.predicts != self._model.label.predicts:
            return "it predicts something else"
        then, now = published.service, service_ref(self._model)
        same = ("views", "columns", "request_features", "on_demand", "own_event", "categories")
        return "" if all(getattr(then, name) == getattr(now, name) for name in same) else "it has other features"


def gated_to_us(published: Published) -> int:
    """Return the time of the newest request that a version's gated fit may have been trained on."""
    return published.trained_to_us if published.gated_to_us is UNSET else published.gated_to_us
