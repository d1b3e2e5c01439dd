"""The scores of an estimator, row by row: one bad row costs no other row its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import PredictionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

_COLUMNS = 2
"""The columns of ``predict_proba``: the probabilities of false and of true."""


@dataclass(frozen=True)
class RowScores:
    """The probability that the label is true, for each row. A row in ``errors`` has none: its value is NaN."""

    scores: np.ndarray
    errors: Mapping[int, PredictionError]


def row_scores(estimator: Any, frame: pd.DataFrame) -> RowScores:
    """Return the scores of all rows.

    A row has an error if the estimator raises for it, gives an array of another shape than (1, 2), or gives a number
    that is not finite. The frame is predicted as a whole. If that fails, each half is predicted, and so on: a frame of
    n rows takes one call, one bad row 2·log2(n) more calls, and n bad rows 2·n - 1 calls.

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
    values, errors = np.full(len(frame), np.nan), dict[int, PredictionError]()
    if len(frame):
        _score(estimator, frame, 0, values, errors)
    return RowScores(values, errors)


def _score(
    estimator: Any, frame: pd.DataFrame, first: int, values: np.ndarray, errors: dict[int, PredictionError]
) -> None:
    """Write the scores of ``frame``, whose first row has the number ``first``, or the errors."""
    size = len(frame)
    try:
        found = _probabilities(estimator.predict_proba(frame), size)
    except Exception as error:  # noqa: BLE001 - a user's estimator may raise anything
        if size == 1:
            errors[first] = _error(estimator, f"{type(error).__name__}: {error}", error)
            return
        half = size // 2
        _score(estimator, _part(frame, 0, half), first, values, errors)
        _score(estimator, _part(frame, half, size), first + half, values, errors)
        return
    is_number = np.isfinite(found)
    values[first : first + size] = np.where(is_number, found, np.nan)
    for row in np.flatnonzero(~is_number).tolist():
        errors[first + row] = _error(estimator, f"its score is {found[row]}, which is no probability")


def _probabilities(found: Any, rows: int) -> np.ndarray:
    table = np.asarray(found, np.float64)
    if table.shape != (rows, _COLUMNS):
        raise ValueError(f"predict_proba gave an array of shape {table.shape}, wanted {(rows, _COLUMNS)}")
    probabilities: np.ndarray = table[:, 1]
    return probabilities


def _part(frame: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
    """Return some rows as a frame of their own: with the types that these rows alone have."""
    return frame.iloc[start:end].reset_index(drop=True).infer_objects()


def _error(estimator: Any, why: str, cause: Exception | None = None) -> PredictionError:
    error = PredictionError(f"{type(estimator).__name__} cannot predict this row: {why}")
    error.__cause__ = cause
    return error
