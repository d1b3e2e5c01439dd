"""The port of a trigger rule. A rule is pure: evidence and state go in, a verdict with its reason comes out.

A rule only informs, and it works in two steps. ``measure`` turns the evidence into a few plain numbers; ``judge`` turns
these and the state into a verdict. The decision record keeps the numbers, so judging it again gives the same verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from headrace.bus.message import Int64

if TYPE_CHECKING:
    from headrace.trainers.triggers.evidence import Evidence
    from headrace.trainers.triggers.trigger_specs import TriggerSpec
    from headrace.trainers.triggers.trigger_state import TriggerState

RuleInputs = dict[str, Any]


class RuleVerdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The verdict of one rule.

    ``progress`` runs from 0 to 1, where the rule fires. ``reason`` is also given when the rule does not fire. ``armed``
    says whether the rule may fire; only rules with hysteresis have it. ``streak`` is the first and the last of the days
    in a row, counted since the epoch, on which a consecutive rule has been met.
    """

    rule: str
    fired: bool
    reason: str
    progress: float
    armed: bool | None = None
    streak: tuple[Int64, Int64] | None = None


class TriggerRule(Protocol):
    """A trigger rule. Both steps are deterministic and have no effect."""

    @property
    def name(self) -> str:
        """The name of the rule in decisions and reports."""
        ...

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Called at each tick at which the rules may fire. Return the numbers to judge by, as plain JSON.

        It may be slow if it reads scores or outcomes.
        """
        ...

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Return the verdict of this rule first, then the verdicts of the simple rules inside it.

        It is called after ``measure`` with its numbers, and again when a decision record is checked.
        """
        ...

    @property
    def spec(self) -> TriggerSpec:
        """The rule as data."""
        ...

    def labels(self) -> int | None:
        """The label volume that the rule asks for, or None. It is the measure of how many new labels are enough."""
        ...


@dataclass(frozen=True)
class RuleAroundAnother:
    """What a rule that changes the verdict of another one, its ``rule``, has of it: name, numbers and volume."""

    rule: TriggerRule

    @property
    def name(self) -> str:
        """The name of the rule inside."""
        return self.rule.name

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return the numbers of the rule inside."""
        return self.rule.measure(evidence)

    def labels(self) -> int | None:
        """The volume of the rule inside."""
        return self.rule.labels()
