"""Compares a refit with the fit that passed the gate, on the newest rows, before the refit is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import FitError
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import metric_interval
from headrace.trainers.metrics.named_metrics import metric_named
from headrace.trainers.runs.gate import ALWAYS_SHOWN

if TYPE_CHECKING:
    import numpy as np

    from headrace.trainers.metrics.intervals import Interval
    from headrace.trainers.runs.holdout import HoldoutSplit


def check_refit(split: HoldoutSplit, passed: np.ndarray, refit: np.ndarray, *, seed: int) -> None:
    """Raise FitError if the refit is worse than the fit that passed by more than the width of its 95 % interval.

    Both are given by their predictions of the holdout. The refit has seen these rows, and the fit that passed has not.
    So a refit of the same recipe is hardly worse on them, by any metric that every report of the task has.
    """
    held = split.holdout
    ours, theirs = (
        BlockRows(split.blocks, held.label, scores, quantiles=held.task.quantiles) for scores in (passed, refit)
    )
    for metric in map(metric_named, ALWAYS_SHOWN[held.task.name]):
        found, value = metric_interval(ours, metric, seed=seed), metric.statistic(theirs).point
        lost = (found.point - value) * (1 if metric.higher_is_better else -1)
        if found.is_defined and not lost <= found.high - found.low:
            raise FitError(_unlike(metric.name, value, found))


def _unlike(metric: str, value: float, found: Interval) -> str:
    return (
        f"the refit on all rows is unlike the fit that passed the gate: on the holdout its {metric} is {value:.4f}, "
        f"that of the fit that passed is {found.point:.4f} [{found.low:.4f}, {found.high:.4f}], although only the "
        "refit has seen these rows; look for what train does otherwise with more rows, such as a sample, an early "
        "stop, or a limit of time"
    )
