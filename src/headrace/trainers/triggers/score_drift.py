"""Drift of the model's own score: the PSI between a sample of days and the days before it.

Rows of one day share values (all flights of an airport have the same ones), so the unit is the day, and traffic that
falls or rises is no drift (:mod:`compared_days`). The threshold is the larger of the given PSI and the 99th percentile
between resampled days of the reference, which have no drift, with as many rows as the sample's days have.

The bins are made from the reference: deciles, a bin of its own for each value that many rows share, and the outermost
1 % and 0.1 % on both sides. Without these a score that most rows share would hide all others, and a few rows that jump
far would drown in the highest decile. The limits are scores of the reference, so only the order of the scores counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.trainers.metrics.serial_correlation import NOTHING_KNOWN, SerialCorrelation, serial_correlation
from headrace.trainers.triggers.compared_days import WEEK, alike_weights, compared_days, day_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from headrace.trainers.metrics.block_rows import Floats

    Counts = NDArray[np.int64]

BINS = 10
TAILS = (0.001, 0.01)
ATOM_SHARE = 0.05
_ROWS_IN_BIN = 20  # of the reference; fewer rows say nothing of a rare score
RESAMPLES = 1_000
PERCENTILE = 99.0
YEAR = 365
_LONGEST_BLOCK = 14
STRETCHES = 400
"""The simulated stretches of days without drift, for a rate of false alarms."""
_UNSURE = 4
"""The variance of n independent days is only known to 2 / n of itself, and days that tell of each other are few such
days. So the simulated limit is raised by 4 / n. Then a correlation of 0 or .5 had the alarms that are allowed."""
_SMOOTHING = 0.5  # rows of the sample, added to each bin: an empty bin is rare, not impossible


@dataclass(frozen=True)
class DriftMeasurement:
    """The measured PSI and the days with rows that it rests on.

    ``threshold`` is the resampled percentile. It and ``psi`` are None while sample or reference are too short.
    """

    psi: float | None
    threshold: float | None
    sample_days: int
    reference_days: int
    needed_days: int


def score_drift(
    day: ArrayLike,
    score: ArrayLike,
    *,
    until_day: int,
    sample_days: int,
    seed: int = 0,
    resamples: int = RESAMPLES,
    percentile: float = PERCENTILE,
    alarms_a_year: float | None = None,
) -> DriftMeasurement:
    """Compare the newest ``sample_days`` with rows before ``until_day`` with the days before those.

    The rows are scores of one estimator, none of them of its training rows. ``day`` is an integer index, one entry a
    row. See :func:`compared_days` for the days. What has changed for good is no drift after a while.

    With ``alarms_a_year`` the threshold is the PSI that this many samples a year exceed if nothing drifts and one is
    judged each day; samples in a row that exceed it count once.
    """
    days, scores = np.asarray(day, np.int64), np.asarray(score, np.float64)
    chosen = compared_days(np.unique(days), until_day=until_day, sample_days=sample_days)
    lengths = len(chosen.sample), len(chosen.reference), chosen.needed
    if not chosen.enough:
        return DriftMeasurement(None, None, *lengths)
    first = chosen.sample[0]
    before, newest = (days >= chosen.reference[0]) & (days < first), (days >= first) & (days < until_day)
    bins = ScoreBins(scores[before])
    both = _Days(*bins.histograms(days[before], scores[before]), *bins.histograms(days[newest], scores[newest]))
    threshold = _threshold(both, seed, resamples, percentile, alarms_a_year)
    return DriftMeasurement(both.psi(), threshold, *lengths)


@lru_cache(maxsize=256)
def _threshold(days: _Days, seed: int, resamples: int, percentile: float, alarms_a_year: float | None) -> float:
    """Return the threshold. It is kept, as a rule is judged each minute and its days change once a day."""
    if alarms_a_year is None:
        return float(np.percentile(days.without_drift(seed, resamples), percentile))
    return days.exceeded(seed, min(STRETCHES, resamples), alarms_a_year)


def most_drift(
    day: ArrayLike, score: ArrayLike, asked: float, *, alarms_a_year: float | None = None, **options: Any
) -> DriftMeasurement:
    """Return :func:`score_drift` of the score. If it has several columns, that of the one that drifts most.

    Of several columns one is above its 99th percentile more often than of one, so each has a higher percentile: 1 % is
    the chance for all together. So it is with the ``alarms_a_year``. ``asked`` is the PSI that is asked for.
    """
    scores = np.asarray(score, np.float64)
    columns = scores.reshape(len(scores), -1).T if len(scores) else scores.reshape(1, 0)
    options |= {"percentile": 100 - (100 - PERCENTILE) / len(columns)}
    options |= {"alarms_a_year": None if alarms_a_year is None else alarms_a_year / len(columns)}
    found = [score_drift(day, column, **options) for column in columns]
    return max(found, key=lambda one: 0.0 if one.psi is None else one.psi / max(asked, one.threshold or 0.0))


def psi(reference: Floats, sample: Floats, added: float = 0.0) -> Floats:
    """The population stability index between shares, over the last axis: Σ (p - q)·ln(p / q).

    ``added`` is added to each share of both before.
    """
    p, q = ((shares + added) / (1 + added * shares.shape[-1]) for shares in (reference, sample))
    result: Floats = ((p - q) * np.log(p / q)).sum(axis=-1)
    return result


class ScoreBins:
    """The bins of a reference of scores: limits that are scores of it, and the atoms, which are bins of their own."""

    def __init__(self, reference: Floats) -> None:
        values, counts = np.unique(reference, return_counts=True)
        self._atoms = values[counts >= max(ATOM_SHARE * len(reference), 2)]
        rest = reference[~np.isin(reference, self._atoms)]
        levels = np.linspace(0, 1, min(BINS, len(rest) // _ROWS_IN_BIN) + 1)[1:-1].tolist()
        tails = [tail for tail in TAILS if tail * len(reference) >= _ROWS_IN_BIN]
        limits = [_quantiles(rest, levels), _quantiles(reference, [*tails, *(1 - tail for tail in tails)])]
        self._limits = np.unique(np.concatenate([*limits, self._atoms]))
        # An atom's limit has two bins: the one below it, and its own.
        self._first_bin = np.concatenate([[0], np.cumsum(1 + np.isin(self._limits, self._atoms))])

    def histograms(self, day: NDArray[np.int64], score: Floats) -> tuple[NDArray[np.int64], Counts]:
        """Return the days with rows, and the number of rows by (day, bin)."""
        days, index = np.unique(day, return_inverse=True)
        bins = int(self._first_bin[-1]) + 1
        own = self._first_bin[np.searchsorted(self._limits, score, "left")] + np.isin(score, self._atoms)
        cells = np.bincount(index * bins + own, minlength=len(days) * bins)
        return days, cells.reshape(len(days), bins)


def _quantiles(scores: Floats, levels: Sequence[float]) -> Floats:
    """Return the score at each level. It is one of the scores, never a value between two of them."""
    found: Floats = np.quantile(scores, np.array(levels), method="inverted_cdf") if levels else np.zeros(0)
    return found


class _Days:
    """The days of a reference and of a sample, with the rows of each day by bin. Equal ones have equal numbers."""

    def __init__(
        self, reference_days: NDArray[np.int64], reference: Counts, sample_days: NDArray[np.int64], sample: Counts
    ) -> None:
        self._rows = sample.sum(axis=1)
        weight = day_weights(self._rows)
        self._sample, self._weight = _shares(sample), weight / weight.sum()
        alike = alike_weights(
            reference_days % WEEK, day_weights(reference.sum(axis=1)), sample_days % WEEK, self._weight
        )
        self._counts, self._reference_weight = reference[alike > 0], alike[alike > 0]
        self._added = _SMOOTHING * float((self._weight**2 / self._rows).sum())
        arrays = (self._counts, self._reference_weight, sample)
        self._content = tuple((each.shape, each.tobytes()) for each in arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Days) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    def psi(self) -> float:
        """Return the PSI between reference and sample."""
        return float(psi(self._reference_weight @ _shares(self._counts), self._weight @ self._sample, self._added))

    def without_drift(self, seed: int, resamples: int) -> Floats:
        """Return the PSI between two resamples of the reference's own days, as long as the real two.

        Each day of the second one has no more rows than the sample's day in its place.
        """
        generator, days = np.random.default_rng(seed), len(self._counts)
        drawn = self._counts[generator.integers(days, size=(resamples, len(self._rows)))]
        samples = np.einsum("s,rsb->rb", self._weight, _shares(_thinned(generator, drawn, self._rows)))
        often = generator.multinomial(days, np.full(days, 1 / days), resamples) * self._reference_weight
        references = often @ _shares(self._counts) / often.sum(axis=1, keepdims=True)
        found: Floats = psi(references, samples, self._added)
        return found

    def exceeded(self, seed: int, stretches: int, times: float) -> float:
        """Return the PSI that samples without drift exceed so many times a year, if one is judged each day.

        Stretches of days are drawn from the reference, in blocks of neighbours, for these may be alike. The highest PSI
        of the samples in a stretch is not above the limit with the chance exp(-n), if n alarms are allowed in it.
        """
        generator, length, size = np.random.default_rng(seed), len(self._rows), len(self._counts)
        days = int(np.clip(YEAR / times, 1, YEAR))
        block = min(length, _LONGEST_BLOCK)
        drawn = _in_blocks(generator, (stretches, size + days + length - 1), size, block)
        place = np.arange(days + length - 1) % length
        thinned = _thinned(generator, self._counts[drawn[:, size:]], self._rows[place])
        samples = _rolling(self._weight[place][:, None] * _shares(thinned), length)
        weight = self._reference_weight[drawn][:, : size + days - 1, None]
        before = _rolling(weight * _shares(self._counts)[drawn[:, : size + days - 1]], size) / _rolling(weight, size)
        highest = psi(before, samples, self._added).max(axis=1)
        means = _shares(self._counts) @ np.arange(self._counts.shape[1], dtype=np.float64)
        found = serial_correlation(means, NOTHING_KNOWN)
        unsure = 1 + _UNSURE / found.effective
        return float(np.quantile(highest, np.exp(-times * days / YEAR))) * _torn(found, length, block) * unsure


def _torn(found: SerialCorrelation, length: int, block: int) -> float:
    """Return by how much the variance over a sample is too small, because blocks tear neighbours apart."""
    lags, lag1 = np.arange(1, length), found.pooled or 0.0
    alike = (1 - lags / length) * lag1**lags
    return float((1 + 2 * alike.sum()) / (1 + 2 * (alike * np.maximum(1 - lags / block, 0)).sum()))


def _rolling(values: Floats, days: int) -> Floats:
    """Return the sum over each number of days in a row: (stretches, days, bins)."""
    sums = np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0), (0, 0)))
    found: Floats = np.maximum(sums[:, days:] - sums[:, :-days], 0.0)
    return found


def _in_blocks(generator: np.random.Generator, shape: tuple[int, int], size: int, block: int) -> NDArray[np.int64]:
    """Draw from ``size`` days, in blocks of neighbours, where the first day follows the last: (stretches, days)."""
    stretches, days = shape
    starts = generator.integers(size, size=(stretches, -(-days // block)))
    found: NDArray[np.int64] = (starts[:, :, None] + np.arange(block)).reshape(stretches, -1)[:, :days] % size
    return found


def _shares(counts: Counts) -> Floats:
    found: Floats = counts / counts.sum(axis=-1, keepdims=True)
    return found


def _thinned(generator: np.random.Generator, counts: Counts, rows: Counts) -> Counts:
    """Draw ``rows`` of the rows of each day without putting them back, or all if there are fewer."""
    left = counts.sum(axis=-1)
    wanted = np.minimum(rows, left)
    if (wanted == left).all():
        return counts
    drawn = np.empty_like(counts)
    for place in range(counts.shape[-1]):
        here = counts[..., place]
        left = left - here
        drawn[..., place] = generator.hypergeometric(here, left, wanted)
        wanted = wanted - drawn[..., place]
    return drawn
