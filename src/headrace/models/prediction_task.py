"""The task of a model: what its label is, and how its estimator's answers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np

TaskName = Literal["binary", "classes", "regression", "quantile"]


class PredictionTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The task, with the ``classes`` or the ``quantiles`` that a prediction has a value for, in order.

    A prediction is one number: the probability of true (``binary``) or an estimate (``regression``). Or it has a value
    for each of the ``outputs``: the probability of each class, or an estimate of each quantile. An array of n
    predictions has the shape (n,) or (n, outputs).
    """

    name: TaskName
    classes: tuple[str | int, ...] = ()
    quantiles: tuple[float, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the values of a prediction that has several: the classes or the quantiles as text."""
        return tuple(map(str, self.classes or self.quantiles))

    @property
    def is_classification(self) -> bool:
        """Whether predictions are probabilities, of true or of the classes."""
        return self.name in {"binary", "classes"}

    @property
    def method(self) -> str:
        """The method of an estimator that predicts."""
        return "predict_proba" if self.is_classification else "predict"

    @property
    def relative_tolerance(self) -> float:
        """By how much equal predictions may differ in their last bits, as a part of them: 0 for probabilities."""
        return 0.0 if self.is_classification else 1e-12

    def shape(self, rows: int) -> tuple[int, ...]:
        """The shape of an array of so many predictions."""
        return (rows, len(self.outputs)) if self.outputs else (rows,)

    def value(self, prediction: Any) -> float:
        """One number for a prediction: its only one, the probability of the likeliest class, the middle quantile."""
        if not self.outputs:
            return float(prediction)
        return float(max(prediction) if self.classes else prediction[len(prediction) // 2])

    def values(self, prediction: Any) -> dict[str | int | float, float]:
        """The values of a prediction by class or by quantile; empty if it is one number."""
        names: tuple[str | int | float, ...] = self.classes or self.quantiles
        return dict(zip(names, map(float, prediction), strict=True)) if names else {}


BINARY = PredictionTask(name="binary")
"""The task of a label that is true or false."""


def read_predictions(estimator: Any, frame: Any, task: PredictionTask) -> np.ndarray:
    """Return what the estimator answers to the rows of a frame, in the task's shape.

    Probabilities come from ``predict_proba``, in the order of the task's classes; a class that the estimator has not
    seen has 0. Estimates come from ``predict``. For quantiles that is one column each, or the estimator is a list with
    one estimator for each; values of a row that cross are put in order. Raises ValueError for another shape, and what
    the estimator raises.
    """
    import numpy as np  # noqa: PLC0415 - an application reads model events without it

    rows = len(frame)
    match task.name:
        case "binary":
            return _table(estimator.predict_proba(frame), (rows, 2), "predict_proba")[:, 1]
        case "classes":
            return _by_class(estimator, frame, task)
        case "regression":
            return _table(estimator.predict(frame), (rows,), "predict")
        case "quantile":
            several = isinstance(estimator, list | tuple)
            found = np.stack([each.predict(frame) for each in estimator], 1) if several else estimator.predict(frame)
            ordered: np.ndarray = np.sort(_table(found, task.shape(rows), "predict"), axis=1)
            return ordered


def _by_class(estimator: Any, frame: Any, task: PredictionTask) -> np.ndarray:
    import numpy as np  # noqa: PLC0415

    seen = np.asarray(getattr(estimator, "classes_", task.classes)).tolist()
    unknown = [each for each in seen if each not in task.classes]
    if unknown:
        raise ValueError(f"the estimator has the classes {seen}, the label has {list(task.classes)}")
    found = _table(estimator.predict_proba(frame), (len(frame), len(seen)), "predict_proba")
    every = np.zeros(task.shape(len(frame)))
    every[:, [task.classes.index(each) for each in seen]] = found
    return every


def _table(found: Any, shape: tuple[int, ...], method: str) -> np.ndarray:
    import numpy as np  # noqa: PLC0415

    table = np.asarray(found, np.float64)
    if table.shape != shape:
        raise ValueError(f"{method} gave an array of shape {table.shape}, wanted {shape}")
    return table
