"""The bounds of a metric, and of the gain of one model over another, from resampled blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headrace.trainers.metrics.jackknife import block_error
from headrace.trainers.metrics.serial_correlation import (
    KnownCorrelation,
    SerialCorrelation,
    contributions,
    serial_correlation,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.trainers.metrics.block_rows import BlockRows, Floats
    from headrace.trainers.metrics.metric import Metric

DRAWS = 2_000
_TAIL = 0.025
_Z = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A point estimate with its two-sided 95 % bounds. The bounds are NaN if the resamples give none.

    ``undefined`` is the number of resamples in which the metric is not defined. ``freedom`` are the degrees of freedom
    of Student's t, if they are not those of the blocks.
    """

    point: float
    low: float
    high: float
    undefined: int = 0
    freedom: float | None = None

    @property
    def is_defined(self) -> bool:
        """Whether the point and both bounds are numbers."""
        return bool(np.isfinite([self.point, self.low, self.high]).all())

    def lower_bound(self, alpha: float, blocks: int) -> float:
        """Return the bound that is too high with the chance ``alpha``. It is ``low`` for 0.025, and -inf for 0."""
        if alpha == _TAIL:
            return self.low
        if alpha <= 0:
            return -np.inf
        freedom = blocks - 1 if self.freedom is None else self.freedom
        return self.point + (self.low - self.point) * t_quantile(alpha, freedom) / t_quantile(_TAIL, freedom)

    def widened(self, factor: float) -> Interval:
        """The interval with both bounds ``factor`` times as far from the point."""
        if factor == 1:
            return self
        low, high = ((bound - self.point) * factor for bound in (self.low, self.high))
        return replace(self, low=self.point + low, high=self.point + high)


@dataclass(frozen=True)
class Gain:
    """The metric of two models on the same rows, and the gain of the challenger: above 0 if it is better.

    ``correlation`` is that of the gain between blocks, if it was measured. The interval is widened for it.
    """

    champion: float
    challenger: float
    interval: Interval
    correlation: SerialCorrelation | None = None


def block_weights(blocks: int, draws: int, seed: int) -> Floats:
    """Return how often each resample draws each block: shape (draws, blocks). Each row has the sum ``blocks``."""
    return np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), draws).astype(np.float64)


def resampled_interval(point: float, draws: Floats, blocks: int) -> Interval:
    """The 95 % bounds from resamples.

    They are widened for few blocks, because the plain percentile interval lacks Student's t and n/(n-1).

    A resample in which the metric is not defined counts as the worst one for each bound: no value that it could have
    would move the bound further out. There are no bounds if so many are not defined that one of these is the bound.
    """
    defined = np.isfinite(draws)
    undefined = int((~defined).sum())
    none = not len(draws) or undefined > int(_TAIL * (len(draws) - 1))
    if blocks < 2 or none or not np.isfinite(point):  # noqa: PLR2004 - one block says nothing of blocks
        return Interval(point, float("nan"), float("nan"), undefined)
    low = float(np.quantile(np.where(defined, draws, -np.inf), _TAIL))
    high = float(np.quantile(np.where(defined, draws, np.inf), 1 - _TAIL))
    widening = float(_t(blocks - 1) / _Z * np.sqrt(blocks / (blocks - 1)))
    return Interval(point, point + (low - point) * widening, point + (high - point) * widening, undefined)


def metric_interval(rows: BlockRows, metric: Metric, *, seed: int, draws: int = DRAWS) -> Interval:
    """The metric of one model with its bounds, from what each block contributes."""
    found, blocks = metric.statistic(rows), len(rows.blocks)
    resampled = resampled_interval(found.point, found.value(block_weights(blocks, draws, seed)), blocks)
    if not resampled.is_defined:
        return resampled
    by_logarithm = _by_logarithm(resampled, found.value, blocks) if metric.logarithmic else None
    return by_logarithm or _by_contributions(resampled, contributions(found.value, blocks), found.excess)


def _by_logarithm(resampled: Interval, value: Callable[[Floats], Floats], blocks: int) -> Interval | None:
    """Return the bounds from what each block adds to the logarithm; None if one block has all of the number."""
    without = value(np.ones((1, blocks)) - np.eye(blocks))
    if not (resampled.point > 0 and (without > 0).all()):
        return None
    found = block_error(np.log(resampled.point) - np.log(without))
    factor = float(np.exp(t_quantile(_TAIL, found.freedom) * found.error))
    low, high = resampled.point / factor, resampled.point * factor
    return replace(resampled, low=low, high=high, freedom=found.freedom)


def gain_interval(
    champion: BlockRows,
    challenger: BlockRows,
    metric: Metric,
    *,
    seed: int,
    draws: int = DRAWS,
    correlated: bool = False,
    known: KnownCorrelation | None = None,
) -> Gain:
    """Return the gain of the challenger over the champion, on the same rows and the same resampled blocks.

    The gain is above 0 if the challenger is better, also for a loss. Its bounds are percentiles of the resamples, or
    they are from what each block contributes, as the metric says. ``correlated``: blocks may tell of the next ones, so
    this is measured and the interval is widened for it. ``known`` is what earlier looks have measured; it is given if
    the chance of a false pass must be far below 2.5 %.
    """
    theirs, ours, blocks = metric.statistic(champion), metric.statistic(challenger), len(champion.blocks)
    sign = 1.0 if metric.higher_is_better else -1.0

    def gain(weights: Floats) -> Floats:
        return sign * (ours.value(weights) - theirs.value(weights))

    drawn = gain(block_weights(blocks, draws, seed))
    found = resampled_interval(sign * (ours.point - theirs.point), drawn, blocks)
    by_contributions = found.is_defined and not metric.percentiles
    if not (correlated or by_contributions):
        return Gain(theirs.point, ours.point, found)
    added = contributions(gain, blocks)
    if by_contributions:
        found = _by_contributions(found, added, sign * (ours.excess - theirs.excess))
    if not correlated:
        return Gain(theirs.point, ours.point, found)
    correlation = serial_correlation(added, known)
    return Gain(theirs.point, ours.point, _widened(found, correlation, blocks), correlation)


def _by_contributions(resampled: Interval, added: Floats, excess: float) -> Interval:
    """Return the bounds from what each block adds.

    Towards the side of its ``excess``, which may be below 0 for a gain, they reach from the point without the excess.
    Towards the other side they reach from the point without half of it: how much of the point is noise is itself a
    guess. They are no narrower than the resamples' if some of these are not defined.
    """
    found, point = block_error(added), resampled.point
    half = t_quantile(_TAIL, found.freedom) * found.error
    without, between = point - excess, point - excess / 2
    low, high = min(without, between) - half, max(without, between) + half
    low, high = min(low, point), max(high, point)
    if resampled.undefined:
        low, high = min(low, resampled.low), max(high, resampled.high)
    return replace(resampled, low=low, high=high, freedom=found.freedom)


def _widened(found: Interval, correlation: SerialCorrelation, blocks: int) -> Interval:
    """Return the interval as wide as the correlation wants it, with the fewer degrees of freedom."""
    if correlation.freedom is None:
        return found.widened(correlation.widening)
    usual = blocks - 1 if found.freedom is None else found.freedom
    freedom = min(usual, correlation.freedom)
    factor = t_quantile(_TAIL, freedom) / t_quantile(_TAIL, usual)
    return replace(found.widened(correlation.widening * factor), freedom=freedom)


def _t(freedom: int) -> float:
    """The 97.5 % point of Student's t, expanded about the normal's: exact to 0.002 from 8 degrees of freedom on."""
    z = _Z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def t_quantile(tail: float, freedom: float) -> float:
    """Return the value that Student's t exceeds with the chance ``tail``."""
    from scipy.special import stdtrit  # noqa: PLC0415 - an application that reads definitions does not need it

    return -float(stdtrit(freedom, tail))
