"""Hysteresis: a rule that has asked for a run stays quiet until the thing that it measures has calmed down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from headrace.errors import DefinitionError
from headrace.trainers.triggers.consecutive import ConsecutiveRule
from headrace.trainers.triggers.performance_rule import PerformanceRule
from headrace.trainers.triggers.rule_parts import expect_rules
from headrace.trainers.triggers.rules import AtLeastRule
from headrace.trainers.triggers.trigger_rule import (
    RuleAroundAnother,
    RuleInputs,
    RuleVerdict,
    TriggerRule,
)
from headrace.trainers.triggers.trigger_specs import HysteresisSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.trainers.metrics.metric import Metric
    from headrace.trainers.triggers.trigger_state import TriggerState


@dataclass(frozen=True)
class HysteresisRule(RuleAroundAnother):
    """Fires when ``rule`` fires, but not twice in a row.

    After a run was asked for, it fires again only once the rule's progress has been ``rearm`` or less. A run that
    judged nothing (postponed or failed) arms the rule again at once. While a cooldown or another hold stops all rules,
    nothing is measured and nothing is armed. Decisions and reports show the name of ``rule``.
    """

    rearm: float

    def __post_init__(self) -> None:
        expect_rules("hysteresis", "rule", [self.rule])
        rearm: object = self.rearm
        if not isinstance(rearm, int | float) or not 0 <= rearm < 1:
            message = f"hysteresis({self.name}, rearm={self.rearm!r}): give a progress from 0 to below 1, such as 0.5"
            raise DefinitionError(message)

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Return the verdict of the rule inside if it is armed, or else whether it is armed again."""
        own = self.rule.judge(state, t_us, inputs)[0]
        if self.name not in state.disarmed:
            return [msgspec.structs.replace(own, armed=True)]
        if own.progress <= self.rearm:
            return [msgspec.structs.replace(own, armed=True, reason=f"armed again: {own.reason}")]
        reason = f"it has asked already, and may ask again when its progress is {self.rearm:.0%} or less: {own.reason}"
        return [RuleVerdict(rule=self.name, fired=False, reason=reason, progress=0.0, armed=False)]

    @cached_property
    def spec(self) -> HysteresisSpec:
        """The rule as data, with the rule inside."""
        return HysteresisSpec(rearm=self.rearm, of=self.rule.spec)


def hysteresis(rule: TriggerRule, *, rearm: float = 0.5) -> HysteresisRule:
    """Ask for a run when ``rule`` asks, and not again before its progress has fallen to ``rearm``, a share from 0 to 1.

    >>> from headrace import drift, hysteresis
    >>> hysteresis(drift("score", psi=0.2, sample="14d"), rearm=0.5).name
    'drift'
    """
    return HysteresisRule(rule, rearm)


def check_names(rule: TriggerRule) -> None:
    """Raise DefinitionError if two rules of one kind with a memory have the same name: they would share the memory."""
    for kind, words in ((HysteresisRule, "hysteresis"), (ConsecutiveRule, "consecutive")):
        names = [each.name for each in _all(rule) if isinstance(each, kind)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"several rules with {words} have the names {twice}: give each rule its own with name='…'"
            raise DefinitionError(message)


def _all(rule: TriggerRule) -> list[TriggerRule]:
    """Return a rule and all rules inside it."""
    inside: Sequence[TriggerRule] = ()
    if isinstance(rule, AtLeastRule):
        inside = rule.rules
    elif isinstance(rule, RuleAroundAnother):
        inside = [rule.rule]
    return [rule, *(each for one in inside for each in _all(one))]


def watched_metrics(rule: TriggerRule) -> list[tuple[str, Metric]]:
    """Return the name and the metric of each performance rule inside a rule."""
    return [(each.name, each.measures) for each in _all(rule) if isinstance(each, PerformanceRule)]
