"""How often a gate is wrong, and what it finds: studies of synthetic blocks whose truth is known.

Each figure is the share of runs of one seed. In an A/A study both models are equally good, so a gate is right if it
refuses.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import gain_interval, t_quantile
from headrace.trainers.metrics.named_metrics import metric_named, metric_value
from headrace.trainers.metrics.serial_correlation import serial_correlation
from headrace.trainers.runs.look_budget import look_cost

from .evidence_coverage import coverage
from .evidence_worlds import logistic

if TYPE_CHECKING:
    from .options import Options
    from .rig import Rig

CORRELATIONS = (0.0, 0.3, 0.5, 0.8)
LOOKS, YEARS, GAINS = 4_000, 400, 200
WEEK, HOLDOUT, YEAR = 7, 14, 364
SEED = 1


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """All studies, by seed."""
    del rig, options
    return {
        "seed": SEED,
        "looks": looks(),
        "years": years(),
        "coverage": coverage(),
        "power": power(),
    }


def stationary(generator: np.random.Generator, blocks: int, phi: float) -> np.ndarray:
    """A series of first order with variance 1."""
    noise, series = generator.normal(size=blocks), np.empty(blocks)
    series[0] = noise[0]
    for at in range(1, blocks):
        series[at] = phi * series[at - 1] + np.sqrt(1 - phi**2) * noise[at]
    return series


def slow(generator: np.random.Generator, blocks: int, phi: float) -> np.ndarray:
    """A slow drift below noise of its own size: its first lag says less than there is."""
    both = stationary(generator, blocks, phi) + generator.normal(size=blocks)
    return np.asarray(both / np.sqrt(2))


def passes(gains: np.ndarray, alpha: float, *, measured: bool) -> bool:
    """Whether the mean gain of these blocks is surely above 0. This is the gate's rule for a metric that is a mean."""
    n = len(gains)
    half = t_quantile(alpha, n - 1) * gains.std(ddof=1) / np.sqrt(n)
    if not measured:
        return bool(gains.mean() > half)
    found = serial_correlation(gains)
    return bool(found.enough and gains.mean() > half * found.widening)


def looks() -> list[dict[str, Any]]:
    """False passes a look, and how often a look ends without a verdict, by what the blocks' gains are like."""
    kinds = [(f"lag-1 correlation {phi}", partial(stationary, phi=phi)) for phi in CORRELATIONS]
    kinds += [("a slow drift (correlation .8) under daily noise of the same size", partial(slow, phi=0.8))]
    found = []
    for blocks in (HOLDOUT, 2 * HOLDOUT):
        for name, make in kinds:
            generator = np.random.default_rng(SEED)
            series = [make(generator, blocks) for _ in range(LOOKS)]
            found.append(
                {
                    "blocks": blocks,
                    "gains": name,
                    "ignored": float(np.mean([passes(each, 0.025, measured=False) for each in series])),
                    "measured": float(np.mean([passes(each, 0.025, measured=True) for each in series])),
                    "postponed": float(np.mean([not serial_correlation(each).enough for each in series])),
                }
            )
    return found


def years() -> list[dict[str, Any]]:
    """Years of weekly looks with at least one false pass. Each look at the one champion has its own challenger."""
    gates = {"look": Gate("auc"), "year": Gate("auc", alpha=0.05, per="year")}
    found = []
    for phi in CORRELATIONS:
        counts = dict.fromkeys((f"{per}, {rule}" for per in gates for rule in ("ignored", "measured")), 0)
        for year in range(YEARS):
            generator = np.random.default_rng([SEED, year])
            champion = stationary(generator, YEAR, phi)
            ends = range(HOLDOUT, YEAR + 1, WEEK)
            gains = [stationary(generator, HOLDOUT, phi) - champion[end - HOLDOUT : end] for end in ends]
            for per, gate in gates.items():
                alpha = look_cost(gate, HOLDOUT, [(-WEEK, WEEK)]).alpha
                for rule in ("ignored", "measured"):
                    counts[f"{per}, {rule}"] += any(passes(each, alpha, measured=rule == "measured") for each in gains)
        found.append({"correlation": phi, **{name: count / YEARS for name, count in counts.items()}})
    return found


def power() -> list[dict[str, Any]]:
    """How often a real gain is found by looks after 14, 21 and 28 days, of 1,000 rows a day each."""
    return [
        _power_of(name, _noise_for_auc(), holdout, correlated=correlated)
        for name in ("auc", "logloss")
        for holdout in (14, 28)
        for correlated in (False, True)
    ]


def _power_of(name: str, noises: tuple[float, float], holdout: int, *, correlated: bool) -> dict[str, Any]:
    ends = [end for end in (14, 21, 28) if end >= holdout]
    counts, gains = dict.fromkeys(ends, 0), []
    for seed in range(GAINS):
        champion, challenger = _two_models(np.random.default_rng([SEED, seed]), 28, noises)
        passed = False
        for end in ends:
            chosen = (champion.index >= end - holdout) & (champion.index < end)
            theirs, ours = (
                BlockRows(rows.index[chosen], rows.truth[chosen], rows.prediction[chosen])
                for rows in (champion, challenger)
            )
            gain = gain_interval(theirs, ours, metric_named(name), seed=SEED, draws=1_000, correlated=correlated)
            enough = gain.correlation is None or gain.correlation.enough
            passed = passed or (enough and gain.interval.low > 0)
            counts[end] += passed
            gains.append(gain.interval.point)
    return {
        "metric": name,
        "holdout": holdout,
        "correlation": "measured" if correlated else "ignored",
        "gain": float(np.mean(gains)),
        "found_by_day": {str(end): count / GAINS for end, count in counts.items()},
    }


def _two_models(
    generator: np.random.Generator, days: int, noises: tuple[float, float], rows: int = 1_000
) -> tuple[BlockRows, BlockRows]:
    day = np.repeat(np.arange(days), rows)
    logit = generator.normal(-1.2, 0.7, days)[day] + generator.normal(0, 1, len(day))
    label = (generator.random(len(day)) < logistic(logit)).astype(np.int8)
    shared = generator.normal(0, noises[1], len(day)) + generator.normal(0, 0.2, days)[day]
    own = [generator.normal(0, 0.2, days)[day] + generator.normal(0, 0.05, len(day)) for _ in range(2)]
    worse = generator.normal(0, noises[0], len(day))
    return (
        BlockRows(day, label, logistic(logit + shared + own[0] + worse)),
        BlockRows(day, label, logistic(logit + shared + own[1])),
    )


@cache
def _noise_for_auc() -> tuple[float, float]:
    """The noise that costs the champion .01 of AUC, beside what both models have."""
    low, high = 0.0, 1.5
    for _ in range(8):
        middle = (low + high) / 2
        theirs, ours = _two_models(np.random.default_rng(SEED), 600, (middle, 0.5))
        gain = metric_value("auc", ours.truth, ours.prediction) - metric_value("auc", theirs.truth, theirs.prediction)
        low, high = (middle, high) if gain < 0.01 else (low, middle)  # noqa: PLR2004 - what is planted
    return (low + high) / 2, 0.5
