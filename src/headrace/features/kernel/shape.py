"""States of how values lie: powers around the mean, two values together, a value along the time, a decayed mean.

Each is kept around its own mean, and parts are moved to the common mean when they merge: large numbers that lie close
together lose no digits, as in :class:`headrace.features.kernel.states.MomentsState`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.features.kernel.states import NEVER, StateColumns, Values, in_pairs, runs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_VARIANCE = 1e-140
"""Values with less are taken as equal: their powers would not fit into a double."""


class _ReducedInPairs:
    """A state of which two parts merge as a run of two."""

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:
        """Merge the runs that begin at ``starts``."""
        raise NotImplementedError

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """The columns of the state."""
        raise NotImplementedError

    def merge(self, left: StateColumns, right: StateColumns) -> StateColumns:
        """Reduce each pair."""
        return in_pairs(self, left, right)


@dataclass(frozen=True)
class PowersState(_ReducedInPairs):
    """Count, mean, and the sums of the powers of distances from the mean, from the second up to the third or fourth."""

    highest: int

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """Count, mean, M2, M3, and M4 if it is kept. Without a row all are 0."""
        return [("<i8", 0), *[("<f8", 0.0)] * self.highest]

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:  # noqa: ARG002
        """Move the powers of each member to the mean of its run, and add."""
        count, mean, second, third = columns[:4]
        run = runs_of(len(count), starts)
        with np.errstate(over="ignore", invalid="ignore"):
            total, centre = _centres(count, mean, starts, run)
            away = np.where(count > 0, mean - centre[run], 0.0)
            square = count * away * away
            moved = [second + square, third + away * (3 * second + square)]
            if len(columns) > 4:  # noqa: PLR2004 - M4
                moved.append(columns[4] + away * (4 * third + away * (6 * second + square)))
            return [total, centre, *(np.add.reduceat(power, starts) for power in moved)]


@dataclass(frozen=True)
class CovarianceState(_ReducedInPairs):
    """Count, both means, both sums of squared distances from the mean, and the sum of their products."""

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """Count, mean of x, mean of y, M2 of x, M2 of y, and the sum of products. Without a row all are 0."""
        return [("<i8", 0), *[("<f8", 0.0)] * 5]

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:  # noqa: ARG002
        """Move the members of each run to its means, and add."""
        count, x, y, x_squares, y_squares, products = columns
        run = runs_of(len(count), starts)
        with np.errstate(over="ignore", invalid="ignore"):
            total, x_centre = _centres(count, x, starts, run)
            _, y_centre = _centres(count, y, starts, run)
            x_away, y_away = (np.where(count > 0, mean - of[run], 0.0) for mean, of in ((x, x_centre), (y, y_centre)))
            moved = (
                x_squares + count * x_away * x_away, y_squares + count * y_away * y_away,
                products + count * x_away * y_away,
            )  # fmt: skip
            return [total, x_centre, y_centre, *(np.add.reduceat(part, starts) for part in moved)]


@dataclass(frozen=True)
class TrendState(_ReducedInPairs):
    """Count, newest event time, mean time before it, mean value, and M2 of the times and the sum of products.

    Times are distances from the newest one: so they are exact, and as fine as their spread.
    """

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """Count, newest time, mean time, mean value, M2 of the times, sum of products."""
        return [("<i8", 0), ("<i8", NEVER), *[("<f8", 0.0)] * 4]

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:  # noqa: ARG002
        """Count each member's times from the newest one of its run, move it to the means of the run, and add."""
        count, newest, time, value, squares, products = columns
        run = runs_of(len(count), starts)
        of_run = np.maximum.reduceat(newest, starts)
        has = count > 0
        time = np.where(has, np.where(has, newest, of_run[run]) - of_run[run] + time, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            total, time_centre = _centres(count, time, starts, run)
            _, centre = _centres(count, value, starts, run)
            early = np.where(has, time - time_centre[run], 0.0)
            away = np.where(has, value - centre[run], 0.0)
            moved = squares + count * early * early, products + count * early * away
            return [total, of_run, time_centre, centre, *(np.add.reduceat(part, starts) for part in moved)]


@dataclass(frozen=True)
class DecayedMeanState(_ReducedInPairs):
    """The newest event time, and at that time the sum of the decayed values and the sum of their weights."""

    half_life_us: int

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """Newest event time, sum of values, sum of weights."""
        return [("<i8", NEVER), ("<f8", 0.0), ("<f8", 0.0)]

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:  # noqa: ARG002
        """Age both sums to the newest time of each run, and add."""
        time, total, weight = columns
        newest = np.maximum.reduceat(time, starts)
        age = np.where(time == NEVER, 0, newest[runs_of(len(time), starts)] - time)
        with np.errstate(over="ignore", invalid="ignore"):
            left = np.exp2(-age / self.half_life_us)
            return [newest, np.add.reduceat(total * left, starts), np.add.reduceat(weight * left, starts)]


def _centres(count: np.ndarray, mean: np.ndarray, starts: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of values of each run, and their mean: an average of distances from the largest mean."""
    total = np.add.reduceat(count, starts)
    one = np.where(total > 0, np.maximum.reduceat(np.where(count > 0, mean, -np.inf), starts), 0.0)
    beyond = np.add.reduceat(np.where(count > 0, count * (mean - one[run]), 0.0), starts)
    return total, one + np.divide(beyond, total, out=np.zeros(len(total)), where=total > 0)


def skew(columns: StateColumns) -> Values:
    """Return the skewness: the third power of the distances from the mean, in standard deviations."""
    count, _, second, third = columns
    variance, there = _spread(count, second)
    with np.errstate(over="ignore", invalid="ignore"):
        return _known(third / np.maximum(count, 1) / variance**1.5, there)


def kurtosis(columns: StateColumns) -> Values:
    """Return the excess kurtosis: the fourth power of the distances from the mean, less that of a normal one."""
    count, _, second, _, fourth = columns
    variance, there = _spread(count, second)
    with np.errstate(over="ignore", invalid="ignore"):
        return _known(fourth / np.maximum(count, 1) / variance**2 - 3.0, there)


def correlation(columns: StateColumns) -> Values:
    """Return the correlation of x and y."""
    count, _, _, x_squares, y_squares, products = columns
    (x, x_there), (y, y_there) = _spread(count, x_squares), _spread(count, y_squares)
    with np.errstate(over="ignore", invalid="ignore"):
        found, there = _known(products / np.maximum(count, 1) / (np.sqrt(x) * np.sqrt(y)), x_there & y_there)
    return np.clip(found, -1.0, 1.0), there


def trend(columns: StateColumns, per_us: int) -> Values:
    """Return the change of the value per ``per_us`` along the best line."""
    _, _, _, _, squares, products = columns
    there = squares > 0
    with np.errstate(over="ignore", invalid="ignore"):
        return _known(products / np.where(there, squares, 1.0) * per_us, there)


def decayed_mean(columns: StateColumns) -> Values:
    """Return the weighted mean."""
    _, total, weight = columns
    there = weight > 0
    return _known(total / np.where(there, weight, 1.0), there)


def ratio(columns: StateColumns) -> Values:
    """Return part / whole. The last column is the number of rows of the whole, or the whole itself."""
    part, whole, *_ = columns
    there = (columns[-1] > 0) & (whole != 0)
    with np.errstate(over="ignore", invalid="ignore"):
        return _known(part / np.where(there, whole, 1.0), there & np.isfinite(whole))


def _spread(count: np.ndarray, squares: np.ndarray) -> Values:
    """The variance, and whether it is large enough; 1 where it is not."""
    variance = squares / np.maximum(count, 1)
    there = np.isfinite(variance) & (variance >= LEAST_VARIANCE)
    return np.where(there, variance, 1.0), there


def _known(values: np.ndarray, there: np.ndarray) -> Values:
    """The values that are there and fit into a double."""
    there = there & np.isfinite(values)
    return np.where(there, values, 0.0), there
