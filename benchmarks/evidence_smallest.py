"""The smallest gain that a gate with its defaults finds in 80 of 100 cases, at 1,000 rows a day within 28 days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.intervals import gain_interval
from headrace.trainers.metrics.named_metrics import metric_named

from .evidence_coverage import DRAWS, FEW_DRAWS
from .evidence_power import ENDS, ROWS, SEED, WORLDS, between

if TYPE_CHECKING:
    from .evidence_worlds import Pair

CASES, STEPS, WANTED = 200, 4, 0.8
DAYS = 28
METRICS = ("auc", "root_mean_squared_error", "macro_log_loss")
MOST_WORSE = {"auc": 0.6, "root_mean_squared_error": 0.4, "macro_log_loss": 0.6}
"""By how much the champion errs more where the search begins: nearly every gain as large as that is found."""


class _Found(NamedTuple):
    worse: float
    share: float
    champion: float
    challenger: float


def smallest() -> list[dict[str, Any]]:
    """The gain of each metric, with weekly looks at 14 days, and with one look at 28 days."""
    return [
        {"metric": name, "holdout": holdout, "cases": CASES, **_smallest(name, holdout)}
        for name in METRICS
        for holdout in (14, DAYS)
    ]


def _smallest(name: str, holdout: int) -> dict[str, float]:
    """Halve between a gain that is found too rarely and one that is found often enough. The cases are always the same.

    The gain is between the last two, by how often they are found.
    """
    low, high = _tried(name, holdout, 0.0), _tried(name, holdout, MOST_WORSE[name])
    for _ in range(STEPS):
        middle = _tried(name, holdout, (low.worse + high.worse) / 2)
        low, high = (middle, high) if middle.share < WANTED else (low, middle)
    part = (WANTED - low.share) / max(high.share - low.share, 1e-9)
    champion, challenger = (before + part * (after - before) for before, after in zip(low[2:], high[2:], strict=True))
    return {"champion": champion, "challenger": challenger, "gain": abs(challenger - champion), "found": high.share}


def _tried(name: str, holdout: int, worse: float) -> _Found:
    metric, found, values = metric_named(name), [], []
    for case in range(CASES):
        pair = WORLDS[name](np.random.default_rng([SEED, case]), DAYS, rows=ROWS, worse=worse)
        found.append(_is_found(name, holdout, pair))
        values.append([metric.statistic(rows).point for rows in pair])
    champion, challenger = np.mean(values, axis=0).tolist()
    return _Found(worse, float(np.mean(found)), champion, challenger)


def _is_found(name: str, holdout: int, pair: Pair) -> bool:
    """Whether one of the looks by a gate that says nothing but its metric and holdout passes the challenger."""
    gate, metric = Gate(name, holdout=f"{holdout}d"), metric_named(name)
    for end in ENDS:
        if end < holdout:
            continue
        theirs, ours = (between(rows, end - holdout, end) for rows in pair)
        gain = gain_interval(
            theirs,
            ours,
            metric,
            seed=SEED,
            draws=DRAWS if metric.percentiles else FEW_DRAWS,
            correlated=gate.measures_correlation,
        )
        if gain.interval.lower_bound(gate.alpha, holdout) > 0:
            return True
    return False
