"""The metrics by name, and the value of one for some rows.

The names are those of scikit-learn's functions. ``auc`` is its ``roc_auc_score`` and ``logloss`` its ``log_loss``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.errors import DefinitionError
from headrace.trainers.metrics.auc import AreaUnderCurve
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.metric import Metric
from headrace.trainers.metrics.sum_metrics import SUM_METRICS
from headrace.trainers.metrics.within_block import WithinBlock

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from headrace.models.prediction_task import TaskName

_WITHOUT_PARAMETERS: tuple[Metric, ...] = (AreaUnderCurve(), *SUM_METRICS)
METRICS = {metric.name: metric for metric in _WITHOUT_PARAMETERS}
_ALIASES = {
    "roc_auc_score": "auc", "log_loss": "logloss", "rmse": "root_mean_squared_error", "mae": "mean_absolute_error",
}  # fmt: skip
_MADE = "within_block(…), expected_cost(…), own_metric(…)"


def metric_named(metric: str | Metric) -> Metric:
    """Return the metric with this name; a metric itself stays what it is. Raises KeyError for an unknown name."""
    return metric if isinstance(metric, Metric) else METRICS[_ALIASES.get(metric, metric)]


def metric_for(where: str, metric: str | Metric, task: TaskName | None = None) -> Metric:
    """Return the metric if it is one for the task, or else raise DefinitionError, which begins with ``where``.

    None: for any task.
    """
    fitting = [name for name, each in METRICS.items() if task is None or task in each.tasks]
    try:
        found = metric_named(metric)
    except (KeyError, TypeError):
        message = f"{where}: metric={metric!r}; choose one of {fitting}, or make one with {_MADE}"
        raise DefinitionError(message) from None
    if METRICS.get(found.name, found) != found:
        raise DefinitionError(f"{where}: a metric of your own has the name {found.name!r} of another: give name='…'")
    if task is not None and task not in found.tasks:
        message = (
            f"{where}: metric={found.name!r} is for {' and '.join(found.tasks)}, and the task is {task}; "
            f"choose one of {fitting}, or make one with {_MADE}"
        )
        raise DefinitionError(message)
    return found


def within_block(metric: str | Metric) -> WithinBlock:
    """The mean of a metric within blocks, by default days. The levels of the days count for nothing.

    A pooled AUC also rewards a model that tells good days from bad ones. Within days only the order of the requests of
    one day counts. A day counts by its rows, for AUC by its pairs of a positive and a negative.

    >>> from headrace import Gate, within_block
    >>> Gate(within_block("auc")).spec.metric
    'within_block(auc)'
    """
    try:
        return WithinBlock(metric_named(metric))
    except (KeyError, TypeError):
        message = f"within_block: {metric!r} is no metric; choose one of {[*METRICS]}"
        raise DefinitionError(message) from None


def metric_value(
    metric: str | Metric, truth: ArrayLike, prediction: ArrayLike, *, block: ArrayLike | None = None
) -> float:
    """The metric of some rows. ``block`` matters to a metric within blocks only.

    >>> from headrace.trainers.metrics.named_metrics import metric_value
    >>> metric_value("auc", [0, 1, 1], [0.2, 0.1, 0.9])
    0.5
    """
    blocks = np.zeros(np.size(truth), np.int64) if block is None else block
    return metric_named(metric).statistic(BlockRows(blocks, truth, prediction)).point
