"""A metric that the user brings as a function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import DefinitionError
from headrace.trainers.metrics.metric import Metric, Statistic

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.models.prediction_task import TaskName
    from headrace.trainers.metrics.block_rows import BlockRows, Floats

    MetricFunction = Callable[[Any, Any], float]


@dataclass(frozen=True)
class OwnMetric(Metric):
    """A function of truths and predictions, with its direction. The rows of a block are resampled together."""

    name: str
    function: MetricFunction
    higher_is_better: bool
    tasks: tuple[TaskName, ...] = ("binary", "classes", "regression", "quantile")

    def statistic(self, rows: BlockRows) -> Statistic:
        """Return the metric of the rows."""
        return ResampledRows(rows, self)


class ResampledRows(Statistic):
    """A function of the rows themselves. A block with the weight 2 gives each of its rows twice."""

    def __init__(self, rows: BlockRows, metric: OwnMetric) -> None:
        if not (rows.weight == 1).all():
            raise ValueError("a metric of one's own knows no sample weights: give each row the weight 1")
        super().__init__(len(rows.blocks))
        self._rows, self._metric = rows, metric
        whole = rows.truth.dtype.kind in "biu"  # a sum or a product of the bytes that labels are kept in would overflow
        self._truth = rows.truth.astype(np.int64) if whole else rows.truth

    def value(self, weights: Floats) -> Floats:
        """Return what the function says of the rows of each draw. The weights are whole numbers."""
        return np.array([self._of(each) for each in weights], np.float64)

    def _of(self, weights: Floats) -> float:
        chosen = np.repeat(np.arange(len(self._truth)), weights[self._rows.index].astype(np.int64))
        try:
            return float(self._metric.function(self._truth[chosen], self._rows.prediction[chosen]))
        except Exception as error:
            message = (
                f"own_metric {self._metric.name!r} raised {type(error).__name__}: {error}, for {len(chosen):,} truths "
                "and predictions; let it return a number, and NaN where it is not defined"
            )
            raise DefinitionError(message) from error


def own_metric(function: MetricFunction, *, higher_is_better: bool, name: str | None = None) -> OwnMetric:
    """A metric of your own: ``function(truth, prediction)`` gets two arrays and returns a number.

    It is called for each resample, about 6,000 times a run, so it should take milliseconds. It returns NaN where it is
    not defined: a run is postponed if that is so in 2.5 % of the resamples. A run fails before its fit if it raises.

    >>> from headrace import Gate, own_metric
    >>> def top_tenth(truth, prediction):
    ...     return truth[prediction.argsort()[-len(truth) // 10 :]].mean()
    >>> Gate(own_metric(top_tenth, higher_is_better=True)).spec.metric
    'top_tenth'
    """
    given: object = function
    found = getattr(function, "__name__", "") if name is None else name
    if not callable(given) or not found.isidentifier():
        message = (
            f"own_metric: {function!r} with the name {found!r}; give a function of truth and prediction, "
            "and name='…' if it has no name of its own"
        )
        raise DefinitionError(message)
    return OwnMetric(found, function, higher_is_better)
