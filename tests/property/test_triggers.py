from __future__ import annotations

from dataclasses import dataclass

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import DefinitionError
from headrace.trainers.triggers.consecutive import consecutive
from headrace.trainers.triggers.evidence import DAY_US, Evidence
from headrace.trainers.triggers.hysteresis import check_names, hysteresis
from headrace.trainers.triggers.rules import all_of, any_of, at_least, schedule, volume
from headrace.trainers.triggers.trigger_policy import Decision, TriggerPolicy
from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict, TriggerRule
from headrace.trainers.triggers.trigger_specs import TriggerSpec
from headrace.trainers.triggers.trigger_state import (
    Baseline,
    RunOutcome,
    TriggerState,
    after_run,
    with_pin,
    without_pin,
)


class TideSpec(TriggerSpec, frozen=True, tag="tide"):
    """It has no settings."""


@dataclass(frozen=True)
class Tide:
    """A rule that rises and falls with the count of labels, whatever was asked."""

    name: str

    def measure(self, observation: Evidence) -> RuleInputs:
        return {"height": observation.matured_labels % 17}

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        del state, t_us
        height = inputs["height"]
        reason = f"height {height}"
        return [RuleVerdict(rule=self.name, fired=height >= 10, reason=reason, progress=min(1.0, height / 10))]

    @property
    def spec(self) -> TriggerSpec:
        return TideSpec()

    def labels(self) -> int | None:
        return None


LEAVES: st.SearchStrategy[TriggerRule] = st.one_of(
    st.integers(1, 3_000).map(lambda n: volume(labels=n, name=f"volume{n}")),
    st.integers(1, 40).map(lambda n: schedule(every=f"{n}d", name=f"schedule{n}")),
    st.integers(0, 9).map(lambda n: hysteresis(Tide(f"tide{n}"), rearm=n / 10)),
    st.integers(2, 5).map(lambda n: consecutive(Tide(f"flood{n}"), n)),
)


def combined(children: st.SearchStrategy[TriggerRule]) -> st.SearchStrategy[TriggerRule]:
    many = st.lists(children, min_size=1, max_size=3, unique_by=lambda rule: rule.name)
    return st.one_of(
        many.map(lambda rules: any_of(*rules, name=f"any{len(rules)}")),
        many.map(lambda rules: all_of(*rules, name=f"all{len(rules)}")),
        many.map(lambda rules: at_least(1 + len(rules) // 2, *rules, name=f"some{len(rules)}")),
    )


RULES = st.recursive(LEAVES, combined, max_leaves=5)
OUTCOMES: st.SearchStrategy[RunOutcome] = st.sampled_from(["published", "refused", "postponed", "failed"])
DAYS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 900), OUTCOMES, st.sampled_from(["", "", "", "pin", "unpin"])),
    max_size=40,
)


def distinct(rule: TriggerRule) -> bool:
    try:
        check_names(rule)
    except DefinitionError:
        return False
    return True


@given(RULES.filter(distinct), st.integers(1, 3_000), st.integers(0, 9), DAYS)
def test_a_life_of_decisions_keeps_the_law_and_replays(
    rule: TriggerRule, first: int, cooldown: int, days: list[tuple[int, int, RunOutcome, str]]
) -> None:
    policy = TriggerPolicy("m", rule, first, cooldown * DAY_US)
    state, t_us, labels = TriggerState(), 0, 0
    records: list[bytes] = []
    asked: set[str] = set()
    for step, more, outcome, rollback in days:
        t_us, labels = t_us + step * DAY_US, labels + more
        decision = policy.evaluate(state, Evidence(t_us, labels))
        records.append(msgspec.json.encode(decision))
        check(policy, state, decision, labels)
        state = decision.after
        if decision.request:
            assert decision.request not in asked
            asked.add(decision.request)
            assert not policy.evaluate(state, Evidence(t_us, labels)).fired
            state = after_run(state, Baseline(run=decision.request, outcome=outcome, t_us=t_us, matured_labels=labels))
        if rollback:
            state = with_pin(state, f"pin-{t_us}", t_us, labels) if rollback == "pin" else without_pin(state)
    for record in records:
        old = msgspec.json.decode(record, type=Decision)
        assert msgspec.json.encode(policy.judge(old.state, old.t_us, old.inputs)) == record


def check(policy: TriggerPolicy, state: TriggerState, decision: Decision, labels: int) -> None:
    assert decision.reason
    assert 0 <= decision.progress <= 1
    assert decision.fired == (decision.request is not None) == (decision.after.request != state.request)
    if not decision.fired:
        return
    assert decision.progress == 1
    assert state.live or labels >= policy.first_after
    if state.baseline is not None:
        assert decision.t_us - state.baseline.cooldown_from_us >= policy.cooldown_us
        assert state.baseline.outcome != "postponed" or decision.t_us // DAY_US > state.baseline.t_us // DAY_US
        if state.baseline.outcome != "published":
            assert labels - state.baseline.matured_labels >= policy.enough_labels // 4


@given(
    st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    st.lists(st.tuples(st.integers(0, 16), OUTCOMES), max_size=60),
)
def test_hysteresis_equals_a_loop_with_one_flag(rearm: float, days: list[tuple[int, RunOutcome]]) -> None:
    policy = TriggerPolicy("m", hysteresis(Tide("tide"), rearm=rearm), first_after=1, cooldown_us=0)
    state = after_run(TriggerState(), Baseline(run="r0", outcome="published", t_us=0, matured_labels=0))
    armed = True
    for day, (height, outcome) in enumerate(days, 1):
        decision = policy.evaluate(state, Evidence(day * DAY_US, 17 * day + height))
        assert decision.fired == (armed and height >= 10)
        armed = not decision.fired if armed else height / 10 <= rearm
        state = decision.after
        if decision.request:
            run = Baseline(run=decision.request, outcome=outcome, t_us=day * DAY_US, matured_labels=17 * day)
            state = after_run(state, run)
            armed = outcome in {"postponed", "failed"}
        assert (not state.disarmed) == armed


@given(st.integers(2, 4), st.lists(st.tuples(st.integers(1, 30), st.integers(5, 16), OUTCOMES), max_size=80))
def test_consecutive_equals_a_loop_over_the_days_of_all_evaluations(
    days: int, steps: list[tuple[int, int, RunOutcome]]
) -> None:
    policy = TriggerPolicy("m", consecutive(Tide("tide"), days), first_after=1, cooldown_us=0)
    state = after_run(TriggerState(), Baseline(run="r0", outcome="published", t_us=0, matured_labels=0))
    t_us = 0
    seen: list[tuple[int, int]] = []  # day and height of each evaluation since the last run
    for hours, height, outcome in steps:
        t_us += hours * 3_600_000_000
        decision = policy.evaluate(state, Evidence(t_us, 17 * (t_us // 3_600_000_000) + height))
        state = msgspec.json.decode(msgspec.json.encode(decision.after), type=TriggerState)
        if decision.rule == "postponed":
            seen = []
            continue
        today = t_us // DAY_US
        seen.append((today, height))
        row = [{h for day, h in seen if day == today - back} for back in range(days)]
        # The first day of the row may have had lower tides before the row began.
        until = next((n for n in reversed(range(len(seen))) if seen[n][1] < 10), -1) + 1
        unbroken = [day for day, _ in seen[until:]]
        assert decision.fired == (all(row) and all(today - back in unbroken for back in range(days)))
        if decision.request:
            run = Baseline(run=decision.request, outcome=outcome, t_us=t_us, matured_labels=0)
            state, seen = after_run(state, run), []


@given(st.integers(1, 4), st.lists(st.tuples(st.integers(1, 30), OUTCOMES), max_size=60))
def test_runs_of_a_day_stay_within_the_budget(budget: int, steps: list[tuple[int, RunOutcome]]) -> None:
    policy = TriggerPolicy("m", volume(labels=1), first_after=1, cooldown_us=0, daily_budget=budget)
    state, t_us = after_run(TriggerState(), Baseline(run="r0", outcome="published", t_us=0, matured_labels=0)), 0
    asked: list[int] = []
    postponed = -1
    for step, (hours, outcome) in enumerate(steps, 1):
        t_us += hours * 3_600_000_000
        decision = policy.evaluate(state, Evidence(t_us, step))
        today = t_us // DAY_US
        assert decision.fired == (asked.count(today) < budget and today != postponed)
        state = decision.after
        if decision.request:
            asked.append(today)
            postponed = today if outcome == "postponed" else postponed
            run = Baseline(run=decision.request, outcome=outcome, t_us=t_us, matured_labels=step)
            state = after_run(state, run)
