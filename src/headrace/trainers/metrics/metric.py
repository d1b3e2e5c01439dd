"""The port of a metric: how it is computed from rows, and how it changes with the weights of their blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from headrace.models.prediction_task import TaskName
    from headrace.trainers.metrics.block_rows import BlockRows, Floats


class Statistic(ABC):
    """A metric of one model's rows, for any weights of the ``blocks`` that they are in."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks

    @abstractmethod
    def value(self, weights: Floats) -> Floats:
        """Return the metric for each row of block weights, of the shape (draws, blocks).

        It is NaN where the metric is not defined.
        """

    @property
    def point(self) -> float:
        """The metric over all rows."""
        return float(self.value(np.ones((1, self.blocks)))[0])

    @property
    def excess(self) -> float:
        """How much of the point is noise, for an error that noise only makes larger. It needs two blocks."""
        return 0.0


class Metric(ABC):
    """A number that says how good predictions are, for one task or several. Its name identifies it.

    ``classes`` is the number of classes that it is for, or None if that does not matter. ``percentiles`` says that the
    bounds of a gain are percentiles of the resamples, and not from what each block contributes. ``logarithmic`` says
    that the bounds of one model are those of the logarithm.
    """

    name: str
    tasks: tuple[TaskName, ...]
    higher_is_better: bool
    classes: int | None = None
    percentiles: bool = False
    logarithmic: bool = False

    @abstractmethod
    def statistic(self, rows: BlockRows) -> Statistic:
        """Return the metric of these rows."""

    def mass(self, rows: BlockRows) -> Floats:
        """Return by how much each block counts in the mean over the metric's values within blocks: by its rows."""
        return rows.sums()
