"""Hysteresis: a rule that has asked is quiet until what it watches has calmed down. Pure, as all rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.errors import DefinitionError
from headrace.trainers.triggers.rules import AtLeastRule, RuleInputs, RuleVerdict, TriggerRule

if TYPE_CHECKING:
    from headrace.trainers.triggers.evidence import Evidence
    from headrace.trainers.triggers.trigger_state import TriggerState


@dataclass(frozen=True)
class HysteresisRule:
    """Fires as ``rule`` does; once a run was asked for, not again before the rule's progress was ``rearm`` or less.

    A run that judged nothing (postponed or failed) arms it again at once. While something holds all rules, such as a
    cooldown, nothing is measured and nothing arms. It is called as its rule.
    """

    rule: TriggerRule
    rearm: float

    def __post_init__(self) -> None:
        if not 0 <= self.rearm < 1:
            message = f"hysteresis({self.name}, rearm={self.rearm!r}): give a progress from 0 to below 1, such as 0.5"
            raise DefinitionError(message)

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.rule.name

    def measure(self, observation: Evidence) -> RuleInputs:
        """What the rule measures."""
        return self.rule.measure(observation)

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """The rule's own verdict if it is armed; else whether it is armed again."""
        own = self.rule.judge(state, t_us, inputs)[0]
        if self.name not in state.disarmed:
            return [msgspec.structs.replace(own, armed=True)]
        if own.progress <= self.rearm:
            return [msgspec.structs.replace(own, armed=True, reason=f"armed again: {own.reason}")]
        reason = f"asked before, armed again at {self.rearm:.0%} of the way or less: {own.reason}"
        return [RuleVerdict(rule=self.name, fired=False, reason=reason, progress=0.0, armed=False)]

    def spec(self) -> dict[str, Any]:
        """Its settings."""
        return {"rule": "hysteresis", "rearm": self.rearm, "of": self.rule.spec()}

    def labels(self) -> int | None:
        """The rule's own volume."""
        return self.rule.labels()


def hysteresis(rule: TriggerRule, *, rearm: float = 0.5) -> HysteresisRule:
    """Ask as ``rule`` does, then only after its progress to firing has fallen to ``rearm``, a share from 0 to 1."""
    return HysteresisRule(rule, rearm)


def check_names(rule: TriggerRule) -> None:
    """Raises DefinitionError where two hystereses in a rule share a name, and so would share their memory."""
    names = _names(rule)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        message = f"hysteresis over several rules named {twice}: tell them apart with name='…'"
        raise DefinitionError(message)


def _names(rule: TriggerRule) -> list[str]:
    if isinstance(rule, AtLeastRule):
        return [name for each in rule.rules for name in _names(each)]
    return [rule.name] if isinstance(rule, HysteresisRule) else []
