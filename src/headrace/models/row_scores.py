"""The scores of an estimator, row by row: one bad row costs no other row its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import PredictionError
from headrace.models.prediction_task import BINARY, read_predictions

if TYPE_CHECKING:
    import pandas as pd

    from headrace.models.prediction_task import PredictionTask


@dataclass(frozen=True)
class RowScores:
    """The prediction for each row, in the shape of the task. A row in ``errors`` has none: it is NaN."""

    scores: np.ndarray
    errors: dict[int, PredictionError]


def row_scores(estimator: Any, frame: pd.DataFrame, task: PredictionTask = BINARY) -> RowScores:
    """Return the predictions of all rows.

    A row has an error if the estimator raises for it, gives an array of another shape than the task's, or gives a
    number that is not finite. The frame is predicted as a whole. If that fails, each half is predicted, and so on: a
    frame of n rows takes one call, one bad row 2·log2(n) more calls, and n bad rows 2·n - 1 calls.

    >>> import numpy as np, pandas as pd
    >>> class Picky:
    ...     def predict_proba(self, frame):
    ...         if (frame["x"] < 0).any():
    ...             raise ValueError("x is negative")
    ...         return np.full((len(frame), 2), 0.5)
    >>> found = row_scores(Picky(), pd.DataFrame({"x": [1, -1, 2]}))
    >>> found.scores.tolist(), str(found.errors[1])
    ([0.5, nan, 0.5], 'Picky cannot predict this row: ValueError: x is negative')
    """
    found = RowScores(np.full(task.shape(len(frame)), np.nan), dict[int, PredictionError]())
    if len(frame):
        _score(estimator, frame, 0, found, task)
    return found


def _score(estimator: Any, frame: pd.DataFrame, first: int, into: RowScores, task: PredictionTask) -> None:
    """Write the predictions of ``frame``, whose first row has the number ``first``, or the errors."""
    size = len(frame)
    try:
        found = read_predictions(estimator, frame, task)
    except Exception as error:  # noqa: BLE001 - a user's estimator may raise anything
        if size == 1:
            into.errors[first] = _error(estimator, f"{type(error).__name__}: {error}", error)
            return
        half = size // 2
        _score(estimator, _part(frame, 0, half), first, into, task)
        _score(estimator, _part(frame, half, size), first + half, into, task)
        return
    is_number = np.isfinite(found.reshape(size, -1)).all(axis=1)
    into.scores[first : first + size][is_number] = found[is_number]
    what = "probability" if task.is_classification else "number"
    for row in np.flatnonzero(~is_number).tolist():
        into.errors[first + row] = _error(estimator, f"its score is {found[row]}, which is no {what}")


def _part(frame: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
    """Return some rows as a frame of their own: with the types that these rows alone have."""
    return frame.iloc[start:end].reset_index(drop=True).infer_objects()


def _error(estimator: Any, why: str, cause: Exception | None = None) -> PredictionError:
    error = PredictionError(f"{type(estimator).__name__} cannot predict this row: {why}")
    error.__cause__ = cause
    return error
