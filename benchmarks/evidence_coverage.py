"""How many 95 % intervals hold the true value: of the metric of one model, and of the gain over another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.trainers.metrics.expected_cost import expected_cost
from headrace.trainers.metrics.intervals import gain_interval, metric_interval
from headrace.trainers.metrics.named_metrics import METRICS, metric_named, within_block

from .evidence_worlds import binary, classes, numbers

if TYPE_CHECKING:
    from headrace.trainers.metrics.intervals import Interval
    from headrace.trainers.metrics.metric import Metric

    from .evidence_worlds import World

BLOCKS = (14, 28)
RUNS, SEED = 1_000, 1
DRAWS, FEW_DRAWS = 500, 40
"""Few resamples are enough for bounds that are not percentiles of them."""
_WORSE = {binary: 0.8, numbers: 0.3, classes: 0.5}
"""By how much the champion is worse where there is a gain."""


def coverage() -> list[dict[str, Any]]:
    """The shares for each metric and number of blocks, where blocks are independent."""
    return [
        {"metric": name, **{str(blocks): _held(metric, world, blocks) for blocks in BLOCKS}}
        for name, (metric, world) in metrics().items()
    ]


def metrics() -> dict[str, tuple[Metric, World]]:
    """All metrics, each with a world of its task."""
    of_binary: list[Metric] = [metric for metric in METRICS.values() if "binary" in metric.tasks]
    of_binary += [within_block("auc"), expected_cost([[0, 1], [5, 0]])]
    of_numbers = [metric for metric in METRICS.values() if metric.tasks[0] in {"regression", "quantile"}]
    return (
        {metric.name: (metric, binary) for metric in of_binary}
        | {metric.name: (metric, numbers) for metric in of_numbers}
        | {"macro_log_loss": (metric_named("macro_log_loss"), classes)}
    )


def _held(metric: Metric, world: World, blocks: int) -> dict[str, float]:
    """Return the share of intervals that hold the truth: for one model, without a gain, and with one.

    ``too_high`` is the share of lower bounds of a gain of 0 that are above it.
    """
    champion, challenger = _truth(metric, world)
    gain = (challenger - champion) * (1 if metric.higher_is_better else -1)
    ones: list[tuple[float, float]] = []
    for seed in range(RUNS):
        _, rows = world(np.random.default_rng([SEED, seed, 0]), blocks, worse=_WORSE[world])
        ones.append(_misses(metric_interval(rows, metric, seed=SEED, draws=FEW_DRAWS), challenger))
    none, some = (_gains(metric, world, blocks, equal=equal, truth=0.0 if equal else gain) for equal in (True, False))
    return {
        "one": 1 - float(np.sum(np.mean(ones, axis=0))),
        "no_gain": 1 - float(none.sum()),
        "gain": 1 - float(some.sum()),
        "too_high": float(none[0]),
    }


def _gains(metric: Metric, world: World, blocks: int, *, equal: bool, truth: float) -> np.ndarray:
    draws, found = DRAWS if metric.percentiles else FEW_DRAWS, []
    for seed in range(RUNS):
        theirs, ours = world(
            np.random.default_rng([SEED, seed, 1 + equal]), blocks, worse=0.0 if equal else _WORSE[world]
        )
        found.append(_misses(gain_interval(theirs, ours, metric, seed=SEED, draws=draws).interval, truth))
    return np.asarray(np.mean(found, axis=0))


def _misses(interval: Interval, truth: float) -> tuple[float, float]:
    return float(truth < interval.low), float(truth > interval.high)


def _truth(metric: Metric, world: World) -> tuple[float, float]:
    """The metric of both models for many days: the mean over parts that are large enough to be without bias."""
    parts = []
    for part in range(24):
        pair = world(np.random.default_rng([SEED, 1 << 20, part]), 200, worse=_WORSE[world])
        parts.append([metric.statistic(rows).point for rows in pair])
    champion, challenger = np.mean(parts, axis=0)
    return float(champion), float(challenger)
