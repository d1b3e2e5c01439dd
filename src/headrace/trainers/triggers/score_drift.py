"""Drift of the model's own score: the PSI between a sample of days and the days before it.

Rows of one day share values (all flights of an airport have the same ones), so the unit is the day. The threshold is
the larger of the given PSI and the 99th percentile between resampled days of the reference, which have no drift.

The bins are made from the reference: deciles, a bin of its own for each value that many rows share, and the outermost
1 % and 0.1 % on both sides. Without these a score that most rows share would hide all others, and a few rows that jump
far would drown in the highest decile. The limits are scores of the reference, so only the order of the scores counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from headrace.trainers.metrics.block_rows import Floats

BINS = 10
TAILS = (0.001, 0.01)
ATOM_SHARE = 0.05
_ROWS_IN_BIN = 20  # of the reference; fewer rows say nothing of a rare score
RESAMPLES = 1_000
PERCENTILE = 99.0
SAMPLES_IN_REFERENCE = 4
_SMOOTHING = 0.5  # rows added to each bin: an empty bin is rare, not impossible


@dataclass(frozen=True)
class DriftMeasurement:
    """The measured PSI and the days that it rests on.

    ``threshold`` is the resampled percentile. It and ``psi`` are None while the reference is too short.
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
) -> DriftMeasurement:
    """Compare the ``sample_days`` before ``until_day`` with all days before those.

    The rows are scores that one version has served, none of them of its training rows. ``day`` is an integer index, one
    entry a row. The reference needs four times ``sample_days`` days with rows, and every day of the sample needs a row.
    """
    days, scores = np.asarray(day, np.int64), np.asarray(score, np.float64)
    in_sample = (days >= until_day - sample_days) & (days < until_day)
    before = days < until_day - sample_days
    reference_days, sampled = len(np.unique(days[before])), len(np.unique(days[in_sample]))
    needed = SAMPLES_IN_REFERENCE * sample_days
    if reference_days < needed or sampled < sample_days:
        return DriftMeasurement(None, None, sampled, reference_days, needed)
    bins = ScoreBins(scores[before])
    reference = bins.histograms(days[before], scores[before])
    sample = bins.histograms(days[in_sample], scores[in_sample])
    found = float(psi(reference.sum(0), sample.sum(0)))
    between = _between_days(reference, sample_days, seed, resamples)
    threshold = float(np.percentile(between, percentile))
    return DriftMeasurement(found, threshold, sampled, reference_days, needed)


def most_drift(day: ArrayLike, score: ArrayLike, asked: float, **options: Any) -> DriftMeasurement:
    """Return :func:`score_drift` of the score. If it has several columns, that of the one that drifts most.

    Of several columns one is above its 99th percentile more often than of one, so each has a higher percentile: 1 % is
    the chance for all together. ``asked`` is the PSI that is asked for.
    """
    scores = np.asarray(score, np.float64)
    columns = scores.reshape(len(scores), -1).T if len(scores) else scores.reshape(1, 0)
    percentile = 100 - (100 - PERCENTILE) / len(columns)
    found = [score_drift(day, column, percentile=percentile, **options) for column in columns]
    return max(found, key=lambda one: 0.0 if one.psi is None else one.psi / max(asked, one.threshold or 0.0))


def psi(reference: Floats, sample: Floats) -> Floats:
    """The population stability index between two counts, over the last axis: Σ (p - q)·ln(p / q)."""
    p, q = _shares(reference), _shares(sample)
    result: Floats = ((p - q) * np.log(p / q)).sum(axis=-1)
    return result


def _shares(counts: Floats) -> Floats:
    smoothed = counts + _SMOOTHING
    shares: Floats = smoothed / smoothed.sum(axis=-1, keepdims=True)
    return shares


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

    def histograms(self, day: NDArray[np.int64], score: Floats) -> Floats:
        """Count the rows by (day with rows, bin)."""
        days, index = np.unique(day, return_inverse=True)
        bins = int(self._first_bin[-1]) + 1
        own = self._first_bin[np.searchsorted(self._limits, score, "left")] + np.isin(score, self._atoms)
        cells = np.bincount(index * bins + own, minlength=len(days) * bins)
        return cells.reshape(len(days), bins).astype(np.float64)


def _quantiles(scores: Floats, levels: Sequence[float]) -> Floats:
    """Return the score at each level. It is one of the scores, never a value between two of them."""
    found: Floats = np.quantile(scores, np.array(levels), method="inverted_cdf") if levels else np.zeros(0)
    return found


def _between_days(reference: Floats, sample_days: int, seed: int, resamples: int) -> Floats:
    """The PSI between two resamples of the reference's own days, as long as the real two."""
    generator = np.random.default_rng(seed)
    chance = np.full(len(reference), 1 / len(reference))
    samples = generator.multinomial(sample_days, chance, resamples) @ reference
    references = generator.multinomial(len(reference), chance, resamples) @ reference
    return psi(references, samples)
