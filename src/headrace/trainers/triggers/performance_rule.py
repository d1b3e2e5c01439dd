"""The rule `performance`: the live metric has surely become worse."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, get_args

import numpy as np
from msgspec import UNSET

from headrace.errors import DefinitionError, NotMeasuredError
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import gain_interval, metric_interval
from headrace.trainers.metrics.named_metrics import metric_for
from headrace.trainers.triggers.rule_parts import check_positive, verdict_of
from headrace.trainers.triggers.trigger_specs import Against, PerformanceSpec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from headrace.trainers.metrics.metric import Metric
    from headrace.trainers.triggers.evidence import Compared, Evidence, Outcomes
    from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict
    from headrace.trainers.triggers.trigger_state import TriggerState

LIVE_DAYS = 14
LIVE_OUTCOMES = 5_000
_LEAST_DAYS = 7  # fewer have neither bounds nor a serial correlation that could be believed


@dataclass(frozen=True)
class PerformanceRule:
    """Fires when the live metric is surely worse by more than ``drop`` than that of what it is compared with.

    "Surely" means by the bound of the resampled days. They are the newest ``days`` or more with ``outcomes`` or more.
    Compared ``against`` the version's own first days, these are not among them. The previous version, or a refit on
    older rows, is compared on the same rows.
    """

    metric: str | Metric
    drop: float
    seed: int = 0
    name: str = "performance"
    against: Against = "first_days"
    days: int = LIVE_DAYS
    outcomes: int = LIVE_OUTCOMES

    def __post_init__(self) -> None:
        check_positive(f"{self.name}(drop=…)", self.drop)
        _ = self.measures  # its own checks
        if self.against not in get_args(Against):
            raise DefinitionError(f"{self.name}(against=…): {self.against!r} is none of {list(get_args(Against))}")
        self._check_floors()

    def _check_floors(self) -> None:
        for floor, usual, least in (("days", LIVE_DAYS, _LEAST_DAYS), ("outcomes", LIVE_OUTCOMES, 1)):
            given: object = getattr(self, floor)
            if not isinstance(given, int) or isinstance(given, bool) or given < least:
                message = f"{self.name}({floor}=…): {given!r} must be a whole number of {least} or more"
                raise DefinitionError(message)
            if given < usual:
                warnings.warn(
                    f"{self.name}({floor}={given}) is below {usual:,}: how often the rule is wrong was not measured "
                    "for so little evidence",
                    stacklevel=5,
                )

    @cached_property
    def measures(self) -> Metric:
        """The metric itself, where ``metric`` may be its name."""
        return metric_for(self.name, self.metric)

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return the reference, the live value and a bound, with the number of days and outcomes."""
        outcomes = evidence.outcomes()
        days = np.unique(outcomes.day)
        first = days[: self.days]
        window = self._newest(outcomes, days[self.days :] if self.against == "first_days" else days)
        in_window = np.isin(outcomes.day, window)
        inputs: RuleInputs = {"days": len(window), "outcomes": int(in_window.sum()), "reference_days": len(first)}
        inputs |= {"reference": None, "value": None, "bound": None}
        inputs |= {} if self.against == "first_days" else {"against": self.against}
        if len(window) < self.days or in_window.sum() < self.outcomes:
            return inputs
        seed = self.seed + evidence.day
        if self.against == "first_days":
            return inputs | self._with_first_days(outcomes, np.isin(outcomes.day, first), in_window, seed)
        if evidence.compared is None:
            return inputs | {"lacking": f"nothing is there to compare with: this process loads no {self.against}"}
        found = self._with_other(evidence.compared(self.against, int(window[0])), seed)
        own_first = self.measures.statistic(_rows_by_day(outcomes, np.isin(outcomes.day, first))).point
        return inputs | found | {"first_days": _number(own_first)}

    def _with_first_days(
        self, outcomes: Outcomes, first: NDArray[np.bool_], newest: NDArray[np.bool_], seed: int
    ) -> RuleInputs:
        metric = self.measures
        found = metric_interval(_rows_by_day(outcomes, newest), metric, seed=seed)
        bound = found.high if metric.higher_is_better else found.low
        reference = metric.statistic(_rows_by_day(outcomes, first)).point
        return {"reference": _number(reference), "value": _number(found.point), "bound": _number(bound)}

    def _with_other(self, compared: Compared, seed: int) -> RuleInputs:
        """Return the loss against the other model on the same rows: above 0 if the live version is worse."""
        outcomes, days = compared.outcomes, len(np.unique(compared.outcomes.day))
        counted: RuleInputs = {"days": days, "outcomes": len(outcomes.day)}
        if compared.lacking or days < self.days or len(outcomes.day) < self.outcomes:
            lacking = compared.lacking or f"too few of its outcomes were predicted by {compared.name} too"
            return counted | {"lacking": lacking}
        every = np.ones(len(outcomes.day), np.bool_)
        live, other = _rows_by_day(outcomes, every), _rows_by_day(outcomes, every, compared.other)
        found = gain_interval(live, other, self.measures, seed=seed, correlated=True)
        return counted | {
            "other": compared.name,
            "reference": _number(found.challenger),
            "value": _number(found.champion),
            "lost": _number(found.interval.point),
            "bound": _number(found.interval.low),
        }

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare what is surely lost with the drop. Raises NotMeasuredError if it was compared with something else."""
        del state, t_us
        if inputs.get("against", "first_days") != self.against:
            raise NotMeasuredError(f"{self.name}: nothing was measured against {self.against!r}")
        if inputs["reference"] is None or inputs["bound"] is None:
            return [verdict_of(self.name, fired=False, reason=self._unknown(inputs), progress=0.0)]
        reference, bound, name = inputs["reference"], inputs["bound"], self.measures.name
        if "other" in inputs:
            lost, first = bound, inputs["first_days"]
            reason = (
                f"{name} {inputs['value']:.4f} over {inputs['days']} days, {reference:.4f} for {inputs['other']} on "
                f"the same rows: surely worse by {max(lost, 0.0):.4f}, limit {self.drop:.4f}"
            )
            reason += "" if first is None else f"; in its first {inputs['reference_days']} live days {first:.4f}"
        else:
            lost = (reference - bound) if self.measures.higher_is_better else (bound - reference)
            reason = (
                f"{name} {inputs['value']:.4f} (at best {bound:.4f}) over {inputs['days']} days, {reference:.4f} in "
                f"the first {self.days} live days: worse by {max(lost, 0.0):.4f}, limit {self.drop:.4f}"
            )
        return [verdict_of(self.name, lost > self.drop, reason, lost / self.drop)]

    def _unknown(self, inputs: RuleInputs) -> str:
        have = f"{inputs['days']} of {self.days} days, {inputs['outcomes']:,} of {self.outcomes:,} outcomes"
        if "lacking" in inputs:
            return f"{inputs['lacking']} ({have})"
        if inputs["days"] >= self.days and inputs["outcomes"] >= self.outcomes:
            return f"{self.measures.name} is not defined for these outcomes, or for too many resamples of them"
        after = f" after the first {self.days} live days" if self.against == "first_days" else ""
        return f"not enough outcomes{after}: {have}"

    @cached_property
    def spec(self) -> PerformanceSpec:
        """The rule as data."""
        return PerformanceSpec(
            metric=self.measures.name,
            drop=self.drop,
            against=UNSET if self.against == "first_days" else self.against,
            days=UNSET if self.days == LIVE_DAYS else self.days,
            outcomes=UNSET if self.outcomes == LIVE_OUTCOMES else self.outcomes,
        )

    def labels(self) -> int | None:
        """None: the rule asks for no volume."""
        return None

    def _newest(self, outcomes: Outcomes, days: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the newest days that have enough outcomes, and are enough; all days if they are too few."""
        if not len(days):
            return days
        counts = np.bincount(outcomes.day[outcomes.day >= days[0]] - days[0])[days - days[0]]
        enough = np.flatnonzero(np.cumsum(counts[::-1]) >= self.outcomes)
        newest = max(self.days, int(enough[0]) + 1) if len(enough) else len(days)
        return days[-newest:]


def _rows_by_day(outcomes: Outcomes, rows: NDArray[np.bool_], score: ArrayLike | None = None) -> BlockRows:
    scores = outcomes.score if score is None else np.asarray(score, np.float64)
    return BlockRows(outcomes.day[rows], outcomes.label[rows], scores[rows], quantiles=outcomes.quantiles)


def _number(value_: float) -> float | None:
    return value_ if np.isfinite(value_) else None
