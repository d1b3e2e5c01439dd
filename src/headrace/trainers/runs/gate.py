"""The gate: does the challenger replace the champion? A pure rule on time-forward rows; whole days are resampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from headrace.trainers.day_scores import DRAWS, DayScores, Interval, Metric, gain

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FORMAT = 1
MIN_DAYS = 14
MIN_ROWS = 2_000
MIN_CLASS = 100
METRICS: tuple[Metric, ...] = ("auc", "logloss")

GateRule = Literal["better", "not_worse", "first"]
GateVerdict = Literal["passed", "refused", "postponed"]


class MetricComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of both on the same rows. ``gain`` is above 0 where the challenger is better, for any metric."""

    champion: float
    challenger: float
    gain: float
    gain_low: float
    gain_high: float


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate saw and said. ``looks``: how often each holdout row has been looked at, this time included."""

    format: int = FORMAT
    rule: GateRule
    metric: Metric
    margin: float
    verdict: GateVerdict
    reason: str
    rows: int
    days: int
    positives: int
    negatives: int
    looks_mean: float
    looks_max: int
    metrics: dict[str, MetricComparison]
    seed: int
    draws: int


def judge(
    day: ArrayLike,
    label: ArrayLike,
    champion: ArrayLike,
    challenger: ArrayLike,
    *,
    metric: Metric = "auc",
    rule: Literal["better", "not_worse"] = "better",
    margin: float = 0.0,
    looks: ArrayLike = 1,
    seed: int = 0,
    draws: int = DRAWS,
) -> GateReport:
    """Compare both on the holdout's rows: one entry a row in every array.

    ``better`` passes when the lower bound of the gain is above ``margin``, ``not_worse`` when it is above ``-margin``.
    """
    ours, theirs = DayScores(day, label, challenger), DayScores(day, label, champion)
    missing = _missing_evidence(ours)
    compared: dict[str, MetricComparison] = {}
    decided: tuple[GateVerdict, str] = ("postponed", missing)
    if not missing:
        compared = {name: _compare(theirs, ours, name, seed, draws) for name in METRICS}
        decided = _bound_decides(compared[metric], metric, margin if rule == "better" else -margin)
    how = _GateSetting(rule=rule, metric=metric, margin=margin, seed=seed, draws=draws)
    return _report(ours, decided, compared, looks, how)


def judge_first(
    day: ArrayLike,
    label: ArrayLike,
    challenger: ArrayLike,
    *,
    label_rate: float,
    last_rate: float,
    looks: ArrayLike = 1,
    seed: int = 0,
    draws: int = DRAWS,
) -> GateReport:
    """The gate of version 1: in log-loss it must beat two constants known before the holdout, by the point estimate.

    There is no champion to protect, so the bound is reported but does not decide (docs/adr/0005-first-version.md).

    ``label_rate``: the rate of positives in the training rows; ``last_rate``: that of their last period.
    """
    ours = DayScores(day, label, challenger)
    missing = _missing_evidence(ours)
    compared: dict[str, MetricComparison] = {}
    decided: tuple[GateVerdict, str] = ("postponed", missing)
    if not missing:
        shape = np.shape(label)
        for name, rate in (("label rate", label_rate), ("last period's rate", last_rate)):
            constant = DayScores(day, label, np.full(shape, rate))
            compared[f"logloss against the {name}"] = _compare(constant, ours, "logloss", seed, draws)
        hardest = min(compared, key=lambda name: compared[name].gain)
        decided = _point_decides(compared[hardest], hardest)
    how = _GateSetting(rule="first", metric="logloss", margin=0.0, seed=seed, draws=draws)
    return _report(ours, decided, compared, looks, how)


def _missing_evidence(scores: DayScores) -> str:
    found = (len(scores.days), scores.rows.sum(), scores.positives.sum(), scores.negatives.sum())
    need = (MIN_DAYS, MIN_ROWS, MIN_CLASS, MIN_CLASS)
    names = ("days", "rows", "positives", "negatives")
    short = [f"{int(n):,} of {m:,} {name}" for n, m, name in zip(found, need, names, strict=True) if n < m]
    return f"not enough evidence: {', '.join(short)}" if short else ""


def _compare(champion: DayScores, challenger: DayScores, metric: Metric, seed: int, draws: int) -> MetricComparison:
    found: Interval = gain(champion, challenger, metric, seed=seed, draws=draws)
    return MetricComparison(
        champion=champion.point(metric),
        challenger=challenger.point(metric),
        gain=found.point,
        gain_low=found.low,
        gain_high=found.high,
    )


def _bound_decides(found: MetricComparison, name: str, need: float) -> tuple[GateVerdict, str]:
    passed = found.gain_low > need
    reason = (
        f"{name} {found.champion:.4f} → {found.challenger:.4f}, gain {found.gain:+.4f} "
        f"[{found.gain_low:+.4f}, {found.gain_high:+.4f}]: the lower bound is "
        f"{'above' if passed else 'not above'} {need:+.4f}"
    )
    return ("passed" if passed else "refused"), reason


def _point_decides(found: MetricComparison, name: str) -> tuple[GateVerdict, str]:
    beaten = found.gain > 0
    reason = (
        f"{name} {found.champion:.4f} → {found.challenger:.4f}, gain {found.gain:+.4f} "
        f"[{found.gain_low:+.4f}, {found.gain_high:+.4f}]: {'beaten' if beaten else 'not beaten'}"
    )
    return ("passed" if beaten else "refused"), reason


class _GateSetting(msgspec.Struct, frozen=True, kw_only=True):
    rule: GateRule
    metric: Metric
    margin: float
    seed: int
    draws: int


def _report(
    scores: DayScores,
    decided: tuple[GateVerdict, str],
    compared: dict[str, MetricComparison],
    looks: ArrayLike,
    how: _GateSetting,
) -> GateReport:
    seen = np.atleast_1d(np.asarray(looks))
    return GateReport(
        verdict=decided[0],
        reason=decided[1],
        rows=int(scores.rows.sum()),
        days=len(scores.days),
        positives=int(scores.positives.sum()),
        negatives=int(scores.negatives.sum()),
        looks_mean=float(seen.mean()) if seen.size else 0.0,
        looks_max=int(seen.max(initial=0)),
        metrics=compared,
        **msgspec.structs.asdict(how),
    )
