"""The expected cost of decisions: what it costs on average to act by the predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.errors import DefinitionError
from headrace.trainers.metrics.sum_metrics import SumMetric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.models.prediction_task import TaskName
    from headrace.trainers.metrics.block_rows import BlockRows, Floats

_TWO = 2


def expected_cost(costs: Sequence[Sequence[float]]) -> SumMetric:
    """The mean cost of a row if each decision is the cheapest one by the predicted probabilities.

    ``costs[truth][decision]`` is the cost of a decision where the truth is this class. For a label that is true or
    false, class 0 is false. Of two decisions that cost the same the first is taken.

    >>> from headrace import Gate, expected_cost
    >>> fraud = expected_cost([[0, 1], [25, 2]])  # a block costs 1 if it was wrong, a fraud 25 if nobody blocked it
    >>> Gate(fraud).spec.metric
    'expected_cost([[0, 1], [25, 2]])'
    """
    matrix = _checked(costs)

    def parts(rows: BlockRows) -> list[Floats | float]:
        chances = rows.prediction if rows.prediction.ndim > 1 else np.stack([1 - rows.prediction, rows.prediction], 1)
        return [matrix[rows.truth.astype(np.int64), (chances @ matrix).argmin(axis=1)], 1.0]

    text = ", ".join(f"[{', '.join(f'{cost:.12g}' for cost in line)}]" for line in matrix)
    tasks: tuple[TaskName, ...] = ("binary", "classes") if len(matrix) == _TWO else ("classes",)
    return SumMetric(f"expected_cost([{text}])", tasks, parts, lambda total, rows: total / rows, classes=len(matrix))


def _checked(costs: Sequence[Sequence[float]]) -> Floats:
    try:
        matrix = np.array(costs, np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.ndim != _TWO or len(matrix) < _TWO or len(set(matrix.shape)) > 1 or not np.isfinite(matrix).all():
        message = (
            f"expected_cost: {costs!r} is no square table of numbers; write a line for each class of the truth and a "
            "cost for each decision, such as [[0, 1], [25, 2]]"
        )
        raise DefinitionError(message)
    return matrix
