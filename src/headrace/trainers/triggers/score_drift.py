"""Drift of the model's own score: the PSI between a sample of days and the days before it.

Rows of one day share values (all flights of an airport have the same ones), so the unit is the day. The threshold is
the larger of the given PSI and the 99th percentile between resampled days of the reference, which have no drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from headrace.trainers.day_scores import Floats

BINS = 10
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
    edges = np.unique(np.quantile(scores[before], np.linspace(0, 1, BINS + 1)[1:-1]))
    reference = _histograms(days[before], scores[before], edges)
    sample = _histograms(days[in_sample], scores[in_sample], edges)
    found = float(psi(reference.sum(0), sample.sum(0)))
    threshold = _between_days(reference, sample_days, seed, resamples)
    return DriftMeasurement(found, threshold, sampled, reference_days, needed)


def psi(reference: Floats, sample: Floats) -> Floats:
    """The population stability index between two counts, over the last axis: Σ (p - q)·ln(p / q)."""
    p, q = _shares(reference), _shares(sample)
    result: Floats = ((p - q) * np.log(p / q)).sum(axis=-1)
    return result


def _shares(counts: Floats) -> Floats:
    smoothed = counts + _SMOOTHING
    shares: Floats = smoothed / smoothed.sum(axis=-1, keepdims=True)
    return shares


def _histograms(day: NDArray[np.int64], score: Floats, edges: Floats) -> Floats:
    """Count the rows by (day with rows, bin)."""
    days, index = np.unique(day, return_inverse=True)
    bins = len(edges) + 1
    cell = index * bins + np.searchsorted(edges, score, "right")
    return np.bincount(cell, minlength=len(days) * bins).reshape(len(days), bins).astype(np.float64)


def _between_days(reference: Floats, sample_days: int, seed: int, resamples: int) -> float:
    """The 99th percentile of the PSI between two resamples of the reference's own days, as long as the real two."""
    generator = np.random.default_rng(seed)
    chance = np.full(len(reference), 1 / len(reference))
    samples = generator.multinomial(sample_days, chance, resamples) @ reference
    references = generator.multinomial(len(reference), chance, resamples) @ reference
    return float(np.percentile(psi(references, samples), PERCENTILE))
