"""The area under the ROC curve: the share of (positive, negative) pairs that the score ranks rightly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headrace.trainers.metrics.metric import Metric, Statistic

if TYPE_CHECKING:
    from headrace.models.prediction_task import TaskName
    from headrace.trainers.metrics.block_rows import BlockRows, Floats


@dataclass(frozen=True)
class AreaUnderCurve(Metric):
    """scikit-learn's ``roc_auc_score`` for two classes. A tie counts half. It is NaN if a class is absent."""

    name: str = "auc"
    tasks: tuple[TaskName, ...] = ("binary",)
    higher_is_better: bool = True
    percentiles: bool = True

    def statistic(self, rows: BlockRows) -> Statistic:
        """Return the AUC of the rows."""
        return WonPairs(rows)

    def mass(self, rows: BlockRows) -> Floats:
        """Return the number of pairs within each block."""
        return rows.sums(rows.positive) * rows.sums(~rows.positive)


class WonPairs(Statistic):
    """The AUC under block weights. It is exact, by the matrix of won pairs between blocks."""

    def __init__(self, rows: BlockRows) -> None:
        super().__init__(len(rows.blocks))
        self._positives, self._negatives = rows.sums(rows.positive), rows.sums(~rows.positive)
        self._won = won_pairs(rows)

    def value(self, weights: Floats) -> Floats:
        """Return the share of won pairs for each row of block weights."""
        with np.errstate(invalid="ignore", divide="ignore"):
            pairs: Floats = (weights @ self._positives) * (weights @ self._negatives)
            won: Floats = np.einsum("bi,bi->b", weights @ self._won, weights)
            return won / pairs


def won_pairs(rows: BlockRows) -> Floats:
    """Return ``won[i, j]``: pairs (positive of block i, negative of block j) that are ranked rightly; a tie is half."""
    order = np.argsort(rows.prediction[rows.positive], kind="stable")
    scores, weights = rows.prediction[rows.positive][order], rows.weight[rows.positive][order]
    owners = rows.index[rows.positive][order]
    columns: list[Floats] = [
        np.bincount(owners, weights * (_weight_below(rows, block, scores) / 2), len(rows.blocks)).astype(np.float64)
        for block in range(len(rows.blocks))
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def _weight_below(rows: BlockRows, block: int, scores: Floats) -> Floats:
    """Return twice the weight of the block's negatives below each score; a negative with the same score counts once."""
    chosen = (rows.index == block) & ~rows.positive
    order = np.argsort(rows.prediction[chosen], kind="stable")
    negatives = rows.prediction[chosen][order]
    until = np.concatenate([[0.0], np.cumsum(rows.weight[chosen][order])])
    below: Floats = (
        until[np.searchsorted(negatives, scores, "left")] + until[np.searchsorted(negatives, scores, "right")]
    )
    return below
