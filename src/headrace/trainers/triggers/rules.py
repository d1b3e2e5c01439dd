"""Trigger rules, pure: what was measured and the state go in, a verdict with its reason comes out. They only inform.

A rule works in two steps. ``measure`` turns an observation into a few plain numbers; ``judge`` turns these and the
state into a verdict. The numbers are kept in the decision record, so judging it again gives the same verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from headrace.base.times import Duration, duration_us, format_duration
from headrace.errors import DefinitionError, naming
from headrace.trainers.day_scores import DayScores, Metric, higher_is_better, value
from headrace.trainers.triggers.evidence import DAY_US, Evidence
from headrace.trainers.triggers.score_drift import score_drift

if TYPE_CHECKING:
    from headrace.trainers.triggers.evidence import Outcomes
    from headrace.trainers.triggers.trigger_state import TriggerState

LIVE_DAYS = 14
LIVE_OUTCOMES = 5_000

RuleInputs = dict[str, Any]


class RuleVerdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule's word. ``progress`` runs from 0 to 1, where it fires; ``reason`` is there also for 'not now'.

    ``armed`` is there with hysteresis only: whether the rule may fire.
    """

    rule: str
    fired: bool
    reason: str
    progress: float
    armed: bool | None = None


class TriggerRule(Protocol):
    """A trigger rule. Both steps are deterministic and have no effect."""

    @property
    def name(self) -> str:
        """What decisions and reports call it."""
        ...

    def measure(self, observation: Evidence) -> RuleInputs:
        """The numbers to judge by, as plain JSON. May be slow where it has to look at scores or outcomes."""
        ...

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """The rule's own verdict first, then those of the simple rules in it."""
        ...

    def spec(self) -> dict[str, Any]:
        """The rule as plain JSON."""
        ...

    def labels(self) -> int | None:
        """The label volume it asks for, or None: the measure of how much is 'enough new'."""
        ...


@dataclass(frozen=True)
class VolumeRule:
    """Fires on that many matured labels since the last finished run."""

    count: int
    name: str = "volume"

    def __post_init__(self) -> None:
        _positive(f"{self.name}(labels=…)", self.count)

    def measure(self, observation: Evidence) -> RuleInputs:
        """The total of matured labels."""
        return {"matured_labels": observation.matured_labels}

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare with the baseline's total."""
        del t_us
        new = max(0, inputs["matured_labels"] - state.baseline_labels)
        reason = f"{new:,} of {self.count:,} matured labels since {state.since}"
        return [_verdict(self.name, new >= self.count, reason, new / self.count)]

    def spec(self) -> dict[str, Any]:
        """Its settings."""
        return {"rule": "volume", "labels": self.count}

    def labels(self) -> int | None:
        """Its own count."""
        return self.count


@dataclass(frozen=True)
class ScoreDriftRule:
    """Fires when the PSI of the newest ``sample`` of days exceeds ``psi`` and what days of the reference do anyway."""

    psi: float
    sample: Duration
    seed: int = 0
    name: str = "drift"

    def __post_init__(self) -> None:
        _positive(f"{self.name}(psi=…)", self.psi)
        _whole_days(f"{self.name}(sample=…)", self.sample)

    def measure(self, observation: Evidence) -> RuleInputs:
        """PSI, resampled threshold and the days there are of both."""
        scores = observation.scores()
        days = duration_us(self.sample) // DAY_US
        found = score_drift(
            scores.day, scores.score, until_day=observation.day, sample_days=days, seed=self.seed + observation.day
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
            have, need, sample = (
                inputs["reference_days"],
                inputs["needed_days"],
                format_duration(duration_us(self.sample)),
            )
            reason = f"not enough reference: {have} of {need} served days before a complete sample of {sample}"
            return [_verdict(self.name, fired=False, reason=reason, progress=0.0)]
        limit = max(self.psi, inputs["resampled"])
        reason = (
            f"score PSI {inputs['psi']:.3f} against {limit:.3f} (asked {self.psi:.3f}, "
            f"resampled days of the reference {inputs['resampled']:.3f})"
        )
        return [_verdict(self.name, inputs["psi"] > limit, reason, inputs["psi"] / limit)]

    def spec(self) -> dict[str, Any]:
        """Its settings."""
        return {"rule": "drift", "on": "score", "psi": self.psi, "sample": format_duration(duration_us(self.sample))}

    def labels(self) -> int | None:
        """It needs no labels."""
        return None


@dataclass(frozen=True)
class PerformanceRule:
    """Fires when the live metric is surely worse than in the version's first 14 live days, by more than ``drop``.

    Surely: the better bound of the resampled days, over the newest 14 or more days and 5,000 or more outcomes that are
    not of those first days.
    """

    metric: Metric
    drop: float
    seed: int = 0
    name: str = "performance"

    def __post_init__(self) -> None:
        _positive(f"{self.name}(drop=…)", self.drop)
        if self.metric not in {"auc", "logloss"}:
            message = f"{self.name}: no metric {self.metric!r}; choose 'auc' or 'logloss'"
            raise DefinitionError(message)

    def measure(self, observation: Evidence) -> RuleInputs:
        """The reference, the live value and its better bound, with the days and outcomes there are."""
        outcomes = observation.outcomes()
        days = np.unique(outcomes.day)
        first, window = days[:LIVE_DAYS], _newest_window(outcomes, days[LIVE_DAYS:])
        in_window = np.isin(outcomes.day, window)
        inputs: RuleInputs = {"days": len(window), "outcomes": int(in_window.sum()), "reference_days": len(first)}
        measured: dict[str, float | None] = {"reference": None, "value": None, "bound": None}
        if len(window) >= LIVE_DAYS and in_window.sum() >= LIVE_OUTCOMES:
            seed = self.seed + observation.day
            found = value(_day_scores(outcomes, in_window), self.metric, seed=seed)
            bound = found.high if higher_is_better(self.metric) else found.low
            reference = _day_scores(outcomes, np.isin(outcomes.day, first)).point(self.metric)
            measured = {"reference": _number(reference), "value": _number(found.point), "bound": _number(bound)}
        return inputs | measured

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare the better bound with the reference minus the drop."""
        del state, t_us
        reference, bound = inputs["reference"], inputs["bound"]
        if reference is None or bound is None:
            have = f"{inputs['days']} of {LIVE_DAYS} days, {inputs['outcomes']:,} of {LIVE_OUTCOMES:,} outcomes"
            reason = f"not enough outcomes after the first {LIVE_DAYS} live days: {have}"
            return [_verdict(self.name, fired=False, reason=reason, progress=0.0)]
        lost = (reference - bound) if higher_is_better(self.metric) else (bound - reference)
        reason = (
            f"{self.metric} {inputs['value']:.4f} (at best {bound:.4f}) over {inputs['days']} days, "
            f"{reference:.4f} in the first {LIVE_DAYS} live days: lost {max(lost, 0.0):.4f} of {self.drop:.4f}"
        )
        return [_verdict(self.name, lost > self.drop, reason, lost / self.drop)]

    def spec(self) -> dict[str, Any]:
        """Its settings."""
        return {"rule": "performance", "metric": self.metric, "drop": self.drop}

    def labels(self) -> int | None:
        """It asks for no volume."""
        return None


@dataclass(frozen=True)
class ScheduleRule:
    """Fires when the last finished run is that long ago, in event time."""

    every: Duration
    name: str = "schedule"

    def __post_init__(self) -> None:
        with naming(f"{self.name}(every=…)"):
            every_us = duration_us(self.every)
        _positive(f"{self.name}(every=…)", every_us)

    def measure(self, observation: Evidence) -> RuleInputs:
        """Nothing but the clock, which is handed to ``judge``."""
        del observation
        return {}

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare the clock with the baseline's."""
        del inputs
        since, every = t_us - state.baseline_t_us, duration_us(self.every)
        reason = f"{since / DAY_US:.1f} of {every / DAY_US:.1f} days since {state.since}"
        return [_verdict(self.name, since >= every, reason, since / every)]

    def spec(self) -> dict[str, Any]:
        """Its settings."""
        return {"rule": "schedule", "every": format_duration(duration_us(self.every))}

    def labels(self) -> int | None:
        """It asks for no volume."""
        return None


@dataclass(frozen=True)
class AtLeastRule:
    """Fires when at least ``count`` of its rules do. ``any_of`` is one of them, ``all_of`` every one."""

    count: int
    rules: tuple[TriggerRule, ...]
    name: str = "at_least"

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            message = f"{self.name} holds rules {names}: each name once; tell them apart with name='…'"
            raise DefinitionError(message)
        if not 1 <= self.count <= len(self.rules):
            message = f"{self.name}: {self.count} of {len(self.rules)} rules can never be; give 1 to {len(self.rules)}"
            raise DefinitionError(message)

    def measure(self, observation: Evidence) -> RuleInputs:
        """The inputs of each rule under its name."""
        return {rule.name: rule.measure(observation) for rule in self.rules}

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Count the rules that fired; the one on the brink gives the reason."""
        groups = [rule.judge(state, t_us, inputs[rule.name]) for rule in self.rules]
        nearest = sorted((group[0] for group in groups), key=lambda verdict: (-verdict.fired, -verdict.progress))
        fired = sum(verdict.fired for verdict in nearest) >= self.count
        named = nearest[: self.count] if not fired else [verdict for verdict in nearest if verdict.fired]
        reason = "; ".join(f"{verdict.rule}: {verdict.reason}" for verdict in named)
        own = _verdict(self.name, fired, reason, nearest[self.count - 1].progress)
        return [own, *(verdict for group in groups for verdict in (group[1:] or group))]

    def spec(self) -> dict[str, Any]:
        """Its rules' settings."""
        return {"rule": "at_least", "count": self.count, "rules": {rule.name: rule.spec() for rule in self.rules}}

    def labels(self) -> int | None:
        """The smallest volume among its rules."""
        return min((n for rule in self.rules if (n := rule.labels()) is not None), default=None)


def volume(*, labels: int, name: str = "volume") -> VolumeRule:
    """Ask when there are that many matured labels since the last finished run."""
    return VolumeRule(labels, name)


def drift(on: str, *, psi: float, sample: Duration, name: str = "drift") -> ScoreDriftRule:
    """Ask when the newest ``sample`` of days is unlike the days before. ``on``: what to watch, today ``"score"``."""
    if on != "score":
        message = f"drift({on!r}): only 'score' opens a run; feature drift is reported, it fires nearly every day"
        raise DefinitionError(message)
    return ScoreDriftRule(psi, sample, name=name)


def performance(metric: Metric, *, drop: float, name: str = "performance") -> PerformanceRule:
    """Ask when the live metric has surely fallen by more than ``drop``."""
    return PerformanceRule(metric, drop, name=name)


def schedule(*, every: Duration, name: str = "schedule") -> ScheduleRule:
    """Ask that often, in event time."""
    return ScheduleRule(every, name)


def any_of(*rules: TriggerRule, name: str = "any_of") -> AtLeastRule:
    """Ask when one of the rules does."""
    return AtLeastRule(1, rules, name)


def all_of(*rules: TriggerRule, name: str = "all_of") -> AtLeastRule:
    """Ask when all of the rules do."""
    return AtLeastRule(len(rules), rules, name)


def at_least(count: int, *rules: TriggerRule, name: str = "at_least") -> AtLeastRule:
    """Ask when that many of the rules do."""
    return AtLeastRule(count, rules, name)


def _newest_window(outcomes: Outcomes, days: np.ndarray) -> np.ndarray:
    """The newest days that make 14 and 5,000 outcomes, or all there are."""
    if not len(days):
        return days
    counts = np.bincount(outcomes.day[outcomes.day >= days[0]] - days[0])[days - days[0]]
    enough = np.flatnonzero(np.cumsum(counts[::-1]) >= LIVE_OUTCOMES)
    newest = max(LIVE_DAYS, int(enough[0]) + 1) if len(enough) else len(days)
    return days[-newest:]


def _day_scores(outcomes: Outcomes, rows: np.ndarray) -> DayScores:
    return DayScores(outcomes.day[rows], outcomes.label[rows], outcomes.score[rows])


def _number(value_: float) -> float | None:
    return value_ if np.isfinite(value_) else None


def _verdict(rule: str, fired: bool, reason: str, progress: float) -> RuleVerdict:  # noqa: FBT001 - a private constructor
    return RuleVerdict(
        rule=rule, fired=fired, reason=reason, progress=1.0 if fired else float(np.clip(progress, 0.0, 1.0))
    )


def _positive(where: str, value_: float) -> None:
    if not value_ > 0:
        message = f"{where}: {value_!r} is not above 0"
        raise DefinitionError(message)


def _whole_days(where: str, duration: Duration) -> None:
    with naming(where):
        length_us = duration_us(duration)
    if length_us < DAY_US or length_us % DAY_US:
        message = f"{where}: {duration!r} is not a whole number of days, such as '14d': days are what is compared"
        raise DefinitionError(message)
