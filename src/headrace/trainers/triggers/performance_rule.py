"""The rule `performance`: the live metric has surely become worse."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import metric_interval
from headrace.trainers.metrics.named_metrics import metric_for
from headrace.trainers.triggers.rule_parts import check_positive, verdict_of
from headrace.trainers.triggers.trigger_specs import PerformanceSpec

if TYPE_CHECKING:
    from headrace.trainers.metrics.metric import Metric
    from headrace.trainers.triggers.evidence import Evidence, Outcomes
    from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict
    from headrace.trainers.triggers.trigger_state import TriggerState

LIVE_DAYS = 14
LIVE_OUTCOMES = 5_000


@dataclass(frozen=True)
class PerformanceRule:
    """Fires when the live metric is worse than in the version's first 14 live days, surely and by more than ``drop``.

    "Surely" means by the better bound of the resampled days. They are the newest 14 or more days with 5,000 or more
    outcomes, without those first days.
    """

    metric: str | Metric
    drop: float
    seed: int = 0
    name: str = "performance"

    def __post_init__(self) -> None:
        check_positive(f"{self.name}(drop=…)", self.drop)
        _ = self.measures  # its own checks

    @cached_property
    def measures(self) -> Metric:
        """The metric itself, where ``metric`` may be its name."""
        return metric_for(self.name, self.metric)

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return the reference, the live value and its better bound, with the number of days and outcomes."""
        outcomes, metric = evidence.outcomes(), self.measures
        days = np.unique(outcomes.day)
        first, window = days[:LIVE_DAYS], _newest_window(outcomes, days[LIVE_DAYS:])
        in_window = np.isin(outcomes.day, window)
        inputs: RuleInputs = {"days": len(window), "outcomes": int(in_window.sum()), "reference_days": len(first)}
        measured: dict[str, float | None] = {"reference": None, "value": None, "bound": None}
        if len(window) >= LIVE_DAYS and in_window.sum() >= LIVE_OUTCOMES:
            seed = self.seed + evidence.day
            found = metric_interval(_rows_by_day(outcomes, in_window), metric, seed=seed)
            bound = found.high if metric.higher_is_better else found.low
            reference = metric.statistic(_rows_by_day(outcomes, np.isin(outcomes.day, first))).point
            measured = {"reference": _number(reference), "value": _number(found.point), "bound": _number(bound)}
        return inputs | measured

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare the better bound with the reference minus the drop."""
        del state, t_us
        reference, bound = inputs["reference"], inputs["bound"]
        if reference is None or bound is None:
            have = f"{inputs['days']} of {LIVE_DAYS} days, {inputs['outcomes']:,} of {LIVE_OUTCOMES:,} outcomes"
            reason = f"not enough outcomes after the first {LIVE_DAYS} live days: {have}"
            if inputs["days"] >= LIVE_DAYS and inputs["outcomes"] >= LIVE_OUTCOMES:
                reason = f"{self.measures.name} is not defined for these outcomes, or for too many resamples of them"
            return [verdict_of(self.name, fired=False, reason=reason, progress=0.0)]
        lost = (reference - bound) if self.measures.higher_is_better else (bound - reference)
        reason = (
            f"{self.measures.name} {inputs['value']:.4f} (at best {bound:.4f}) over {inputs['days']} days, "
            f"{reference:.4f} in the first {LIVE_DAYS} live days: worse by {max(lost, 0.0):.4f}, limit {self.drop:.4f}"
        )
        return [verdict_of(self.name, lost > self.drop, reason, lost / self.drop)]

    @cached_property
    def spec(self) -> PerformanceSpec:
        """The rule as data."""
        return PerformanceSpec(metric=self.measures.name, drop=self.drop)

    def labels(self) -> int | None:
        """None: the rule asks for no volume."""
        return None


def _newest_window(outcomes: Outcomes, days: np.ndarray) -> np.ndarray:
    """Return the newest days that make at least 14 days and 5,000 outcomes, or all days if there are fewer."""
    if not len(days):
        return days
    counts = np.bincount(outcomes.day[outcomes.day >= days[0]] - days[0])[days - days[0]]
    enough = np.flatnonzero(np.cumsum(counts[::-1]) >= LIVE_OUTCOMES)
    newest = max(LIVE_DAYS, int(enough[0]) + 1) if len(enough) else len(days)
    return days[-newest:]


def _rows_by_day(outcomes: Outcomes, rows: np.ndarray) -> BlockRows:
    return BlockRows(outcomes.day[rows], outcomes.label[rows], outcomes.score[rows], quantiles=outcomes.quantiles)


def _number(value_: float) -> float | None:
    return value_ if np.isfinite(value_) else None
