"""The mean of a metric within blocks: what is left of it without the differences between blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headrace.trainers.metrics.metric import Metric
from headrace.trainers.metrics.sum_metrics import Sums

if TYPE_CHECKING:
    from headrace.models.prediction_task import TaskName
    from headrace.trainers.metrics.block_rows import BlockRows
    from headrace.trainers.metrics.metric import Statistic


@dataclass(frozen=True)
class WithinBlock(Metric):
    """The mean over blocks of the metric ``inner`` within each. A block in which it is not defined is left out.

    A block counts by its rows, for AUC by its pairs.
    """

    inner: Metric

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the inner metric, in ``within_block(…)``."""
        return f"within_block({self.inner.name})"

    @property
    def tasks(self) -> tuple[TaskName, ...]:  # type: ignore[override]
        """The tasks of the inner metric."""
        return self.inner.tasks

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """The direction of the inner metric."""
        return self.inner.higher_is_better

    @property
    def classes(self) -> int | None:  # type: ignore[override]
        """The number of classes that the inner metric is for."""
        return self.inner.classes

    def statistic(self, rows: BlockRows) -> Statistic:
        """Return the mean within the blocks of the rows."""
        values, mass = self.inner.statistic(rows).value(np.eye(len(rows.blocks))), self.inner.mass(rows)
        defined = np.isfinite(values)
        sums = [np.where(defined, values * mass, 0.0), np.where(defined, mass, 0.0)]
        return Sums(sums, lambda total, counted: total / counted, len(rows.blocks))
