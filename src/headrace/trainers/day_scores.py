"""Metrics of a binary score with their bounds. Whole days are resampled, because rows of one day share their fate.

The metrics under day weights are exact: AUC by a matrix of won pairs between days, log-loss by sums of days.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

Metric = Literal["auc", "logloss"]
METRICS: tuple[Metric, ...] = get_args(Metric)
DRAWS = 2_000
_TAIL = 0.025
_EPS = 1e-15
_Z = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A point estimate with its two-sided 95 % bounds. All three are NaN if there is nothing to estimate."""

    point: float
    low: float
    high: float


def higher_is_better(metric: Metric) -> bool:
    """Return whether a larger value of the metric is better than a smaller one."""
    return metric == "auc"


class DayScores:
    """The scores of one model by day. ``day`` is any integer index, ``label`` is 0 or 1, ``score`` a probability.

    Raises ValueError if the arrays differ in length or if a score is not a number: leave such rows out.
    """

    def __init__(self, day: ArrayLike, label: ArrayLike, score: ArrayLike) -> None:
        if not np.size(day) == np.size(label) == np.size(score):
            raise ValueError(
                f"{np.size(day)} days, {np.size(label)} labels, {np.size(score)} scores: one of each a row"
            )
        if not np.isfinite(np.asarray(score, np.float64)).all():
            raise ValueError("a score is NaN or infinite: compare rows that both models scored")
        self.days, index = np.unique(np.asarray(day), return_inverse=True)
        self._label = np.asarray(label).astype(bool)
        self._score = np.asarray(score, np.float64)
        self._index = index.astype(np.int64)

    @property
    def rows(self) -> Floats:
        """The number of rows a day."""
        return np.bincount(self._index, minlength=len(self.days)).astype(np.float64)

    @cached_property
    def positives(self) -> Floats:
        """The number of positive rows a day."""
        return np.bincount(self._index[self._label], minlength=len(self.days)).astype(np.float64)

    @cached_property
    def negatives(self) -> Floats:
        """The number of negative rows a day."""
        return self.rows - self.positives

    @cached_property
    def won(self) -> Floats:
        """``won[i, j]``: pairs (positive of day i, negative of day j) that are ranked rightly; a tie counts half."""
        order = np.argsort(self._score[self._label], kind="stable")
        scores, owners = self._score[self._label][order], self._index[self._label][order]
        columns = []
        for day in range(len(self.days)):
            negatives = np.sort(self._score[(self._index == day) & ~self._label])
            below = np.searchsorted(negatives, scores, "left") + np.searchsorted(negatives, scores, "right")
            columns.append(np.bincount(owners, below / 2, len(self.days)))
        return np.stack(columns, axis=1) if columns else np.zeros((0, 0))

    @cached_property
    def losses(self) -> Floats:
        """The summed log-loss a day."""
        chance = np.clip(self._score, _EPS, 1 - _EPS)
        rows = -np.log(np.where(self._label, chance, 1 - chance))
        return np.bincount(self._index, rows, len(self.days)).astype(np.float64)

    def value(self, metric: Metric, weights: Floats) -> Floats:
        """The metric under each row of day weights, shape (draws, days). NaN if a class is absent."""
        with np.errstate(invalid="ignore", divide="ignore"):
            if metric == "logloss":
                return (weights @ self.losses) / (weights @ self.rows)
            pairs: Floats = (weights @ self.positives) * (weights @ self.negatives)
            won: Floats = np.einsum("bi,bi->b", weights @ self.won, weights)
            return won / pairs

    def point(self, metric: Metric) -> float:
        """The metric over all rows."""
        return float(self.value(metric, np.ones((1, len(self.days))))[0])


def auc(label: ArrayLike, score: ArrayLike) -> float:
    """The share of (positive, negative) pairs that the score ranks rightly.

    A tie counts half. The result is NaN if a class is absent.

    >>> from headrace.trainers.day_scores import auc
    >>> auc([0, 1, 1], [0.2, 0.1, 0.9])
    0.5
    """
    return DayScores(np.zeros(np.size(label), np.int64), label, score).point("auc")


def logloss(label: ArrayLike, score: ArrayLike) -> float:
    """The mean negative log-likelihood in nats. Scores are clipped to stay 1e-15 away from 0 and 1."""
    return DayScores(np.zeros(np.size(label), np.int64), label, score).point("logloss")


def auc_within_day(day: ArrayLike, label: ArrayLike, score: ArrayLike) -> float:
    """The AUC over pairs of the same day only: the ranking that is left without the levels of the days."""
    scores = DayScores(day, label, score)
    pairs = float(scores.positives @ scores.negatives)
    return float(np.trace(scores.won)) / pairs if pairs else float("nan")


def day_weights(days: int, draws: int, seed: int) -> Floats:
    """Return how often each resample draws each day: shape (draws, days). Each row has the sum ``days``."""
    return np.random.default_rng(seed).multinomial(days, np.full(days, 1 / days), draws).astype(np.float64)


def resampled_interval(point: float, draws: Floats, days: int) -> Interval:
    """The 95 % bounds from resamples.

    They are widened for few days, because the plain percentile interval lacks Student's t and n/(n-1).
    """
    draws = draws[np.isfinite(draws)]
    if days < 2 or not len(draws) or not np.isfinite(point):  # noqa: PLR2004 - one day says nothing of days
        return Interval(point, float("nan"), float("nan"))
    low, high = np.quantile(draws, [_TAIL, 1 - _TAIL]).tolist()
    widening = float(_t(days - 1) / _Z * np.sqrt(days / (days - 1)))
    return Interval(point, point + (low - point) * widening, point + (high - point) * widening)


def metric_interval(scores: DayScores, metric: Metric, *, seed: int, draws: int = DRAWS) -> Interval:
    """The metric of one model with its bounds."""
    days = len(scores.days)
    return resampled_interval(scores.point(metric), scores.value(metric, day_weights(days, draws, seed)), days)


def gain_interval(
    champion: DayScores, challenger: DayScores, metric: Metric, *, seed: int, draws: int = DRAWS
) -> Interval:
    """Return the gain of the challenger over the champion, on the same rows and the same resampled days.

    The gain is above 0 if the challenger is better, also for log-loss.
    """
    sign = 1.0 if higher_is_better(metric) else -1.0
    days = len(champion.days)
    weights = day_weights(days, draws, seed)
    differences = sign * (challenger.value(metric, weights) - champion.value(metric, weights))
    return resampled_interval(sign * (challenger.point(metric) - champion.point(metric)), differences, days)


def _t(freedom: int) -> float:
    """The 97.5 % point of Student's t, expanded about the normal's: exact to 0.002 from 8 degrees of freedom on."""
    z = _Z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
