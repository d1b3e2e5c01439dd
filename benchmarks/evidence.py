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
from headrace.trainers.metrics.expected_cost import expected_cost
from headrace.trainers.metrics.intervals import block_weights, gain_interval, resampled_interval, t_quantile
from headrace.trainers.metrics.named_metrics import METRICS, metric_named, metric_value, within_block
from headrace.trainers.metrics.serial_correlation import serial_correlation
from headrace.trainers.runs.look_budget import look_cost

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.trainers.metrics.metric import Metric

    from .options import Options
    from .rig import Rig

    World = Callable[..., BlockRows]

CORRELATIONS = (0.0, 0.3, 0.5, 0.8)
LOOKS, YEARS, RUNS, GAINS = 4_000, 400, 1_000, 200
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


def binary(generator: np.random.Generator, blocks: int, rows: int = 100) -> BlockRows:
    """Days with a level of their own, and a model that errs by row and by day."""
    day = np.repeat(np.arange(blocks), rows)
    logit = generator.normal(-1.2, 0.7, blocks)[day] + generator.normal(0, 1, len(day))
    label = generator.random(len(day)) < _logistic(logit)
    seen = logit + generator.normal(0, 0.5, len(day)) + generator.normal(0, 0.2, blocks)[day]
    return BlockRows(day, label.astype(np.int8), _logistic(seen))


def numbers(generator: np.random.Generator, blocks: int, rows: int = 100) -> BlockRows:
    """Minutes of delay: skewed, with a level a day."""
    day = np.repeat(np.arange(blocks), rows)
    mean = np.exp(generator.normal(2.5, 0.3, blocks)[day] + generator.normal(0, 0.4, len(day)))
    truth = mean * generator.gamma(4, 0.25, len(day)) + 1
    return BlockRows(day, truth, mean * np.exp(generator.normal(0, 0.1, blocks))[day])


def classes(generator: np.random.Generator, blocks: int, rows: int = 100) -> BlockRows:
    """Three classes, of which one is rare, with a level a day."""
    day = np.repeat(np.arange(blocks), rows)
    logits = np.stack([np.full(len(day), level) for level in (1.0, 0.0, -1.0)], 1)
    logits = logits + generator.normal(0, 0.4, (blocks, 3))[day] + generator.normal(0, 1, (len(day), 3))
    chances = _softmax(logits)
    truth = (chances.cumsum(axis=1) < generator.random((len(day), 1))).sum(axis=1).clip(0, 2)
    return BlockRows(day, truth, _softmax(logits + generator.normal(0, 0.3, logits.shape)))


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def _softmax(x: np.ndarray) -> np.ndarray:
    raised = np.exp(x)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _metrics() -> dict[str, tuple[Metric, World]]:
    of_binary: list[Metric] = [metric for metric in METRICS.values() if "binary" in metric.tasks]
    of_binary += [within_block("auc"), expected_cost([[0, 1], [5, 0]])]
    of_numbers = [metric for metric in METRICS.values() if metric.tasks[0] in {"regression", "quantile"}]
    return (
        {metric.name: (metric, binary) for metric in of_binary}
        | {metric.name: (metric, numbers) for metric in of_numbers}
        | {"macro_log_loss": (metric_named("macro_log_loss"), classes)}
    )


def coverage() -> list[dict[str, Any]]:
    """The share of 95 % intervals that hold the true value. The truth is that of many more days."""
    found = []
    for name, (metric, world) in _metrics().items():
        truth = _truth(metric, world)
        row: dict[str, Any] = {"metric": name}
        for blocks in (HOLDOUT, 2 * HOLDOUT):
            weights, held = _weights(blocks), 0
            for seed in range(RUNS):
                rows = world(np.random.default_rng([SEED, seed]), blocks)
                statistic = metric.statistic(rows)
                interval = resampled_interval(statistic.point, statistic.value(weights), blocks)
                held += interval.low <= truth <= interval.high
            row[str(blocks)] = held / RUNS
        found.append(row)
    return found


@cache
def _weights(blocks: int) -> np.ndarray:
    return block_weights(blocks, 1_000, SEED)


def _truth(metric: Metric, world: World) -> float:
    """The metric of many days: the mean over parts, where a part is large enough to be without bias."""
    parts = [metric.statistic(world(np.random.default_rng([SEED, 1 << 20, part]), 200)).point for part in range(40)]
    return float(np.mean(parts))


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
    label = (generator.random(len(day)) < _logistic(logit)).astype(np.int8)
    shared = generator.normal(0, noises[1], len(day)) + generator.normal(0, 0.2, days)[day]
    own = [generator.normal(0, 0.2, days)[day] + generator.normal(0, 0.05, len(day)) for _ in range(2)]
    worse = generator.normal(0, noises[0], len(day))
    return (
        BlockRows(day, label, _logistic(logit + shared + own[0] + worse)),
        BlockRows(day, label, _logistic(logit + shared + own[1])),
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
