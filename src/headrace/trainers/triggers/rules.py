"""The trigger rules that headrace has, and the functions with which a user names them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headrace.base.times import Duration, duration_us, format_duration
from headrace.errors import DefinitionError, NotMeasuredError, naming
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import metric_interval
from headrace.trainers.metrics.named_metrics import metric_for
from headrace.trainers.triggers.evidence import DAY_US, Evidence
from headrace.trainers.triggers.score_drift import most_drift
from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict, TriggerRule, expect_rules
from headrace.trainers.triggers.trigger_specs import (
    AtLeastSpec,
    PerformanceSpec,
    ScheduleSpec,
    ScoreDriftSpec,
    VolumeSpec,
)

if TYPE_CHECKING:
    from headrace.trainers.metrics.metric import Metric
    from headrace.trainers.triggers.evidence import Outcomes
    from headrace.trainers.triggers.trigger_state import TriggerState

LIVE_DAYS = 14
LIVE_OUTCOMES = 5_000


@dataclass(frozen=True)
class VolumeRule:
    """Fires on ``count`` matured labels since the last finished run."""

    count: int
    name: str = "volume"

    def __post_init__(self) -> None:
        _positive(f"{self.name}(labels=…)", self.count)

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return the total of matured labels."""
        return {"matured_labels": evidence.matured_labels}

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare the labels since the baseline with the count."""
        del t_us
        new = max(0, inputs["matured_labels"] - state.baseline_labels)
        reason = f"{new:,} of {self.count:,} matured labels since {state.labels_since}"
        return [_verdict(self.name, new >= self.count, reason, new / self.count)]

    @cached_property
    def spec(self) -> VolumeSpec:
        """The rule as data."""
        return VolumeSpec(labels=self.count)

    def labels(self) -> int | None:
        """The count."""
        return self.count


@dataclass(frozen=True)
class ScoreDriftRule:
    """Fires when the scores of the newest ``sample`` of days differ from those of the days before it.

    The difference must be more than ``psi`` and more than days without drift differ from each other.
    """

    psi: float
    sample: Duration
    seed: int = 0
    name: str = "drift"

    def __post_init__(self) -> None:
        _positive(f"{self.name}(psi=…)", self.psi)
        _whole_days(f"{self.name}(sample=…)", self.sample)

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return the PSI, the resampled threshold, and the number of days in the sample and in the reference."""
        scores = evidence.scores()
        days = duration_us(self.sample) // DAY_US
        found = most_drift(
            scores.day, scores.score, self.psi, until_day=evidence.day, sample_days=days, seed=self.seed + evidence.day
        )
        return {
            "psi": found.psi,
            "resampled": found.threshold,
            "sample_days": found.sample_days,
            "reference_days": found.reference_days,
            "needed_days": found.needed_days,
        }

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare the PSI with the larger of the two thresholds."""
        del state, t_us
        if inputs["psi"] is None:
            have, need = inputs["reference_days"], inputs["needed_days"]
            sample = format_duration(duration_us(self.sample))
            reason = f"too few days to compare with: {have} of {need} served days before the sample of {sample}"
            return [_verdict(self.name, fired=False, reason=reason, progress=0.0)]
        limit = max(self.psi, inputs["resampled"])
        reason = (
            f"score PSI {inputs['psi']:.3f}, limit {limit:.3f}: the larger of the rule's {self.psi:.3f} and "
            f"{inputs['resampled']:.3f}, which days without drift reach"
        )
        return [_verdict(self.name, inputs["psi"] > limit, reason, inputs["psi"] / limit)]

    @cached_property
    def spec(self) -> ScoreDriftSpec:
        """The rule as data."""
        return ScoreDriftSpec(psi=self.psi, sample=format_duration(duration_us(self.sample)))

    def labels(self) -> int | None:
        """None: the rule needs no labels."""
        return None


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
        _positive(f"{self.name}(drop=…)", self.drop)
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
            return [_verdict(self.name, fired=False, reason=reason, progress=0.0)]
        lost = (reference - bound) if self.measures.higher_is_better else (bound - reference)
        reason = (
            f"{self.measures.name} {inputs['value']:.4f} (at best {bound:.4f}) over {inputs['days']} days, "
            f"{reference:.4f} in the first {LIVE_DAYS} live days: worse by {max(lost, 0.0):.4f}, limit {self.drop:.4f}"
        )
        return [_verdict(self.name, lost > self.drop, reason, lost / self.drop)]

    @cached_property
    def spec(self) -> PerformanceSpec:
        """The rule as data."""
        return PerformanceSpec(metric=self.measures.name, drop=self.drop)

    def labels(self) -> int | None:
        """None: the rule asks for no volume."""
        return None


@dataclass(frozen=True)
class ScheduleRule:
    """Fires when the last finished run ended ``every`` ago or earlier, in event time."""

    every: Duration
    name: str = "schedule"

    def __post_init__(self) -> None:
        with naming(f"{self.name}(every=…)"):
            every_us = duration_us(self.every)
        _positive(f"{self.name}(every=…)", every_us)

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return nothing: ``judge`` gets the clock anyway."""
        del evidence
        return {}

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare the time since the baseline with the interval."""
        del inputs
        since, every = t_us - state.baseline_t_us, duration_us(self.every)
        reason = f"{since / DAY_US:.1f} of {every / DAY_US:.1f} days since {state.since}"
        return [_verdict(self.name, since >= every, reason, since / every)]

    @cached_property
    def spec(self) -> ScheduleSpec:
        """The rule as data."""
        return ScheduleSpec(every=format_duration(duration_us(self.every)))

    def labels(self) -> int | None:
        """None: the rule asks for no volume."""
        return None


@dataclass(frozen=True)
class AtLeastRule:
    """Fires when at least ``count`` of its rules fire: 1 for ``any_of``, all of them for ``all_of``."""

    count: int
    rules: tuple[TriggerRule, ...]
    name: str = "at_least"

    def __post_init__(self) -> None:
        expect_rules(self.name, "rule", self.rules)
        if not self.rules:
            raise DefinitionError(f"{self.name} has no rules; give it at least one, such as volume(labels=20_000)")
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            message = f"{self.name} has rules with the names {names}: give each rule its own with name='…'"
            raise DefinitionError(message)
        if not 1 <= self.count <= len(self.rules):
            message = (
                f"{self.name}: {self.count} of {len(self.rules)} rules can never fire; give 1 to {len(self.rules)}"
            )
            raise DefinitionError(message)

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return the numbers of each rule under its name."""
        return {rule.name: rule.measure(evidence) for rule in self.rules}

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Count the rules that fire. The reason names these, or else the rules that are nearest to firing."""
        if missing := {rule.name for rule in self.rules} - set(inputs):
            raise NotMeasuredError(f"{self.name}: nothing was measured for {sorted(missing)}")
        groups = [rule.judge(state, t_us, inputs[rule.name]) for rule in self.rules]
        nearest = sorted((group[0] for group in groups), key=lambda verdict: (-verdict.fired, -verdict.progress))
        fired = sum(verdict.fired for verdict in nearest) >= self.count
        named = nearest[: self.count] if not fired else [verdict for verdict in nearest if verdict.fired]
        reason = "; ".join(f"{verdict.rule}: {verdict.reason}" for verdict in named)
        own = _verdict(self.name, fired, reason, nearest[self.count - 1].progress)
        return [own, *(verdict for group in groups for verdict in (group[1:] or group))]

    @cached_property
    def spec(self) -> AtLeastSpec:
        """The rule as data, with its rules."""
        return AtLeastSpec(count=self.count, rules={rule.name: rule.spec for rule in self.rules})

    def labels(self) -> int | None:
        """The smallest volume among its rules."""
        return min((n for rule in self.rules if (n := rule.labels()) is not None), default=None)


def volume(*, labels: int, name: str = "volume") -> VolumeRule:
    """Ask for a run when there are ``labels`` matured labels since the last finished run.

    >>> from headrace import volume
    >>> volume(labels=20_000)
    VolumeRule(count=20000, name='volume')
    """
    return VolumeRule(labels, name)


def drift(on: str, *, psi: float, sample: Duration, name: str = "drift") -> ScoreDriftRule:
    """Ask for a run when the scores of the newest ``sample`` of days are unlike those of the days before.

    ``on`` says what is watched; only ``"score"`` is possible today. The population stability index (PSI) must be above
    ``psi``, and above the PSI that resampled days without drift reach among themselves. A value that many rows share,
    and the outermost 1 % and 0.1 % of the scores, have bins of their own: 30 % of the rows that jump there give a PSI
    of about 1, and 2 % of them one of about 0.07.

    >>> from headrace import drift
    >>> drift("score", psi=0.2, sample="14d")
    ScoreDriftRule(psi=0.2, sample='14d', seed=0, name='drift')
    >>> drift("score", psi=0, sample="14d")
    Traceback (most recent call last):
        ...
    headrace.errors.DefinitionError: drift(psi=…): 0 is not above 0
    """
    if on != "score":
        message = (
            f"drift({on!r}): only 'score' can ask for a run; feature drift is only reported, "
            "because it fires nearly every day"
        )
        raise DefinitionError(message)
    return ScoreDriftRule(psi, sample, name=name)


def performance(metric: str | Metric, *, drop: float, name: str = "performance") -> PerformanceRule:
    """Ask for a run when the live metric has surely become worse by more than ``drop``.

    ``metric`` is one that a gate may have.

    >>> from headrace import performance
    >>> performance("auc", drop=0.03).name
    'performance'
    """
    return PerformanceRule(metric, drop, name=name)


def schedule(*, every: Duration, name: str = "schedule") -> ScheduleRule:
    """Ask for a run at this interval of event time.

    >>> from headrace import schedule
    >>> schedule(every="30d").name
    'schedule'
    """
    return ScheduleRule(every, name)


def any_of(*rules: TriggerRule, name: str = "any_of") -> AtLeastRule:
    """Ask for a run when one of the rules asks.

    >>> from headrace import any_of, schedule, volume
    >>> [rule.name for rule in any_of(volume(labels=20_000), schedule(every="30d")).rules]
    ['volume', 'schedule']
    """
    return AtLeastRule(1, rules, name)


def all_of(*rules: TriggerRule, name: str = "all_of") -> AtLeastRule:
    """Ask for a run when all of the rules ask.

    >>> from headrace import all_of, schedule, volume
    >>> rule = all_of(volume(labels=20_000), schedule(every="30d"))
    >>> rule.count, [each.name for each in rule.rules]
    (2, ['volume', 'schedule'])
    """
    return AtLeastRule(len(rules), rules, name)


def at_least(count: int, *rules: TriggerRule, name: str = "at_least") -> AtLeastRule:
    """Ask for a run when at least ``count`` of the rules ask.

    >>> from headrace import at_least, performance, schedule, volume
    >>> rules = volume(labels=20_000), schedule(every="30d"), performance("auc", drop=0.03)
    >>> at_least(2, *rules).count
    2
    >>> at_least(4, *rules)
    Traceback (most recent call last):
        ...
    headrace.errors.DefinitionError: at_least: 4 of 3 rules can never fire; give 1 to 3
    """
    return AtLeastRule(count, rules, name)


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


def _verdict(rule: str, fired: bool, reason: str, progress: float) -> RuleVerdict:  # noqa: FBT001 - a private constructor
    return RuleVerdict(
        rule=rule, fired=fired, reason=reason, progress=1.0 if fired else float(np.clip(progress, 0.0, 1.0))
    )


def _positive(where: str, value_: object) -> None:
    if not isinstance(value_, int | float) or isinstance(value_, bool):
        raise DefinitionError(f"{where}: {value_!r} is {type(value_).__name__}; write a number above 0")
    if not value_ > 0:
        message = f"{where}: {value_!r} is not above 0"
        raise DefinitionError(message)


def _whole_days(where: str, duration: Duration) -> None:
    with naming(where):
        length_us = duration_us(duration)
    if length_us < DAY_US or length_us % DAY_US:
        message = f"{where}: {duration!r} is not a whole number of days, such as '14d': whole days are compared"
        raise DefinitionError(message)
