"""The values of labels: from the label's event to the truth that metrics take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.features.definitions.decimals import in_doubles
from headrace.features.kernel.expression_polars import to_polars

if TYPE_CHECKING:
    from headrace.models.prediction_task import PredictionTask
    from headrace.trainers.definitions import Label

_TRUTHS = {"binary": np.int8, "classes": np.int16, "regression": np.float64, "quantile": np.float64}


def label_value(label: Label) -> pl.Expr:
    """Return the value of a label's event. It is null, so no label, if it is not finite or none of the classes."""
    value, task = to_polars(in_doubles(label.value.tree, label.stream.spec.kinds)), label.predicts
    if task.name == "binary":
        return value
    if task.classes and not label.limits:
        return pl.when(value.is_in(list(task.classes))).then(value)
    number = value.cast(pl.Float64)
    if label.limits:
        above = pl.sum_horizontal([(number > limit).cast(pl.Int16) for limit in label.limits])
        found = above.replace_strict(range(len(task.classes)), list(task.classes))
        return pl.when(number.is_finite()).then(found)
    return pl.when(number.is_finite()).then(number)


def truths(labels: pl.Series, task: PredictionTask) -> np.ndarray:
    """Return labels as truths: 0 or 1, the place of the class among the task's, or a number. None of them is null."""
    found = labels
    if task.classes:
        found = labels.replace_strict(list(task.classes), range(len(task.classes)), return_dtype=pl.Int16)
    truth: np.ndarray = found.to_numpy().astype(_TRUTHS[task.name])
    return truth


def label_values(truth: np.ndarray, task: PredictionTask) -> np.ndarray:
    """Return the labels of truths, as a train function gets them: of classes their values."""
    return np.array(task.classes)[truth] if task.classes else truth


def prediction_of(task: PredictionTask) -> pl.Expr:
    """Return the logged predictions of a task as the column ``score``; null for the predictions of another task.

    It is a number, or a list of the values by class or quantile.
    """
    if task.name == "binary":
        return pl.col("score")
    names = pl.lit(list(task.outputs), dtype=pl.List(pl.String)) if task.outputs else pl.lit(None)
    is_own = pl.col("outputs").eq_missing(names) & pl.col("values").is_not_null()
    own = pl.when(is_own).then(pl.col("values"))
    return (own if task.outputs else own.list.first()).alias("score")


def prediction_array(scores: pl.Series, task: PredictionTask) -> np.ndarray:
    """Return a column of :func:`prediction_of` as an array of the task's shape."""
    if not task.outputs:
        return scores.to_numpy()
    return scores.list.to_array(len(task.outputs)).to_numpy().reshape(task.shape(len(scores)))
