"""How often a real gain is found by weekly looks, at 1,000 rows a day: of each metric, by what a look may cost."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import gain_interval
from headrace.trainers.metrics.named_metrics import metric_named, metric_value
from headrace.trainers.metrics.serial_correlation import NOTHING_KNOWN, KnownCorrelation
from headrace.trainers.runs.look_budget import look_cost

from .evidence_coverage import DRAWS, FEW_DRAWS
from .evidence_worlds import binary, classes, numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.trainers.metrics.intervals import Gain

    from .evidence_worlds import Pair

GAINS, SEED, ROWS, WEEK = 200, 1, 1_000, 7
ENDS = (14, 21, 28)
PLANTED = (
    ("auc", 0.01, 14),
    ("auc", 0.01, 28),
    ("logloss", None, 14),
    ("root_mean_squared_error", 0.01, 14),
    ("root_mean_squared_error", 0.03, 14),
    ("macro_log_loss", 0.01, 14),
    ("macro_log_loss", 0.03, 14),
)
"""The gain that is planted: of AUC in points, of the errors as a part of them, None for the world of the AUC. And the
days of the holdout."""
WORLDS = {"auc": binary, "logloss": binary, "root_mean_squared_error": numbers, "macro_log_loss": classes}
POLICIES = ("2.5 % a look, ignored", "2.5 % a look (the default)", "5 % a year")


def power() -> list[dict[str, Any]]:
    """How often the gain is found by looks after 14, 21 and 28 days."""
    return [
        _power_of(name, holdout, partial(WORLDS[name], worse=_worse(name, planted)))
        for name, planted, holdout in PLANTED
    ]


def _power_of(name: str, holdout: int, world: Callable[..., Pair]) -> dict[str, Any]:
    ends = [end for end in ENDS if end >= holdout]
    counts = {policy: dict.fromkeys(ends, 0) for policy in POLICIES}
    gains = []
    for seed in range(GAINS):
        pair = world(np.random.default_rng([SEED, seed]), 28, rows=ROWS)
        passed, known = dict.fromkeys(POLICIES, False), NOTHING_KNOWN
        for end in ends:
            theirs, ours = (between(rows, end - holdout, end) for rows in pair)
            found, known = _looks(theirs, ours, name, holdout, known)
            for policy, each in found.items():
                passed[policy] = passed[policy] or each
                counts[policy][end] += passed[policy]
            gains.append(metric_named(name).statistic(ours).point - metric_named(name).statistic(theirs).point)
    shares = {policy: {str(end): count / GAINS for end, count in by_end.items()} for policy, by_end in counts.items()}
    return {"metric": name, "holdout": holdout, "gain": abs(float(np.mean(gains))), "found_by_day": shares}


def _looks(
    theirs: BlockRows, ours: BlockRows, name: str, holdout: int, known: KnownCorrelation
) -> tuple[dict[str, bool], KnownCorrelation]:
    """Whether each policy passes the challenger, and what the next look knows."""
    metric = metric_named(name)
    draws = DRAWS if metric.percentiles else FEW_DRAWS
    gain = partial(gain_interval, theirs, ours, metric, seed=SEED, draws=draws)
    plain, wide, careful = gain(), gain(correlated=True), gain(correlated=True, known=known)
    cost = look_cost(Gate("auc", alpha=0.05, per="year"), 14, [(-WEEK, WEEK)]).alpha
    new = WEEK if known.blocks else holdout
    blocks = known.blocks + new
    lag1 = 0.0 if wide.correlation is None else wide.correlation.lag1
    after = KnownCorrelation((known.lag1 * known.blocks + lag1 * new) / blocks, blocks, WEEK / holdout)
    found = (plain.interval.low > 0, _passes(wide, 0.025, holdout), _passes(careful, cost, holdout))
    return dict(zip(POLICIES, found, strict=True)), after


def _passes(gain: Gain, alpha: float, holdout: int) -> bool:
    found = gain.correlation
    may_pass = found is not None and (found.enough or found.pooled is None)
    return may_pass and gain.interval.lower_bound(alpha, holdout) > 0


def between(rows: BlockRows, first: int, last: int) -> BlockRows:
    """The rows of the days [first, last)."""
    chosen = (rows.index >= first) & (rows.index < last)
    return BlockRows(rows.index[chosen], rows.truth[chosen], rows.prediction[chosen])


@cache
def _worse(name: str, planted: float | None) -> float:
    """The champion's error that costs as much as is planted."""
    if planted is None:
        return _worse("auc", 0.01)
    low, high = 0.0, 1.5
    for _ in range(8):
        middle = (low + high) / 2
        theirs, ours = WORLDS[name](np.random.default_rng(SEED), 200, worse=middle, rows=ROWS)
        values = [metric_value(name, rows.truth, rows.prediction) for rows in (theirs, ours)]
        gain = abs(values[1] - values[0]) / (1 if name == "auc" else values[1])
        low, high = (middle, high) if gain < planted else (low, middle)
    return (low + high) / 2
