"""The metrics that are functions of sums over rows. Such a metric is exact under any weights of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from headrace.trainers.metrics.metric import Metric, Statistic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from headrace.models.prediction_task import TaskName
    from headrace.trainers.metrics.block_rows import BlockRows, Floats

_CLIP = 1e-15
_BINS = 10
_SMALLEST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class SumMetric(Metric):
    """A metric that is a function ``of`` sums. ``parts`` returns for each sum a value a row, or one for all rows.

    ``excess`` says from the sums of each block how much of the metric is noise.
    """

    name: str
    tasks: tuple[TaskName, ...]
    parts: Callable[[BlockRows], Sequence[Floats | float]] = field(compare=False, repr=False)
    of: Callable[..., Floats] = field(compare=False, repr=False)
    higher_is_better: bool = False
    classes: int | None = None
    percentiles: bool = False
    logarithmic: bool = False
    excess: Callable[..., float] | None = field(default=None, compare=False, repr=False)

    def statistic(self, rows: BlockRows) -> Statistic:
        """Return the metric of the rows."""
        return Sums([rows.sums(part) for part in self.parts(rows)], self.of, len(rows.blocks), self.excess)


class Sums(Statistic):
    """A function of sums by block."""

    def __init__(
        self,
        sums: Sequence[Floats],
        of: Callable[..., Floats],
        blocks: int,
        excess: Callable[..., float] | None = None,
    ) -> None:
        super().__init__(blocks)
        self._sums, self._of, self._excess = sums, of, excess

    def value(self, weights: Floats) -> Floats:
        """Return the function of the weighted sums for each row of block weights."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._of(*(weights @ each for each in self._sums))

    @property
    def excess(self) -> float:
        """How much of the point is noise, as the metric says."""
        return 0.0 if self._excess is None else self._excess(*self._sums)


def _mean(total: Floats, rows: Floats) -> Floats:
    return total / rows


def _root(total: Floats, rows: Floats) -> Floats:
    root: Floats = np.sqrt(total / rows)
    return root


def _losses(rows: BlockRows) -> Floats:
    if rows.prediction.ndim > 1:
        chance = rows.prediction[np.arange(len(rows.truth)), rows.truth.astype(np.int64)]
        return -np.log(np.clip(chance, _CLIP, 1 - _CLIP))
    chance = np.clip(rows.prediction, _CLIP, 1 - _CLIP)
    losses: Floats = -np.log(np.where(rows.positive, chance, 1 - chance))
    return losses


def _decided(rows: BlockRows) -> NDArray[np.int64]:
    """The class that a model would name: the most probable one, for a score 1 if it is above 0.5."""
    return rows.prediction.argmax(axis=1) if rows.prediction.ndim > 1 else (rows.prediction > 0.5).astype(np.int64)  # noqa: PLR2004


def _f1_parts(rows: BlockRows) -> list[Floats]:
    named = _decided(rows) == 1
    return [(named & rows.positive).astype(np.float64), (named != rows.positive).astype(np.float64)]


def _f1(right: Floats, wrong: Floats) -> Floats:
    return 2 * right / (2 * right + wrong)


def _calibration_parts(rows: BlockRows) -> list[Floats | float]:
    found = np.searchsorted(np.linspace(0, 1, _BINS + 1)[1:-1], rows.prediction)
    error = rows.number - rows.prediction
    return [1.0, *(np.where(found == each, error, 0.0) for each in range(_BINS))]


def _calibration_error(rows: Floats, *errors: Floats) -> Floats:
    total: Floats = np.abs(np.stack(errors)).sum(axis=0)
    return total / rows


def _calibration_excess(rows: Floats, *errors: Floats) -> float:
    """Return the part of the error that noise would make alone: bins whose true error is 0 have one that is not."""
    of_bins = np.stack(errors)
    blocks, total = of_bins.shape[1], of_bins.sum(axis=1)
    noise = blocks / (blocks - 1) * float(((of_bins - of_bins.mean(axis=1, keepdims=True)) ** 2).sum())
    squares = float(total @ total)
    kept = np.sqrt(max(1 - noise / squares, 0.0)) if squares > 0 else 1.0
    return float((1 - kept) * np.abs(total).sum() / rows.sum())


def _macro_parts(rows: BlockRows) -> list[Floats]:
    losses, classes = _losses(rows), range(rows.prediction.shape[1])
    of_class = [(rows.truth == each).astype(np.float64) for each in classes]
    return [*(losses * own for own in of_class), *of_class]


def _macro(*sums: Floats) -> Floats:
    """Return the mean over the classes that have rows."""
    losses, rows = np.split(np.stack(sums), 2)
    present = rows > 0
    means = np.divide(losses, rows, out=np.zeros_like(losses), where=present)
    result: Floats = means.sum(axis=0) / present.sum(axis=0)
    return result


def _error(rows: BlockRows) -> Floats:
    return rows.number - rows.prediction


def _r2_parts(rows: BlockRows) -> list[Floats | float]:
    weights = rows.weight if rows.weight.any() else None
    centred = rows.number - np.average(rows.number, weights=weights)  # about 0, so that squares lose no digits
    return [_error(rows) ** 2, centred**2, centred, 1.0]


def _r2(squares: Floats, own: Floats, total: Floats, rows: Floats) -> Floats:
    return 1 - squares / (own - total**2 / rows)


def _pinball_parts(rows: BlockRows) -> list[Floats | float]:
    """Return the mean over the quantiles that the rows have predictions of."""
    error = rows.number[:, None] - rows.prediction.reshape(len(rows.number), -1)
    levels = np.array(rows.quantiles)
    return [np.where(error >= 0, levels * error, (levels - 1) * error).mean(axis=1), 1.0]


SUM_METRICS = (
    SumMetric("logloss", ("binary", "classes"), lambda rows: [_losses(rows), 1.0], _mean, percentiles=True),
    SumMetric("brier_score_loss", ("binary",), lambda rows: [_error(rows) ** 2, 1.0], _mean),
    SumMetric(
        "accuracy_score",
        ("binary", "classes"),
        lambda rows: [_decided(rows) == rows.number, 1.0],
        _mean,
        True,  # noqa: FBT003
    ),
    SumMetric("f1_score", ("binary",), _f1_parts, _f1, True),  # noqa: FBT003
    SumMetric(
        "expected_calibration_error", ("binary",), _calibration_parts, _calibration_error, excess=_calibration_excess
    ),
    SumMetric("macro_log_loss", ("classes",), _macro_parts, _macro),
    SumMetric("mean_absolute_error", ("regression",), lambda rows: [np.abs(_error(rows)), 1.0], _mean),
    SumMetric(
        "root_mean_squared_error", ("regression",), lambda rows: [_error(rows) ** 2, 1.0], _root, logarithmic=True
    ),
    SumMetric(
        "mean_absolute_percentage_error",
        ("regression",),
        lambda rows: [np.abs(_error(rows)) / np.maximum(np.abs(rows.number), _SMALLEST), 1.0],
        _mean,
    ),
    SumMetric("r2_score", ("regression",), _r2_parts, _r2, True),  # noqa: FBT003
    SumMetric("mean_pinball_loss", ("quantile",), _pinball_parts, _mean),
)
"""All of them but those that have parameters, which functions make. The quantiles of a pinball loss are the rows'."""
