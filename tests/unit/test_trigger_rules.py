"""The contract of trigger rules: the shipped rules keep it, and each way to break it has an error that says where."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pytest

from headrace.errors import DefinitionError
from headrace.testing import check_trigger_rule
from headrace.trainers.triggers.consecutive import consecutive
from headrace.trainers.triggers.hysteresis import hysteresis
from headrace.trainers.triggers.rules import all_of, any_of, drift, performance, schedule, volume
from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict
from headrace.trainers.triggers.trigger_specs import TriggerSpec, VolumeSpec
from tests.support.documents import blocks

RULES = [
    volume(labels=20_000),
    schedule(every="30d"),
    drift("score", psi=0.1, sample="14d"),
    drift("score", psi=0.1, sample="14d", false_alarms="3/year"),
    performance("auc", drop=0.01),
    performance("logloss", drop=0.01),
    any_of(drift("score", psi=0.1, sample="7d"), volume(labels=1)),
    all_of(hysteresis(performance("auc", drop=0.01)), volume(labels=1)),
    consecutive(performance("auc", drop=0.01), 3),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_shipped_rules_keep_the_contract(rule: Any) -> None:
    check_trigger_rule(rule)


def test_the_rule_on_the_page_keeps_the_contract() -> None:
    found = blocks("docs/reference/triggers.md", "python")
    (code,) = [block.text for block in found if "class LateShare" in block.text]
    exec(compile(code, "triggers.md", "exec", dont_inherit=True), {"__name__": "page"})


SPEC = VolumeSpec(labels=100)


@dataclass(frozen=True)
class Broken:
    """A rule that fires at 100 labels, with one part replaced."""

    measured: Any = None
    verdicts: Any = None
    spec: Any = SPEC
    name: str = "mine"

    def measure(self, evidence: Any) -> RuleInputs:
        return self.measured(evidence) if self.measured else {"labels": evidence.matured_labels}

    def judge(self, state: Any, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        del state, t_us
        if self.verdicts:
            return self.verdicts(inputs)  # type: ignore[no-any-return]
        labels = inputs["labels"]
        return [verdict(fired=labels >= 100, progress=min(1.0, labels / 100), reason=f"{labels} of 100")]

    def labels(self) -> int | None:
        return None


def verdict(*, fired: bool = False, progress: float = 0.5, reason: str = "why") -> RuleVerdict:
    return RuleVerdict(rule="mine", fired=fired, reason=reason, progress=progress)


class NoSpec:
    """Not a spec."""


numbers = count()
BROKEN: dict[str, tuple[Broken, str]] = {
    "no spec": (Broken(spec=NoSpec()), "is no TriggerSpec"),
    "no dict": (Broken(measured=lambda _: 3), "mine, without predictions: measure gives 3, wanted a dict"),
    "no JSON": (Broken(measured=lambda _: {"labels": np.zeros(2)}), "which is no JSON: "),
    "NaN": (Broken(measured=lambda _: {"labels": float("nan")}), "after it was stored: give plain JSON, no NaN"),
    "tuples": (Broken(measured=lambda _: {"labels": 1, "days": (1, 2)}), "after it was stored: give plain JSON"),
    "chance": (Broken(measured=lambda _: {"labels": next(numbers)}), "for the same evidence"),
    "judge by chance": (Broken(verdicts=lambda _: [verdict(reason=str(next(numbers)))]), "other verdicts for"),
    "no verdict": (Broken(verdicts=lambda _: []), r"judge gives \[\] once"),
    "no reason": (Broken(verdicts=lambda _: [verdict(reason="")]), "has no reason"),
    "too much": (Broken(verdicts=lambda _: [verdict(progress=1.5)]), "is not from 0 to 1"),
    "no progress": (Broken(verdicts=lambda _: [verdict(fired=True)]), "fires below a progress of 1"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_rule_that_breaks_the_contract_is_named_with_the_scene(how: str) -> None:
    rule, said = BROKEN[how]
    with pytest.raises(DefinitionError, match=said):
        check_trigger_rule(rule)
    check_trigger_rule(Broken())


def test_a_spec_of_a_rule_is_a_trigger_spec() -> None:
    assert isinstance(Broken().spec, TriggerSpec)
