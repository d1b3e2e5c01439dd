"""Where triggers stand is what the next tick would find: also after a run, a reset, and what a person has decided."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from headrace.app import operators
from headrace.app.trigger_standing import TriggerStanding, standing
from headrace.models.model_state import fold
from headrace.trainers.runs.messages import DecisionRecord
from headrace.trainers.triggers.evidence import DAY_US, Evidence
from headrace.trainers.triggers.rules import volume
from headrace.trainers.triggers.trigger_policy import Decision, TriggerPolicy
from headrace.trainers.triggers.trigger_state import Baseline, RollbackPin, TriggerState, as_published, reset
from tests.support.model_events import published, rolled_back
from tests.support.orders_model import model

POLICY = TriggerPolicy("delay", volume(labels=1_000), first_after=500, cooldown_us=7 * DAY_US)
REFUSED = Baseline(run="r", outcome="refused", t_us=10 * DAY_US, matured_labels=5_000)
LIVE = TriggerState(live=True, baseline=REFUSED)
V1 = published("a", 1, expects=None)
PIN = rolled_back("x", 1)
UNPIN = rolled_back("y", 1, pin=False, lifts="x")


def record(kind: Any, state: TriggerState, decision: Decision | None = None, day: int = 10) -> DecisionRecord:
    reason = decision.reason if kind == "evaluated" and decision is not None else "what was recorded"
    return DecisionRecord(model="delay", kind=kind, t_us=day * DAY_US, reason=reason, state=state, decision=decision)


def decided(state: TriggerState, day: int, labels: int) -> DecisionRecord:
    evidence = Evidence(day * DAY_US, labels, scores=None, outcomes=None)  # type: ignore[arg-type]
    decision = POLICY.evaluate(state, evidence)
    return record("evaluated", decision.after, decision, day)


def told(found: TriggerStanding) -> tuple[Any, ...]:
    return found.rule, found.reason, found.until


def test_after_a_refused_run_the_cooldown_is_named_and_when_a_run_may_be_asked_for() -> None:
    assert told(standing(POLICY, record("finished", LIVE), published=fold([V1]))) == (
        "cooldown",
        "cooldown: 0.0 of 7.0 days since the run of 1970-01-11",
        "1970-01-18 00:00 UTC, and 250 more labels",
    )
    after = decided(LIVE, 18, 5_100)
    assert told(standing(POLICY, after)) == (
        "after_refusal",
        "the run of 1970-01-11 was refused: 100 of 250 matured labels before asking again",
        "150 more labels",
    )


def test_after_a_reset_nothing_holds_the_rules() -> None:
    found = standing(POLICY, record("reset", reset(LIVE)), decided(LIVE, 9, 5_000).decision, fold([V1]))
    assert told(found) == (None, "nothing holds the rules: they are judged at the next tick", None)


def test_a_pin_holds_at_once_and_not_from_the_next_tick_on() -> None:
    last = decided(LIVE, 30, 5_500)
    assert standing(POLICY, last, published=fold([V1])).rule == "volume"
    found = standing(POLICY, last, published=fold([V1, PIN]))
    assert told(found) == (
        "pinned",
        "the live version is pinned: 0 of 1,000 matured labels since the pin",
        "`headrace models unpin delay`, or 1,000 more labels",
    )


def test_a_pin_that_was_removed_holds_nothing_before_the_next_tick_either() -> None:
    pinned = as_published(LIVE, fold([V1, PIN]), 20 * DAY_US, 5_300)
    last = decided(pinned, 30, 5_500)
    assert told(standing(POLICY, last, published=fold([V1, PIN])))[0] == "pinned"
    assert standing(POLICY, last, published=fold([V1, PIN, UNPIN])).rule is None


def test_a_refused_wish_does_not_hide_the_pin_that_refused_it() -> None:
    state = as_published(LIVE, fold([V1, PIN]), 20 * DAY_US, 5_300)
    evidence = Evidence(30 * DAY_US, 5_500, scores=None, outcomes=None)  # type: ignore[arg-type]
    asked = POLICY.ask(state, evidence, words="ann: new prices", lift_pin=False)
    records = [decided(state, 29, 5_400), record("asked", asked.after, asked, 30)]
    found = operators.explain(Named(POLICY), records, fold([V1, PIN]))  # type: ignore[arg-type]
    assert found["now"] == "the live version is pinned: 200 of 1,000 matured labels since the pin"
    assert (found["last"], found["until"]) == (
        "what was recorded",
        "`headrace models unpin delay`, or 800 more labels",
    )
    assert found["since"] == found["state"]["pinned_since"] == "1970-01-01T00:00:00Z", "when a person said so"


def test_a_hold_lasts_since_the_run_that_made_it() -> None:
    before = decided(TriggerState(live=True), 9, 900)
    records = [before, record("finished", LIVE), decided(LIVE, 11, 5_000), decided(LIVE, 12, 5_000)]
    found = operators.explain(Named(POLICY), records, fold([V1]))  # type: ignore[arg-type]
    assert (found["since"], found["last"]) == ("1970-01-11T00:00:00Z", None)


def test_an_open_run_holds_until_it_ends() -> None:
    asked = decided(TriggerState(live=True), 9, 2_000)
    assert told(standing(POLICY, asked))[0::2] == ("volume", None), "the rule that fired"
    waits = decided(asked.state, 10, 2_000)
    assert told(standing(POLICY, waits))[0::2] == ("open_request", f"run {asked.state.request} ends")


class Named:
    """A model's name and policy."""

    def __init__(self, policy: TriggerPolicy) -> None:
        self.name, self.policy = model.name, policy


BASELINES = st.builds(
    Baseline,
    run=st.just("r"),
    outcome=st.sampled_from(["published", "refused", "postponed", "failed"]),
    t_us=st.integers(0, 9).map(lambda day: day * DAY_US),
    matured_labels=st.integers(0, 3_000),
    judged_us=st.sampled_from([UNSET, 0]),
    again_us=st.sampled_from([UNSET, 11 * DAY_US]),
)
STATES = st.builds(
    TriggerState,
    baseline=st.none() | BASELINES,
    request=st.sampled_from([None, "other"]),
    pin=st.none() | st.builds(RollbackPin, t_us=st.just(0), matured_labels=st.integers(0, 3_000), event=st.just("x")),
    live=st.just(True),
    asked_day=st.just(10),
    asked_count=st.integers(0, 2),
)


@given(state=STATES, kind=st.sampled_from(["finished", "asked", "reset"]), is_pinned=st.booleans(), day=st.just(10))
def test_the_hold_that_is_named_is_the_one_of_a_tick_at_the_same_moment(
    state: TriggerState, kind: Any, is_pinned: bool, day: int
) -> None:
    policy = TriggerPolicy("delay", volume(labels=1_000), 500, 7 * DAY_US, daily_budget=2)
    events = fold([V1, PIN] if is_pinned else [V1])
    found = standing(policy, record(kind, state), None, events)
    labels = max(state.baseline_labels, state.pin.matured_labels if state.pin else 0)
    seen = as_published(state, events, day * DAY_US, labels)
    evidence = Evidence(day * DAY_US, labels, scores=None, outcomes=None)  # type: ignore[arg-type]
    tick = policy.evaluate(seen, evidence)
    holds = {"open_request", "pinned", "daily_budget", "cooldown", "postponed", "after_refusal"}
    assert found.rule == (tick.rule if tick.rule in holds else None)
    assert (found.until is None) == (found.rule is None)
