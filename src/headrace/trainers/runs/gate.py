"""The gate decides whether the challenger replaces the champion. It is a pure rule on rows later than the fit's.

Whole blocks are resampled, by default days, because the rows of one day share their fate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from headrace.trainers.gate_definition import USUAL_ALPHA, Gate, GateRule
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import DRAWS, Gain, Interval, gain_interval
from headrace.trainers.metrics.named_metrics import metric_named
from headrace.trainers.metrics.serial_correlation import LEAST_EFFECTIVE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from headrace.trainers.runs.look_budget import LookCost

FORMAT = 1
ALWAYS_SHOWN = ("auc", "logloss")
"""The metrics that a report has beside the one that decides."""

NO_CHANCE = "the gate has looked at these days before: no chance of a false pass is left"
"""Why a look that may cost nothing is postponed."""

GateVerdict = Literal["passed", "refused", "postponed"]


class MetricComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of both models on the same rows. ``gain`` is above 0 if the challenger is better, for every metric."""

    champion: float
    challenger: float
    gain: float
    gain_low: float
    gain_high: float


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that the gate saw, its verdict and the reason.

    ``looks_mean`` and ``looks_max`` say how often the holdout rows have been looked at, this time included. ``blocks``
    is how many blocks there are; it is left out if they are days. ``lag1`` is the serial correlation of the deciding
    gain between blocks, and ``effective_blocks`` how many independent blocks these are worth, if the gate measures it.

    ``alpha`` is the chance of a false pass that the look may cost, and ``bound`` the lower bound for it, if that is not
    the usual 0.025, for which it is ``gain_low``. ``false_pass_a_year`` is the chance over a year of such looks.
    """

    format: int = FORMAT
    rule: GateRule | Literal["first"]
    metric: str
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
    blocks: int | UnsetType = UNSET
    lag1: float | UnsetType = UNSET
    effective_blocks: float | UnsetType = UNSET
    alpha: float | UnsetType = UNSET
    bound: float | UnsetType = UNSET
    false_pass_a_year: float | UnsetType = UNSET


@dataclass(frozen=True)
class JudgedRows:
    """The holdout rows with the challenger's scores. Every array has one entry a row.

    ``label`` is 0 or 1, ``score`` a probability. ``looks`` is how often a row has been looked at, this time included;
    one number holds for all rows. ``block`` is the row's block, if that is not its day.
    """

    day: NDArray[np.int64]
    label: NDArray[np.int8]
    score: NDArray[np.float64]
    looks: ArrayLike = 1
    block: NDArray[np.int64] | None = None

    def scores(self) -> BlockRows:
        """The challenger's scores by day."""
        return self.scored_by(self.score)

    def scored_by(self, other: ArrayLike) -> BlockRows:
        """The scores that another model gave the same rows, by day."""
        return BlockRows(self.day if self.block is None else self.block, self.label, other)

    def always(self, rate: float) -> BlockRows:
        """The scores of a model that gives every row the same probability."""
        return self.scored_by(np.full(np.shape(self.label), rate))


class KnownRates(NamedTuple):
    """The rates of the label that were known before the holdout: in the training rows, and in their last period."""

    of_training: float
    of_last_period: float


class _Decided(NamedTuple):
    verdict: GateVerdict
    reason: str


def judge(
    rows: JudgedRows,
    champion: ArrayLike,
    gate: Gate | None = None,
    *,
    cost: LookCost | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> GateReport:
    """Compare the challenger with the ``champion``, whose scores are of the same rows.

    The rule ``better`` passes when the lower bound of the gain is above the gate's ``margin``, ``not_worse`` when it is
    above ``-margin``. ``cost`` is what the look may cost; without it that is the gate's ``alpha``.
    """
    gate = gate or Gate("auc")
    ours, theirs = rows.scores(), rows.scored_by(champion)
    missing, metric = missing_evidence(ours, gate), gate.decides_by.name
    alpha, bound = gate.alpha if cost is None else cost.alpha, float("nan")
    found: dict[str, Gain] = {}
    compared: dict[str, MetricComparison] = {}
    decided = _Decided("postponed", missing)
    if not missing:
        shown = [*map(metric_named, ALWAYS_SHOWN), gate.decides_by]
        correlated = gate.serial_correlation == "measured"
        found = {
            name: gain_interval(theirs, ours, each, seed=seed, draws=draws, correlated=correlated)
            for name, each in {each.name: each for each in shown}.items()  # a metric of the user's may have no hash
        }
        undefined = not_defined(metric, found[metric].interval, draws)
        found = {name: gain for name, gain in found.items() if gain.interval.is_defined}
        compared = {name: _compared(gain) for name, gain in found.items()}
        decided = _Decided("postponed", undefined)
    if metric in found:
        need = gate.margin if gate.rule == "better" else -gate.margin
        bound = found[metric].interval.lower_bound(alpha, len(ours.blocks))
        decided = _too_alike(found[metric], gate) or _bound_decides(compared[metric], metric, need, bound, alpha)
    setting = _GateSetting(rule=gate.rule, metric=metric, margin=gate.margin, seed=seed, draws=draws)
    report = _report(rows, decided, compared, setting)
    if gate.blocks_named != "days":
        report = msgspec.structs.replace(report, blocks=len(ours.blocks))
    if cost is not None:
        report = msgspec.structs.replace(report, false_pass_a_year=cost.false_pass_a_year)
    if metric in found and alpha not in {0, USUAL_ALPHA}:
        report = msgspec.structs.replace(report, alpha=alpha, bound=bound)
    correlation = found[metric].correlation if metric in found else None
    if correlation is None:
        return report
    return msgspec.structs.replace(report, lag1=correlation.lag1, effective_blocks=correlation.effective)


def judge_first(
    rows: JudgedRows, rates: KnownRates, gate: Gate | None = None, *, seed: int = 0, draws: int = DRAWS
) -> GateReport:
    """The gate of version 1: its log-loss must be better than that of both constant rates, by the point estimate.

    The bound is reported but does not decide, because there is no champion to protect (docs/adr/0005-first-version.md).
    """
    ours = rows.scores()
    missing = missing_evidence(ours, gate or Gate("auc"))
    compared: dict[str, MetricComparison] = {}
    decided = _Decided("postponed", missing)
    if not missing:
        for name, rate in (("label rate", rates.of_training), ("last period's rate", rates.of_last_period)):
            gain = gain_interval(rows.always(rate), ours, metric_named("logloss"), seed=seed, draws=draws)
            compared[f"logloss against the {name}"] = _compared(gain)
        hardest = min(compared, key=lambda name: compared[name].gain)
        decided = _point_decides(compared[hardest], hardest)
    setting = _GateSetting(rule="first", metric="logloss", margin=0.0, seed=seed, draws=draws)
    return _report(rows, decided, compared, setting)


def missing_evidence(scores: BlockRows, gate: Gate) -> str:
    """Return what a holdout lacks to be judged by, empty if it lacks nothing. The scores themselves do not count."""
    floors = gate.floors
    need = {
        gate.blocks_named: floors.blocks,
        "rows": floors.rows,
        "positives": floors.of_class,
        "negatives": floors.of_class,
    }
    positives = int(scores.positive.sum())
    found = (len(scores.blocks), len(scores.truth), positives, len(scores.truth) - positives)
    short = [f"{n:,} of {m:,} {name}" for n, (name, m) in zip(found, need.items(), strict=True) if n < m]
    return f"not enough evidence in the holdout: {', '.join(short)}" if short else ""


def not_defined(metric: str, found: Interval, draws: int = DRAWS) -> str:
    """Return in how many resamples a metric is not defined, in words; an empty text if its bounds hold all the same."""
    if found.is_defined:
        return ""
    where = f"in {found.undefined:,} of {draws:,} resamples of the holdout" if np.isfinite(found.point) else "on it"
    return f"not enough evidence in the holdout: {metric} is not defined {where}"


def _compared(gain: Gain) -> MetricComparison:
    return MetricComparison(
        champion=gain.champion,
        challenger=gain.challenger,
        gain=gain.interval.point,
        gain_low=gain.interval.low,
        gain_high=gain.interval.high,
    )


def _too_alike(gain: Gain, gate: Gate) -> _Decided | None:
    """Return the verdict where neighbouring blocks are so alike that too few of them count."""
    found = gain.correlation
    if found is None or found.enough:
        return None
    return _Decided(
        "postponed",
        f"not enough evidence in the holdout: its {gate.blocks_named} are like their neighbours (lag-1 correlation of "
        f"the gain {found.lag1:.2f}), so they are worth {found.effective:.1f} of {LEAST_EFFECTIVE} independent ones",
    )


def _bound_decides(found: MetricComparison, name: str, need: float, bound: float, alpha: float) -> _Decided:
    if alpha <= 0:
        return _Decided("postponed", NO_CHANCE)
    passed = bound > need
    which = "" if alpha == USUAL_ALPHA else f" for a chance of {alpha:.2%} of a false pass, {bound:+.4f},"
    reason = (
        f"{name} {found.champion:.4f} → {found.challenger:.4f}, gain {found.gain:+.4f} "
        f"[{found.gain_low:+.4f}, {found.gain_high:+.4f}]: the lower bound{which} is "
        f"{'above' if passed else 'not above'} {need:+.4f}"
    )
    return _Decided("passed" if passed else "refused", reason)


def _point_decides(found: MetricComparison, name: str) -> _Decided:
    beaten = found.gain > 0
    reason = (
        f"{name} {found.champion:.4f} → {found.challenger:.4f}, gain {found.gain:+.4f} "
        f"[{found.gain_low:+.4f}, {found.gain_high:+.4f}]: {'beaten' if beaten else 'not beaten'}"
    )
    return _Decided("passed" if beaten else "refused", reason)


class _GateSetting(msgspec.Struct, frozen=True, kw_only=True):
    rule: GateRule | Literal["first"]
    metric: str
    margin: float
    seed: int
    draws: int


def _report(
    rows: JudgedRows, decided: _Decided, compared: dict[str, MetricComparison], setting: _GateSetting
) -> GateReport:
    looks, scores = np.atleast_1d(np.asarray(rows.looks)), rows.scores()
    return GateReport(
        verdict=decided.verdict,
        reason=decided.reason,
        rows=len(scores.truth),
        days=len(np.unique(rows.day)),
        positives=int(scores.positive.sum()),
        negatives=int((~scores.positive).sum()),
        looks_mean=float(looks.mean()) if looks.size else 0.0,
        looks_max=int(looks.max(initial=0)),
        metrics=compared,
        **msgspec.structs.asdict(setting),
    )
