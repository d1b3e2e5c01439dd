from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace.trainers.observation import DAY_US, Observation
from headrace.trainers.policy import Decision, Policy
from headrace.trainers.trigger_state import Baseline, RunOutcome, TriggerState, finished, pinned, unpinned
from headrace.trainers.triggers import Rule, all_of, any_of, at_least, schedule, volume

LEAVES: st.SearchStrategy[Rule] = st.one_of(
    st.integers(1, 3_000).map(lambda n: volume(labels=n, name=f"volume{n}")),
    st.integers(1, 40).map(lambda n: schedule(every=f"{n}d", name=f"schedule{n}")),
)


def combined(children: st.SearchStrategy[Rule]) -> st.SearchStrategy[Rule]:
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


@given(RULES, st.integers(1, 3_000), st.integers(0, 9), DAYS)
def test_a_life_of_decisions_keeps_the_law_and_replays(
    rule: Rule, first: int, cooldown: int, days: list[tuple[int, int, RunOutcome, str]]
) -> None:
    policy = Policy("m", rule, first, cooldown * DAY_US)
    state, t_us, labels = TriggerState(), 0, 0
    records: list[bytes] = []
    asked: set[str] = set()
    for step, more, outcome, rollback in days:
        t_us, labels = t_us + step * DAY_US, labels + more
        decision = policy.evaluate(state, Observation(t_us, labels))
        records.append(msgspec.json.encode(decision))
        check(policy, state, decision, labels)
        state = decision.after
        if decision.request:
            assert decision.request not in asked
            asked.add(decision.request)
            assert not policy.evaluate(state, Observation(t_us, labels)).fired
            state = finished(state, Baseline(run=decision.request, outcome=outcome, t_us=t_us, matured_labels=labels))
        if rollback:
            state = pinned(state, t_us, labels) if rollback == "pin" else unpinned(state)
    for record in records:
        old = msgspec.json.decode(record, type=Decision)
        assert msgspec.json.encode(policy.judge(old.state, old.t_us, old.inputs)) == record


def check(policy: Policy, state: TriggerState, decision: Decision, labels: int) -> None:
    assert decision.reason
    assert 0 <= decision.progress <= 1
    assert decision.fired == (decision.request is not None) == (decision.after != state)
    if not decision.fired:
        return
    assert decision.progress == 1
    assert state.live or labels >= policy.first
    if state.baseline is not None:
        assert decision.t_us - state.baseline.t_us >= policy.cooldown_us
        if state.baseline.outcome != "published":
            assert labels - state.baseline.matured_labels >= policy.enough_labels // 4
