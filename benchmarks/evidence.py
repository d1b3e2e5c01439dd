"""How often a gate is wrong, and what it finds: studies of synthetic blocks whose truth is known.

Each figure is the share of runs of one seed. In an A/A study both models are equally good, so a gate is right if it
refuses.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.intervals import gain_interval, t_quantile
from headrace.trainers.metrics.named_metrics import metric_named
from headrace.trainers.metrics.serial_correlation import NOTHING_KNOWN, KnownCorrelation, serial_correlation
from headrace.trainers.runs.look_budget import look_cost

from .evidence_coverage import DRAWS, FEW_DRAWS, coverage
from .evidence_entities import looks_at_entities
from .evidence_power import power
from .evidence_smallest import smallest
from .evidence_worlds import binary, classes, numbers, slow, stationary

if TYPE_CHECKING:
    from collections.abc import Callable

    from .options import Options
    from .rig import Rig

CORRELATIONS = (0.0, 0.3, 0.5, 0.8)
SLOW = "a slow drift (correlation .8) under daily noise of the same size"
LOOKS, YEARS, RUNS = 4_000, 400, 500
WEEK, HOLDOUT, YEAR = 7, 14, 364
SEED = 1


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """All studies, by seed."""
    del rig, options
    return {
        "seed": SEED,
        "looks": looks(),
        "years": years(),
        "rows": looks_at_rows(),
        "entities": looks_at_entities(),
        "coverage": coverage(),
        "power": power(),
        "smallest": smallest(),
    }


def passes(gains: np.ndarray, alpha: float, *, measured: bool, known: KnownCorrelation | None = None) -> bool:
    """Whether the mean gain of these blocks is surely above 0. This is the gate's rule for a metric that is a mean."""
    n = len(gains)
    error = gains.std(ddof=1) / np.sqrt(n)
    if not measured:
        return bool(gains.mean() > t_quantile(alpha, n - 1) * error)
    found = serial_correlation(gains, known)
    freedom = n - 1 if found.freedom is None else found.freedom
    may_pass = found.enough or found.pooled is None
    return bool(may_pass and gains.mean() > t_quantile(alpha, freedom) * error * found.widening)


def _is_postponed(gains: np.ndarray) -> bool:
    is_alike = not serial_correlation(gains).enough
    return bool(is_alike and gains.mean() > 0 and not passes(gains, 0.025, measured=True))


def looks() -> list[dict[str, Any]]:
    """False passes a look, and how often a look ends without a verdict, by what the blocks' gains are like."""
    kinds = [(f"lag-1 correlation {phi}", partial(stationary, phi=phi), 1) for phi in CORRELATIONS]
    kinds += [(SLOW, partial(slow, phi=0.8), 1), (f"{SLOW}, in blocks of 7 days", partial(slow, phi=0.8), WEEK)]
    found = []
    for blocks in (HOLDOUT, 2 * HOLDOUT):
        for name, make, days in kinds:
            generator = np.random.default_rng(SEED)
            series = [make(generator, blocks * days).reshape(blocks, days).mean(axis=1) for _ in range(LOOKS)]
            found.append(
                {
                    "blocks": blocks,
                    "gains": name,
                    "ignored": float(np.mean([passes(each, 0.025, measured=False) for each in series])),
                    "measured": float(np.mean([passes(each, 0.025, measured=True) for each in series])),
                    "postponed": float(np.mean([_is_postponed(each) for each in series])),
                }
            )
    return found


def years() -> list[dict[str, Any]]:
    """Years of weekly looks with at least one false pass. Each look at the one champion has its own challenger."""
    kinds = [(str(phi), partial(stationary, phi=phi)) for phi in CORRELATIONS] + [(SLOW, partial(slow, phi=0.8))]
    found = []
    for holdout in (HOLDOUT, 2 * HOLDOUT):
        for name, make in kinds:
            counts: dict[str, int] = {}
            for year in range(YEARS):
                for policy, passed in _year(make, holdout, year).items():
                    counts[policy] = counts.get(policy, 0) + passed
            shares = {policy: count / YEARS for policy, count in counts.items()}
            found.append({"holdout": holdout, "correlation": name, **shares})
    return found


def _year(make: Callable[..., np.ndarray], holdout: int, year: int) -> dict[str, bool]:
    """Whether one of a year's looks passes, by policy."""
    generator = np.random.default_rng([SEED, year])
    champion, ends = make(generator, YEAR), range(holdout, YEAR + 1, WEEK)
    gains = [make(generator, holdout) - champion[end - holdout : end] for end in ends]
    cost = look_cost(Gate("auc", alpha=0.05, per="year"), HOLDOUT, [(-WEEK, WEEK)]).alpha
    seen = _known(gains, holdout)
    return {
        "look, ignored": any(passes(each, 0.025, measured=False) for each in gains),
        "look, measured": any(passes(each, 0.025, measured=True) for each in gains),
        "year, ignored": any(passes(each, cost, measured=False) for each in gains),
        "year, measured": any(
            passes(each, cost, measured=True, known=known) for each, known in zip(gains, seen, strict=True)
        ),
    }


def _known(gains: list[np.ndarray], holdout: int) -> list[KnownCorrelation]:
    """What each look knows of the looks before: each adds a week."""
    found, blocks, total = [], 0.0, 0.0
    for each in gains:
        found.append(KnownCorrelation(total / blocks, blocks, WEEK / holdout) if blocks else NOTHING_KNOWN)
        new = WEEK if blocks else holdout
        blocks, total = blocks + new, total + new * serial_correlation(each).lag1
    return found


def looks_at_rows() -> list[dict[str, Any]]:
    """False passes a look at 14 days of rows, by metric: what the models err by on whole days is correlated."""
    worlds = {"auc": binary, "root_mean_squared_error": numbers, "macro_log_loss": classes}
    return [
        {"metric": name, "correlation": phi, **_look_at_rows(name, partial(world, rows=300, phi=phi, of_day=3.0))}
        for name, world in worlds.items()
        for phi in CORRELATIONS
    ]


def _look_at_rows(name: str, world: Callable[..., Any]) -> dict[str, float]:
    metric, ignored, measured, lags = metric_named(name), [], [], []
    draws = DRAWS if metric.percentiles else FEW_DRAWS
    for seed in range(RUNS):
        champion, challenger = world(np.random.default_rng([SEED, seed]), HOLDOUT)
        plain = gain_interval(champion, challenger, metric, seed=SEED, draws=draws)
        wide = gain_interval(champion, challenger, metric, seed=SEED, draws=draws, correlated=True)
        ignored.append(plain.interval.low > 0)
        measured.append(wide.interval.low > 0)
        lags.append(0.0 if wide.correlation is None else wide.correlation.lag1)
    return {"lag1": float(np.mean(lags)), "ignored": float(np.mean(ignored)), "measured": float(np.mean(measured))}
