"""Consecutive: a rule counts only after it has fired on several days in a row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from headrace.errors import DefinitionError
from headrace.trainers.triggers.evidence import DAY_US
from headrace.trainers.triggers.rule_parts import expect_rules
from headrace.trainers.triggers.trigger_rule import (
    RuleAroundAnother,
    RuleInputs,
    RuleVerdict,
    TriggerRule,
)
from headrace.trainers.triggers.trigger_specs import ConsecutiveSpec

if TYPE_CHECKING:
    from headrace.trainers.triggers.trigger_state import TriggerState


@dataclass(frozen=True)
class ConsecutiveRule(RuleAroundAnother):
    """Fires when ``rule`` has fired at each evaluation of ``days`` days of event time in a row, today included.

    A day without an evaluation ends the row: nothing is evaluated during a cooldown or another hold. Decisions and
    reports show the name of ``rule``.
    """

    days: int

    def __post_init__(self) -> None:
        expect_rules("consecutive", "rule", [self.rule])
        days: object = self.days
        if not isinstance(days, int) or isinstance(days, bool) or days < 2:  # noqa: PLR2004 - one day is the rule itself
            raise DefinitionError(f"consecutive({self.name}, days={self.days!r}): give 2 or more whole days, such as 3")

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Return the verdict of the rule inside, which fires on the last of the days."""
        own = self.rule.judge(state, t_us, inputs)[0]
        if not own.fired:
            return [msgspec.structs.replace(own, progress=own.progress / self.days)]
        today = t_us // DAY_US
        first, last = (today, today) if state.streaks is UNSET else state.streaks.get(self.name, (today, today))
        first = first if last >= today - 1 else today
        count = today - first + 1
        return [
            msgspec.structs.replace(
                own,
                fired=count >= self.days,
                reason=f"day {count} of {self.days} in a row: {own.reason}",
                progress=min(1.0, count / self.days),
                streak=(first, today),
            )
        ]

    @cached_property
    def spec(self) -> ConsecutiveSpec:
        """The rule as data, with the rule inside."""
        return ConsecutiveSpec(days=self.days, of=self.rule.spec)


def consecutive(rule: TriggerRule, days: int) -> ConsecutiveRule:
    """Ask for a run when ``rule`` has asked on this number of days in a row: one bad day alone asks for nothing.

    >>> from headrace import consecutive, performance
    >>> consecutive(performance("auc", drop=0.03), 3).name
    'performance'
    """
    return ConsecutiveRule(rule, days)
