"""The trigger rules that headrace has, and the functions with which a user names them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from headrace.base.times import Duration, duration_us, format_duration
from headrace.errors import DefinitionError, NotMeasuredError, naming
from headrace.trainers.triggers.evidence import DAY_US, Evidence
from headrace.trainers.triggers.performance_rule import LIVE_DAYS, LIVE_OUTCOMES, PerformanceRule
from headrace.trainers.triggers.rule_parts import check_positive, expect_rules, verdict_of
from headrace.trainers.triggers.score_drift_rule import ScoreDriftRule
from headrace.trainers.triggers.trigger_specs import AtLeastSpec, ScheduleSpec, VolumeSpec

if TYPE_CHECKING:
    from headrace.trainers.metrics.metric import Metric
    from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict, TriggerRule
    from headrace.trainers.triggers.trigger_specs import Against
    from headrace.trainers.triggers.trigger_state import TriggerState


@dataclass(frozen=True)
class VolumeRule:
    """Fires on ``count`` matured labels since the last finished run."""

    count: int
    name: str = "volume"

    def __post_init__(self) -> None:
        check_positive(f"{self.name}(labels=…)", self.count)

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return the total of matured labels."""
        return {"matured_labels": evidence.matured_labels}

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare the labels since the baseline with the count."""
        del t_us
        new = max(0, inputs["matured_labels"] - state.baseline_labels)
        reason = f"{new:,} of {self.count:,} matured labels since {state.labels_since}"
        return [verdict_of(self.name, new >= self.count, reason, new / self.count)]

    @cached_property
    def spec(self) -> VolumeSpec:
        """The rule as data."""
        return VolumeSpec(labels=self.count)

    def labels(self) -> int | None:
        """The count."""
        return self.count


@dataclass(frozen=True)
class ScheduleRule:
    """Fires when the last finished run ended ``every`` ago or earlier, in event time."""

    every: Duration
    name: str = "schedule"

    def __post_init__(self) -> None:
        with naming(f"{self.name}(every=…)"):
            every_us = duration_us(self.every)
        check_positive(f"{self.name}(every=…)", every_us)

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return nothing: ``judge`` gets the clock anyway."""
        del evidence
        return {}

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare the time since the baseline with the interval."""
        del inputs
        since, every = t_us - state.baseline_t_us, duration_us(self.every)
        reason = f"{since / DAY_US:.1f} of {every / DAY_US:.1f} days since {state.since}"
        return [verdict_of(self.name, since >= every, reason, since / every)]

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
        own = verdict_of(self.name, fired, reason, nearest[self.count - 1].progress)
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


def drift(
    on: str, *, psi: float, sample: Duration, false_alarms: str | None = None, name: str = "drift"
) -> ScoreDriftRule:
    """Ask for a run when the scores of the newest ``sample`` of days with predictions are unlike those before.

    Each day counts alike, so more or fewer predictions, or closed days, are no drift.

    ``on`` says what is watched; only ``"score"`` is possible today. The population stability index (PSI) must be above
    ``psi``, and above the PSI that resampled days without drift reach among themselves. A value that many rows share,
    and the outermost 1 % and 0.1 % of the scores, have bins of their own: 30 % of the rows that jump there give a PSI
    of about 1, and 2 % of them one of about 0.07.

    ``false_alarms`` is how often the rule may ask while nothing drifts and ``psi`` does not matter, at most
    ``"12/year"``. Without it 1 % of samples without drift are above the limit.

    >>> from headrace import drift
    >>> drift("score", psi=0.2, sample="14d", false_alarms="3/year")
    ScoreDriftRule(psi=0.2, sample='14d', seed=0, name='drift', false_alarms='3/year')
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
    return ScoreDriftRule(psi, sample, name=name, false_alarms=false_alarms)


def performance(
    metric: str | Metric,
    *,
    drop: float,
    against: Against = "first_days",
    days: int = LIVE_DAYS,
    outcomes: int = LIVE_OUTCOMES,
    name: str = "performance",
) -> PerformanceRule:
    """Ask for a run when the live version is surely worse by more than ``drop``.

    ``metric`` is one that a gate may have. ``against`` says what it is compared with: its own ``"first_days"``, which
    may have been easier or harder than the newest ones; or on the same rows the ``"previous_version"``, or a
    ``"refit"`` of the model on the rows before these, which is made once a week and never published.

    It is judged by the newest ``days`` or more with ``outcomes`` or more. Fewer than usual give a warning.

    >>> from headrace import performance
    >>> performance("auc", drop=0.01, against="refit").against
    'refit'
    """
    return PerformanceRule(metric, drop, name=name, against=against, days=days, outcomes=outcomes)


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
