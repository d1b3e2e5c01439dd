"""One fit: train, score the holdout, store the estimator, and load it as an application of the deployment would."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.base.times import utc_datetime
from headrace.errors import ArtifactError, FitError, PredictionError
from headrace.models import artifact
from headrace.models.prediction_task import BINARY
from headrace.models.row_scores import row_scores
from headrace.trainers.runs.fit_code import FitCode, fit_code
from headrace.trainers.train_function import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from headrace.models.artifact import Artifact
    from headrace.models.prediction_task import PredictionTask
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.train_function import TrainFunction

_COMPARED_ROWS = 20
_TRIED_ROWS = 20
"""The rows of each class in the trial fit, and half of them if there are no classes."""
_TOLERANCE = 1e-9
"""Some estimators sum over threads, so the last bits of their predictions change from call to call."""


@dataclass(frozen=True)
class FitTask:
    """One fit: train on ``frame`` and ``label``, then score ``holdout`` if there is one.

    ``trusted`` are the types that the deployment's applications load. An estimator with other types could not be
    served. ``log`` is the file to which a child process appends what the train function prints. With ``is_tried`` it
    fits a few rows first, to see whether the estimator can be served. ``task`` says how its answers are read.
    """

    fit: TrainFunction
    frame: pd.DataFrame
    label: pd.Series
    run: Run
    holdout: pd.DataFrame | None = None
    trusted: Sequence[str] = ()
    log: Path | None = None
    is_tried: bool = False
    task: PredictionTask = BINARY


@dataclass(frozen=True)
class ScoreTask:
    """Load the estimator that is ``stored``, as an application would, and predict the rows of ``frame``.

    ``run`` names the run that wants to know it. The other fields are those of :class:`FitTask`.
    """

    stored: bytes
    frame: pd.DataFrame
    run: Run
    trusted: Sequence[str] = ()
    log: Path | None = None
    task: PredictionTask = BINARY


@dataclass(frozen=True)
class FitResult:
    """The stored estimator, its scores for the holdout, and the code that it was fitted with."""

    artifact: Artifact
    scores: np.ndarray
    seconds: float
    ran_on: FitCode


def perform(task: FitTask) -> FitResult:
    """Do the fit in this process. Raises FitError, ArtifactError, PredictionError, and what the train function raises.

    It seeds ``random`` and ``numpy.random`` from the run's seed.
    """
    started = time.perf_counter()
    check_rows(task)
    estimator = _train(task)
    _check_classes(estimator, task)
    scores = np.zeros(0) if task.holdout is None else predict(estimator, task.holdout, task.task)
    stored = artifact.dump(estimator)
    _check_loads(stored, estimator, task)
    return FitResult(stored, scores, time.perf_counter() - started, fit_code(task.fit))


def score(task: ScoreTask) -> np.ndarray:
    """Return the predictions of the rows. Raises ArtifactError and PredictionError."""
    return predict(artifact.load(task.stored, task.trusted), task.frame, task.task)


def try_few_rows(task: FitTask) -> None:
    """Fit a few rows, and load the result as an application would. Raises ArtifactError if it could not be served.

    Another error says nothing about the whole fit, as a few rows may be too few for it: one line is printed.
    """
    label = task.label.to_numpy()
    if task.task.is_classification:
        rows = np.sort(np.concatenate([np.flatnonzero(label == each)[:_TRIED_ROWS] for each in np.unique(label)]))
    else:
        rows = np.arange(min(2 * _TRIED_ROWS, len(label)))
    if len(rows) == len(label):
        return
    try:
        stored = artifact.dump(_train(replace(task, frame=task.frame.iloc[rows], label=task.label.iloc[rows])))
    except ArtifactError:
        raise
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        print(_tried_in_vain(len(rows), len(label), error))  # noqa: T201
        return
    artifact.load(stored.data, task.trusted)


def _tried_in_vain(rows: int, all_rows: int, error: Exception) -> str:
    said = next(iter(str(error).splitlines()), "")
    return (
        f"headrace: the trial before the fit could not fit its {rows} rows ({type(error).__name__}: {said}). That is "
        f"no error if `train` needs more rows. The fit of all {all_rows:,} rows begins"
    )


def check_rows(task: FitTask) -> None:
    """Raise FitError if there is nothing to learn from the rows."""
    if not len(task.label):
        raise FitError("there are no rows to fit on")
    first = task.label.iloc[0]
    if (task.label == first).all():
        only = bool(first) if task.task.name == "binary" else first
        kind = "class" if task.task.is_classification else "value"
        message = (
            f"the label has one {kind} only in the {len(task.label):,} rows to fit on: every label is {only}; "
            "look at the label's condition, its `within` and `missing`, and at excluded spans"
        )
        raise FitError(message)


def _train(task: FitTask) -> Any:
    random.seed(task.run.seed)
    np.random.seed(task.run.seed)  # noqa: NPY002 - for train functions and libraries that use it
    return task.fit(task.frame, task.label, task.run)


def _check_classes(estimator: Any, task: FitTask) -> None:
    method = task.task.method
    several = task.task.name == "quantile" and isinstance(estimator, list | tuple)
    if several and len(estimator) != len(task.task.quantiles):
        message = (
            f"train returned {len(estimator)} estimators; return one for each of the quantiles "
            f"{list(task.task.quantiles)}"
        )
        raise FitError(message)
    for each in estimator if several else [estimator]:
        if not hasattr(each, method):
            message = f"train returned {type(each).__name__}, which has no {method}; return a fitted estimator that has"
            raise FitError(message)
    classes = getattr(estimator, "classes_", None)
    if classes is not None and len(classes) == 1:
        message = (
            f"the label has one class only in the rows that {type(estimator).__name__} was fitted on: {classes[0]}; "
            f"the {len(task.label):,} rows given to train have both: does it drop rows, or change labels?"
        )
        raise FitError(message)


def _check_loads(stored: Artifact, estimator: Any, task: FitTask) -> None:
    """Raise ArtifactError unless an application of this deployment can load the artifact and predicts the same."""
    rows = task.frame.head(_COMPARED_ROWS)
    loaded = artifact.load(stored.data, task.trusted)
    ours, theirs = predict(estimator, rows, task.task), predict(loaded, rows, task.task)
    near = np.isclose(ours, theirs, rtol=task.task.relative_tolerance, atol=_TOLERANCE, equal_nan=True)
    if not near.all():
        row = int(np.argmin(near.reshape(len(rows), -1).all(axis=1)))
        message = (
            f"{type(estimator).__name__} gives other predictions after it was stored and loaded: {theirs[row]!r} "
            f"instead of {ours[row]!r} for row {row} of its training set; keep everything that predictions need in "
            "fitted attributes"
        )
        raise ArtifactError(message)


def describe_run(model: str, request_id: str, seed: int, data: Examples) -> Run:
    """Describe these training rows to the user's train function."""
    return Run(
        model=model,
        request_id=request_id,
        seed=seed,
        trained_from=utc_datetime(int(data.requested_us.min())),
        trained_to=utc_datetime(int(data.requested_us.max())),
    )


def predict(estimator: Any, frame: pd.DataFrame, task: PredictionTask = BINARY) -> np.ndarray:
    """Return the predictions of the rows, in the shape of the task. Raises PredictionError if a row has none."""
    found = row_scores(estimator, frame, task)
    if found.errors:
        row, error = min(found.errors.items())
        message = (
            f"{len(found.errors):,} of {len(frame):,} rows cannot be predicted, the first is row {row}: {error}; train "
            "a pipeline that predicts every row, for example with OneHotEncoder(handle_unknown='ignore')"
        )
        raise PredictionError(message) from error
    return found.scores
