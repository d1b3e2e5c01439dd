"""The range in which the mean of the newest days lies, if these are like the days before.

The unit is the day, as for drift: rows of one day share their fate. How far days differ is measured on all compared
days, so one or two bad days among good ones are not out of range. What one day tells of the next is measured on the
days before, and widens the range; so do fewer rows a day than before. Means of weekdays may differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headrace.trainers.metrics.intervals import t_quantile
from headrace.trainers.metrics.serial_correlation import NOTHING_KNOWN, serial_correlation
from headrace.trainers.triggers.compared_days import (
    SAMPLES_IN_REFERENCE,
    WEEK,
    ComparedDays,
    alike_weights,
    day_weights,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headrace.trainers.metrics.block_rows import Floats

_ROUNDING = 1e-9
_TILTS = np.concatenate([[0.0], np.geomspace(0.05, 50, 48)])
_BEYOND = 1.25
"""Where all days that stick out could be drawn too easily, the bound is so many times what they add up to."""


@dataclass(frozen=True)
class DailySums:
    """What the rows of each day add up to: ``total`` their values, ``squares`` the squares of these.

    ``day`` is ascending, and counted since the epoch. Days without rows are left out.
    """

    day: NDArray[np.int64]
    rows: NDArray[np.int64]
    total: Floats
    squares: Floats

    @classmethod
    def of_share(cls, day: NDArray[np.int64], rows: NDArray[np.int64], hits: NDArray[np.int64]) -> DailySums:
        """Return the sums of rows that are 1 for a hit and 0 otherwise: their mean is the share of hits."""
        return cls(day, rows, hits.astype(np.float64), hits.astype(np.float64))

    def on(self, days: NDArray[np.int64]) -> DailySums:
        """Return the sums of these days."""
        own = np.isin(self.day, days)
        return DailySums(self.day[own], self.rows[own], self.total[own], self.squares[own])

    @property
    def means(self) -> Floats:
        """The mean of each day."""
        return self.total / self.rows

    @property
    def weights(self) -> Floats:
        """By how much each day counts."""
        return day_weights(self.rows)


@dataclass(frozen=True)
class UsualRange:
    """The weighted mean of the days ``before``, that of the newest days, and the bounds in which the latter usually is.

    If nothing has changed, the newest mean lies below ``low`` with the chance that was asked for. It lies above
    ``high`` with the same chance.
    """

    before: float
    lately: float
    low: float
    high: float

    @property
    def out(self) -> bool:
        """Whether the newest days are out of the range."""
        rounding = _ROUNDING * (1 + abs(self.before))
        return not self.low - rounding <= self.lately <= self.high + rounding


def usual_range(sums: DailySums, days: ComparedDays, chance: float) -> UsualRange:
    """Compare the newest days with those before. ``days`` are enough of both, and ``sums`` has all of them."""
    reference, sample = sums.on(days.reference), sums.on(days.sample)
    newest = sample.weights / sample.weights.sum()
    alike = alike_weights(reference.day % WEEK, reference.weights, sample.day % WEEK, newest)
    alike = alike / alike.sum()
    before, lately = float(alike @ reference.means), float(newest @ sample.means)
    both = sums.on(np.concatenate([days.reference, days.sample]))
    correlation = serial_correlation(_around_weekdays(reference)[0], NOTHING_KNOWN)
    lag1, freedom = correlation.pooled or 0.0, correlation.freedom or 1.0
    variance = _between_days(both)
    spread = float((newest**2).sum()) * variance * _inflation(len(newest), lag1) + _of_fewer_rows(both, sample, newest)
    spread += float((alike**2).sum()) * variance * _inflation(len(alike), lag1)
    rest, error = _around_weekdays(both)[0], float(np.sqrt(spread))
    far, share = t_quantile(chance, freedom), len(days.sample) / len(rest)
    low, high = (_skewed(far, each, share) * error for each in (-rest, rest))
    return UsualRange(before, lately, before - low, before + high)


def _around_weekdays(sums: DailySums) -> tuple[Floats, int]:
    """Return each day's difference to the mean of its weekday, and the number of means that were taken.

    With fewer than three days of a weekday it is the difference to the mean of all days.
    """
    group = sums.day % WEEK
    counts = np.bincount(group, minlength=WEEK)
    if (counts[counts > 0] < SAMPLES_IN_REFERENCE).any():
        group = np.zeros_like(group)
    weight = np.bincount(group, sums.weights, WEEK)
    mean = np.bincount(group, sums.weights * sums.means, WEEK) / np.where(weight > 0, weight, 1.0)
    found: Floats = sums.means - mean[group]
    return found, len(np.unique(group))


def _between_days(sums: DailySums) -> float:
    """Return the variance of the means of days around those of their weekdays."""
    rest, means = _around_weekdays(sums)
    mean_square = float(sums.weights @ rest**2) / float(sums.weights.sum())
    return mean_square * len(rest) / max(len(rest) - means, 1)


def _skewed(far: float, rest: Floats, share: float) -> float:
    """Return how many errors a mean may be high with the chance of ``far`` errors of a normal distribution.

    ``rest`` are the differences of all days, and a ``share`` of them is drawn at random. A few days that stick out come
    together by chance more often than a normal distribution says. The signed root of the deviance knows that.
    """
    most = float(np.abs(rest).max(initial=0.0))
    if not most:
        return far
    x = (rest - rest.mean()) / most
    raised = np.exp(np.outer(_TILTS, x))
    weights = 1 - share + share * raised
    sums = (share * raised * x / weights).sum(axis=1)
    root = np.sqrt(np.maximum(2 * (_TILTS * sums - np.log(weights).sum(axis=1)), 0))
    reached = np.interp(far, root, sums) if far <= root[-1] else _BEYOND * sums[-1]
    return max(far, float(reached / np.sqrt(share * (1 - share) * (x @ x))))


def _of_fewer_rows(both: DailySums, sample: DailySums, newest: Floats) -> float:
    """Return the variance that the newest days have beyond that of usual days, because they have fewer rows."""
    within = float((both.squares - both.total**2 / both.rows).sum()) / float(both.rows.sum())
    usual = float(both.weights @ (1 / both.rows)) / float(both.weights.sum())
    return within * max(0.0, float((newest**2) @ (1 / sample.rows - usual)))


def _inflation(days: int, lag1: float) -> float:
    """Return how many times the variance of a mean of days is that of independent ones."""
    lags = np.arange(1, days)
    return 1 + 2 * float(((1 - lags / days) * lag1**lags).sum())
