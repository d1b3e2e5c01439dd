"""The gate decides whether the challenger replaces the champion. It is a pure rule on rows later than the fit's.

Whole blocks are resampled, by default days, because the rows of one day share their fate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from headrace.base.times import Instant
from headrace.bus.message import Int64
from headrace.models.prediction_task import BINARY
from headrace.trainers.gate_definition import USUAL_ALPHA, Gate, GateRule
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import DRAWS, Gain, gain_interval
from headrace.trainers.metrics.named_metrics import metric_named
from headrace.trainers.metrics.serial_correlation import LEAST_EFFECTIVE, NOTHING_KNOWN
from headrace.trainers.runs.missing_evidence import NO_CHANCE, missing_evidence, not_defined

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from headrace.models.prediction_task import PredictionTask, TaskName
    from headrace.trainers.runs.look_budget import LookCost

FORMAT = 1
ALWAYS_SHOWN: dict[TaskName, tuple[str, ...]] = {
    "binary": ("auc", "logloss"),
    "classes": ("logloss", "accuracy_score"),
    "regression": ("root_mean_squared_error", "mean_absolute_error"),
    "quantile": ("mean_pinball_loss",),
}
"""The metrics that a report has beside the one that decides."""
_OF_FIRST: dict[TaskName, str] = {
    "binary": "logloss",
    "classes": "logloss",
    "regression": "root_mean_squared_error",
    "quantile": "mean_pinball_loss",
}
"""The metric of the first version's gate: the one for which the constant of the label is the best constant."""
_CONSTANTS: dict[TaskName, str] = {
    "binary": "rate",
    "classes": "rates",
    "regression": "mean",
    "quantile": "quantiles",
}
"""What the constants that the first version has to beat are called."""

GateVerdict = Literal["passed", "refused", "postponed"]
AnchorRole = Literal["first", "best"]


class MetricComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of both models on the same rows. ``gain`` is above 0 if the challenger is better, for every metric."""

    champion: float
    challenger: float
    gain: float
    gain_low: float
    gain_high: float


class EvidenceReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the evidence says that does not decide: its verdict alone, and the deciding metric on its rows."""

    verdict: GateVerdict
    reason: str
    rows: int = 0
    compared: MetricComparison | UnsetType = UNSET


class AnchorReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The challenger against the gated fit of an anchor: the first version, the best one, or one that is both.

    ``left_out`` says why they could not be compared.
    """

    version: Int64
    roles: list[AnchorRole]
    rows: int = 0
    compared: MetricComparison | UnsetType = UNSET
    left_out: str | UnsetType = UNSET


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that the gate saw, its verdict and the reason.

    ``looks_mean`` and ``looks_max`` say how often the holdout rows have been looked at, this time included. ``blocks``
    is how many blocks there are; it is left out if they are days. ``lag1`` is the serial correlation of the deciding
    gain between blocks, and ``effective_blocks`` how many independent blocks these are worth, if the gate measures it.
    ``pooled_lag1`` is the correlation over all looks so far, with a margin, if the look may cost less than 0.025.

    ``alpha`` is the chance of a false pass that the look may cost, and ``bound`` the lower bound for it, if that is not
    the usual 0.025, for which it is ``gain_low``. ``false_pass_a_year`` is the chance over a year of such looks.

    ``positives`` and ``negatives`` are there for a label that is true or false, ``of_class`` for one with classes: the
    rows of each.

    ``decided_by`` is ``recipe`` if the champion was judged by its gated fit: then ``live`` says what its live answers
    lacked. Otherwise these counted, and ``recipe`` says what the gated fit would have. ``anchors`` are the versions
    from which a challenger may not slide away. ``from_us`` is when the holdout begins, if that is earlier because days
    without requests were left out.
    """

    format: int = FORMAT
    rule: GateRule | Literal["first"]
    metric: str
    margin: float
    verdict: GateVerdict
    reason: str
    rows: int
    days: int
    positives: int | UnsetType = UNSET
    negatives: int | UnsetType = UNSET
    looks_mean: float
    looks_max: int
    metrics: dict[str, MetricComparison]
    seed: int
    draws: int
    blocks: int | UnsetType = UNSET
    lag1: float | UnsetType = UNSET
    effective_blocks: float | UnsetType = UNSET
    pooled_lag1: float | UnsetType = UNSET
    alpha: float | UnsetType = UNSET
    bound: float | UnsetType = UNSET
    false_pass_a_year: float | UnsetType = UNSET
    of_class: dict[str, int] | UnsetType = UNSET
    decided_by: Literal["recipe"] | UnsetType = UNSET
    live: EvidenceReport | UnsetType = UNSET
    recipe: EvidenceReport | UnsetType = UNSET
    anchors: list[AnchorReport] | UnsetType = UNSET
    from_us: Instant | UnsetType = UNSET

    @property
    def too_alike(self) -> bool:
        """Whether nothing was decided because blocks are like their neighbours."""
        measured = self.effective_blocks is not UNSET and self.effective_blocks < LEAST_EFFECTIVE
        return self.verdict == "postponed" and measured


@dataclass(frozen=True)
class JudgedRows:
    """The holdout rows with the challenger's scores. Every array has one entry a row.

    ``label`` and ``score`` are truth and prediction of :class:`BlockRows`, for the ``task``. ``looks`` is how often a
    row has been looked at, this time included; one number holds for all rows. ``block`` is the row's block, if that is
    not its day.
    """

    day: NDArray[np.int64]
    label: NDArray[Any]
    score: NDArray[np.float64]
    looks: ArrayLike = 1
    block: NDArray[np.int64] | None = None
    task: PredictionTask = BINARY

    def scores(self) -> BlockRows:
        """The challenger's scores by day."""
        return self.scored_by(self.score)

    def scored_by(self, other: ArrayLike) -> BlockRows:
        """The scores that another model gave the same rows, by day."""
        block = self.day if self.block is None else self.block
        return BlockRows(block, self.label, other, quantiles=self.task.quantiles)

    def always(self, constant: ArrayLike) -> BlockRows:
        """The scores of a model that gives every row the same prediction."""
        return self.scored_by(np.broadcast_to(constant, self.task.shape(len(self.label))))

    def counts(self) -> dict[str, int]:
        """The rows of each class, by what they are called; empty if the label has no classes."""
        return class_counts(self.label, self.task)


def class_counts(label: NDArray[Any], task: PredictionTask) -> dict[str, int]:
    """Return how many labels are of each class; empty for a task without classes."""
    names = ("negatives", "positives") if task.name == "binary" else task.outputs if task.classes else ()
    counted = np.bincount(label, minlength=len(names)).tolist() if names else []
    return dict(zip(names, counted, strict=True))


class KnownRates(NamedTuple):
    """The constants of the label that were known before the holdout: of the training rows, and of their last period.

    For a label that is true or false these are the rates of true. For others they are the rates of the classes, the
    mean, or the quantiles.
    """

    of_training: Any
    of_last_period: Any


def constant(label: NDArray[Any], task: PredictionTask) -> Any:
    """Return the best prediction that is the same for every row."""
    match task.name:
        case "classes":
            return np.bincount(label, minlength=len(task.classes)) / len(label)
        case "quantile":
            return np.quantile(label, task.quantiles)
    return float(label.mean())


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
    shows_all: bool = True,
) -> GateReport:
    """Compare the challenger with the ``champion``, whose scores are of the same rows.

    The rule ``better`` passes when the lower bound of the gain is above the gate's ``margin``, ``not_worse`` when it is
    above ``-margin``. ``cost`` is what the look may cost; without it that is the gate's ``alpha``.
    Only the deciding metric is computed unless it ``shows_all``.
    """
    gate = gate or Gate("auc")
    ours, theirs = rows.scores(), rows.scored_by(champion)
    missing, metric = missing_evidence(ours, gate, rows.counts()), gate.decides_by.name
    alpha, bound = gate.alpha if cost is None else cost.alpha, float("nan")
    found: dict[str, Gain] = {}
    compared: dict[str, MetricComparison] = {}
    decided = _Decided("postponed", missing)
    if not missing:
        shown = [*map(metric_named, ALWAYS_SHOWN[rows.task.name] if shows_all else ()), gate.decides_by]
        correlated, known = gate.measures_correlation, NOTHING_KNOWN if cost is None else cost.known
        cared = known if alpha < USUAL_ALPHA else None
        found = {
            name: gain_interval(theirs, ours, each, seed=seed, draws=draws, correlated=correlated, known=cared)
            for name, each in {each.name: each for each in shown}.items()  # a metric of the user's may have no hash
        }
        missing = not_defined(metric, found[metric].interval, alpha, draws)
        found = {name: gain for name, gain in found.items() if gain.interval.is_defined}
        compared = {name: _compared(gain) for name, gain in found.items()}
        decided = _Decided("postponed", missing)
    if not missing:
        need = gate.margin if gate.rule == "better" else -gate.margin
        bound = found[metric].interval.lower_bound(alpha, len(ours.blocks))
        decided = _bound_decides(compared[metric], metric, need, bound, alpha)
        decided = _undecided(found[metric], gate, alpha, need, decided.verdict) or decided
    setting = _GateSetting(rule=gate.rule, metric=metric, margin=gate.margin, seed=seed, draws=draws)
    report = _report(rows, decided, compared, setting)
    if gate.blocks_named != "days":
        report = msgspec.structs.replace(report, blocks=len(ours.blocks))
    if cost is not None:
        report = msgspec.structs.replace(report, false_pass_a_year=cost.false_pass_a_year)
    if np.isfinite(bound) and alpha != USUAL_ALPHA:
        report = msgspec.structs.replace(report, alpha=alpha, bound=bound)
    correlation = found[metric].correlation if metric in found else None
    if correlation is None:
        return report
    pooled = UNSET if correlation.pooled is None else correlation.pooled
    return msgspec.structs.replace(
        report, lag1=correlation.lag1, effective_blocks=correlation.effective, pooled_lag1=pooled
    )


def judge_first(
    rows: JudgedRows, rates: KnownRates, gate: Gate | None = None, *, seed: int = 0, draws: int = DRAWS
) -> GateReport:
    """The gate of version 1: its log-loss must be better than that of both constant rates, by the point estimate.

    For numbers these are the root mean squared error and the means, for quantiles the pinball loss and the quantiles.
    The bound is reported but does not decide, because there is no champion to protect (docs/adr/0005-first-version.md).
    """
    ours, metric, known = rows.scores(), _OF_FIRST[rows.task.name], _CONSTANTS[rows.task.name]
    gate = gate or Gate("auc")
    missing = missing_evidence(ours, gate, rows.counts())
    compared: dict[str, MetricComparison] = {}
    decided = _Decided("postponed", missing)
    if not missing:
        constants = {f"label {known}": rates.of_training, f"last period's {known}": rates.of_last_period}
        gains = {
            f"{metric} against the {name}": gain_interval(
                rows.always(rate), ours, metric_named(metric), seed=seed, draws=draws
            )
            for name, rate in constants.items()
        }
        undefined = max(not_defined(metric, gain.interval, USUAL_ALPHA, draws) for gain in gains.values())
        compared = {name: _compared(gain) for name, gain in gains.items() if gain.interval.is_defined}
        hardest = min(gains, key=lambda name: gains[name].interval.point)
        decided = _Decided("postponed", undefined) if undefined else _point_decides(compared[hardest], hardest)
    setting = _GateSetting(rule="first", metric=metric, margin=0.0, seed=seed, draws=draws)
    report = _report(rows, decided, compared, setting)
    return report if gate.blocks_named == "days" else msgspec.structs.replace(report, blocks=len(ours.blocks))


def _compared(gain: Gain) -> MetricComparison:
    return MetricComparison(
        champion=gain.champion,
        challenger=gain.challenger,
        gain=gain.interval.point,
        gain_low=gain.interval.low,
        gain_high=gain.interval.high,
    )


def _undecided(gain: Gain, gate: Gate, alpha: float, need: float, by_bound: GateVerdict) -> _Decided | None:
    """Return the verdict where no chance is left, or neighbouring blocks are so alike that too few of them count.

    A gain passes all the same if it would be sure even at the highest correlation. One that is not above what the rule
    needs is refused: no correlation makes it better.
    """
    if alpha <= 0:
        return _Decided("postponed", NO_CHANCE)
    found = gain.correlation
    is_sure = by_bound == "passed" and found is not None and found.pooled is None
    if found is None or found.enough or is_sure or gain.interval.point <= need:
        return None
    taken = f"{found.lag1:.2f}" if found.pooled is None else f"{found.pooled:.2f}, over all looks and with a margin"
    hint = "" if found.pooled is None else "; a longer holdout has more"
    return _Decided(
        "postponed",
        f"not enough evidence in the holdout: its {gate.blocks_named} are like their neighbours (lag-1 correlation of "
        f"the gain {taken}), so they are worth {found.effective:.1f} of {LEAST_EFFECTIVE} independent ones{hint}",
    )


def _bound_decides(found: MetricComparison, name: str, need: float, bound: float, alpha: float) -> _Decided:
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
    looks, scores, classes = np.atleast_1d(np.asarray(rows.looks)), rows.scores(), rows.counts()
    is_binary = rows.task.name == "binary"
    return GateReport(
        verdict=decided.verdict,
        reason=decided.reason,
        rows=len(scores.truth),
        days=len(np.unique(rows.day)),
        positives=classes["positives"] if is_binary else UNSET,
        negatives=classes["negatives"] if is_binary else UNSET,
        of_class=classes if rows.task.classes else UNSET,
        looks_mean=float(looks.mean()) if looks.size else 0.0,
        looks_max=int(looks.max(initial=0)),
        metrics=compared,
        **msgspec.structs.asdict(setting),
    )
