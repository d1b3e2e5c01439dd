from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from headrace.errors import DefinitionError
from headrace.trainers.metrics.own_metric import own_metric
from headrace.trainers.triggers.consecutive import consecutive
from headrace.trainers.triggers.evidence import DAY_US, Outcomes
from headrace.trainers.triggers.hysteresis import hysteresis
from headrace.trainers.triggers.rules import all_of, any_of, at_least, drift, performance, schedule, volume
from headrace.trainers.triggers.trigger_policy import Decision, TriggerPolicy, request_id
from headrace.trainers.triggers.trigger_state import (
    Baseline,
    RollbackPin,
    RunOutcome,
    TriggerState,
    after_run,
    reset,
    with_pin,
    without_pin,
)
from tests.support.trigger_scene import T0, WEEK, after, policy, scores, see

if TYPE_CHECKING:
    from headrace.trainers.triggers.trigger_rule import TriggerRule


def test_the_first_version_waits_for_its_rows() -> None:
    decision = policy().evaluate(TriggerState(), see(0, 13_204))
    assert (decision.fired, decision.rule) == (False, "first")
    assert decision.reason == "13,204 of 20,000 matured labels for the first version"
    assert decision.progress == pytest.approx(0.6602)
    fired = policy().evaluate(TriggerState(), see(1, 20_000))
    assert (fired.fired, fired.rule, fired.progress) == (True, "first", 1.0)
    assert fired.after.request == fired.request == request_id("delay", None)


def test_volume_counts_from_the_last_finished_run_and_says_how_far_it_is() -> None:
    decision = policy().evaluate(after("published"), see(10, 63_204))
    assert (decision.fired, decision.rule) == (False, "volume")
    assert decision.reason == "13,204 of 20,000 matured labels since the run of 2013-02-15"
    assert decision.progress == pytest.approx(0.6602)
    assert policy().evaluate(after("published"), see(10, 69_999)).fired is False
    assert policy().evaluate(after("published"), see(10, 70_000)).fired is True


def test_a_run_that_was_asked_for_is_not_asked_for_again() -> None:
    fired = policy().evaluate(after("published"), see(10, 70_000))
    again = policy().evaluate(fired.after, see(11, 99_000))
    assert (again.fired, again.rule) == (False, "open_request")
    assert str(fired.request) in again.reason
    done = after_run(
        fired.after, Baseline(run=str(fired.request), outcome="published", t_us=T0 + 12 * DAY_US, matured_labels=99_000)
    )
    assert done.request is None
    assert policy().evaluate(done, see(30, 119_000)).fired


@pytest.mark.parametrize("outcome", ["published", "refused", "failed"])
def test_the_cooldown_holds_after_a_run(outcome: RunOutcome) -> None:
    held = policy().evaluate(after(outcome), see(6.99, 99_000))
    assert (held.fired, held.rule) == (False, "cooldown")
    assert held.reason == "cooldown: 7.0 of 7.0 days since the run of 2013-02-15"
    assert policy().evaluate(after(outcome), see(7, 99_000)).fired


def test_a_postponed_run_has_judged_nothing_so_the_volume_goes_on_counting() -> None:
    asked = policy().evaluate(after("published"), see(10, 70_000)).after
    run = Baseline(run=str(asked.request), outcome="postponed", t_us=T0 + 10 * DAY_US, matured_labels=70_000)
    state = after_run(asked, run)
    held = policy().evaluate(state, see(10.9, 80_000))
    assert held.rule == "postponed"
    assert held.progress == pytest.approx(0.9)
    assert held.reason == "the run of 2013-02-25 was postponed: it is asked for again on the next day"
    assert policy().evaluate(state, see(11, 69_999)).rule == "volume"
    again = policy().evaluate(state, see(11, 70_001))
    assert again.fired
    assert again.request != asked.request


def test_a_postponed_run_leaves_the_cooldown_of_the_run_before_it() -> None:
    soon = policy(schedule(every="1h"))
    run = Baseline(run="r2", outcome="postponed", t_us=T0 + 2 * DAY_US, matured_labels=60_000)
    state = after_run(after("published"), run)
    assert soon.evaluate(state, see(6.9, 90_000)).reason == "cooldown: 6.9 of 7.0 days since the run of 2013-02-15"
    assert soon.evaluate(state, see(7, 90_000)).fired
    twice = after_run(state, msgspec.structs.replace(run, run="r3", t_us=T0 + 3 * DAY_US))
    assert soon.evaluate(twice, see(7, 90_000)).fired


def test_a_postponed_first_run_is_asked_for_again_on_the_next_day() -> None:
    run = Baseline(run="r1", outcome="postponed", t_us=T0, matured_labels=20_000)
    state = after_run(TriggerState(request="r1"), run)
    assert policy().evaluate(state, see(0.5, 20_500)).rule == "postponed"
    assert policy().evaluate(state, see(1, 21_000)).fired


def test_a_postponed_run_that_says_when_it_can_be_judged_is_asked_for_again_then() -> None:
    """Be it in an hour, or in eight days."""
    soon = policy(schedule(every="1h"))
    for again in (8.25, 16.0):
        run = Baseline(
            run="r2",
            outcome="postponed",
            t_us=T0 + 8 * DAY_US,
            matured_labels=80_000,
            again_us=T0 + int(again * DAY_US),
        )
        state = after_run(after("published"), run)
        held = soon.evaluate(state, see((8 + again) / 2, 90_000))
        assert held.rule == "postponed"
        assert held.progress == pytest.approx(0.5)
        day = "2013-02-23 06:00" if again == 8.25 else "2013-03-03 00:00"
        assert held.reason == f"the run of 2013-02-23 was postponed: it can be judged from {day} UTC on"
        assert soon.evaluate(state, see(again - 0.01, 90_000)).rule == "postponed"
        assert soon.evaluate(state, see(again, 90_000)).fired


def test_a_postponed_run_that_can_be_judged_soon_does_not_shorten_the_cooldown() -> None:
    soon = policy(schedule(every="1h"))
    run = Baseline(run="r2", outcome="postponed", t_us=T0 + 2 * DAY_US, matured_labels=60_000, again_us=T0 + 3 * DAY_US)
    state = after_run(after("published"), run)
    assert soon.evaluate(state, see(6.9, 90_000)).rule == "cooldown"
    assert soon.evaluate(state, see(7, 90_000)).fired


def test_a_run_that_a_person_cancelled_is_not_asked_for_again_at_once_and_the_hold_says_who_cancelled_it() -> None:
    words = "cancelled by ann: bad day"
    run = Baseline(run="r1", outcome="failed", t_us=T0, matured_labels=50_000, cancelled=words)
    state = after_run(TriggerState(request="r1", live=True), run)
    often = policy(schedule(every="1h"))
    assert often.evaluate(state, see(1, 50_001), "b").rule == "cooldown"
    held = often.evaluate(state, see(8, 50_001), "b")
    assert (held.rule, f"was {words}: 1 of" in held.reason) == ("after_refusal", True)
    assert often.judge(held.state, held.t_us, held.inputs) == held
    assert often.ask(state, see(1, 50_001), words="bob", lift_pin=False).fired  # a person stands above it
    assert often.evaluate(reset(state), see(1, 50_001), "b").fired


def test_a_failed_run_holds_nothing_up_once_its_code_or_configuration_has_changed() -> None:
    run = Baseline(run="r1", outcome="failed", t_us=T0, matured_labels=50_000, code="a")
    state = after_run(TriggerState(request="r1", live=True), run)
    often = policy(schedule(every="1h"))
    assert often.evaluate(state, see(1, 50_001), "a").rule == "cooldown"
    assert often.evaluate(state, see(8, 50_001), "a").rule == "after_refusal"
    mended = often.evaluate(state, see(1, 50_001), "b")
    assert mended.fired
    assert often.judge(mended.state, mended.t_us, mended.inputs) == mended
    unknown = msgspec.structs.replace(
        state, baseline=Baseline(run="r1", outcome="failed", t_us=T0, matured_labels=50_000)
    )
    assert often.evaluate(unknown, see(1, 50_001), "b").rule == "cooldown"


@pytest.mark.parametrize("outcome", ["refused", "failed"])
def test_after_a_refusal_no_rule_asks_before_a_quarter_of_the_volume(outcome: RunOutcome) -> None:
    often = policy(any_of(volume(labels=20_000), schedule(every="1d")))
    held = often.evaluate(after(outcome), see(8, 54_999))
    assert (held.fired, held.rule) == (False, "after_refusal")
    assert held.reason == f"the run of 2013-02-15 was {outcome}: 4,999 of 5,000 matured labels before asking again"
    assert often.evaluate(after(outcome), see(8, 55_000)).rule == "schedule"
    assert often.evaluate(after("published"), see(8, 50_001)).fired


def test_a_refused_first_version_is_tried_again_after_both() -> None:
    refused = after("refused", 20_000, live=False)
    assert not refused.live
    assert policy().evaluate(refused, see(8, 24_999)).rule == "after_refusal"
    assert policy().evaluate(refused, see(8, 25_000)).rule == "first"
    assert policy().evaluate(refused, see(8, 25_000)).fired


def test_a_pin_holds_until_it_is_off_or_there_are_enough_new_labels() -> None:
    state = with_pin(after("published"), "pin", T0 + 8 * DAY_US, 60_000)
    held = policy(schedule(every="1d")).evaluate(state, see(10, 79_999))
    assert (held.rule, held.reason) == (
        "pinned",
        "the live version is pinned: 19,999 of 20,000 matured labels since the pin",
    )
    assert policy(schedule(every="1d")).evaluate(state, see(10, 80_000)).fired
    assert policy(schedule(every="1d")).evaluate(without_pin(state), see(10, 60_001)).fired


def test_a_second_rollback_begins_to_count_anew() -> None:
    first = with_pin(after("published"), "x", T0 + 8 * DAY_US, 60_000)
    assert with_pin(first, "x", T0 + 9 * DAY_US, 70_000) == first
    second = with_pin(first, "y", T0 + 20 * DAY_US, 79_999)
    held = policy(schedule(every="1d")).evaluate(second, see(20, 80_001))
    assert held.reason == "the live version is pinned: 2 of 20,000 matured labels since the pin"


def test_a_pin_of_an_earlier_release_has_no_event_and_counts_on() -> None:
    old = msgspec.structs.replace(after("published"), pin=RollbackPin(t_us=T0 + 8 * DAY_US, matured_labels=60_000))
    state = with_pin(old, "x", T0 + 9 * DAY_US, 70_000)
    assert state.pin == RollbackPin(t_us=T0 + 8 * DAY_US, matured_labels=60_000, event="x")


def test_a_publication_takes_the_pin_off_and_a_refusal_does_not() -> None:
    state = with_pin(after("published"), "pin", T0 + 8 * DAY_US, 60_000)
    for outcome, held in (("published", False), ("refused", True)):
        run = Baseline(run="r2", outcome=outcome, t_us=T0 + 9 * DAY_US, matured_labels=70_000)  # type: ignore[arg-type]
        assert (after_run(state, run).pin is not None) is held


def test_finishing_the_same_run_twice_changes_nothing() -> None:
    once = after("refused")
    late = Baseline(run="r1", outcome="refused", t_us=T0 + WEEK, matured_labels=99_999)
    assert after_run(once, late) == once


def test_the_request_id_depends_on_model_and_baseline_alone() -> None:
    first = policy().evaluate(after("published"), see(10, 70_000))
    later = policy(any_of(volume(labels=20_000), schedule(every="15d"))).evaluate(after("published"), see(20, 90_000))
    assert (first.rule, later.rule) == ("volume", "volume+schedule")
    assert first.request == later.request
    assert len({request_id("fraud", None), request_id("delay", None), first.request}) == 3


@pytest.mark.parametrize("outcome", ["published", "refused", "postponed", "failed"])
def test_the_end_of_an_earlier_run_does_not_move_the_baseline_back(outcome: RunOutcome) -> None:
    old = Baseline(run="r0", outcome=outcome, t_us=T0 - WEEK, matured_labels=30_000)
    state = after("refused")
    assert after_run(state, old) is state
    waiting = replace_request(state, "r0")
    moved = after_run(waiting, old).baseline
    assert moved is not None
    assert (moved.run, moved.matured_labels) == ("r0", 50_000 if outcome == "postponed" else 30_000)


def replace_request(state: TriggerState, request: str) -> TriggerState:
    return msgspec.structs.replace(state, request=request)


def test_combined_triggers_count_and_name_the_deciding_rules() -> None:
    week, month, labels = schedule(every="7d"), schedule(every="28d", name="monthly"), volume(labels=20_000)
    state = after("published")

    def decide(rule: TriggerRule, days: float, count: int) -> tuple[bool, str]:
        decision = policy(rule).evaluate(state, see(days, count))
        return decision.fired, decision.rule

    assert decide(any_of(week, month, labels), 10, 50_000) == (True, "schedule")
    assert decide(any_of(week, month, labels), 30, 70_000) == (True, "schedule+monthly+volume")
    assert decide(all_of(week, labels), 10, 69_999) == (False, "volume")
    assert decide(all_of(week, labels), 10, 70_000) == (True, "schedule+volume")
    assert decide(at_least(2, week, month, labels), 10, 60_000) == (False, "volume")
    assert decide(at_least(2, week, month, labels), 28, 60_000) == (True, "schedule+monthly")
    assert decide(any_of(all_of(week, labels, name="both"), month), 10, 69_000) == (False, "volume")
    progress = policy(all_of(week, labels)).evaluate(state, see(10, 55_000)).progress
    assert progress == pytest.approx(0.25)


def test_each_rule_has_its_own_verdict_in_the_decision() -> None:
    decision = policy(any_of(volume(labels=20_000), schedule(every="40d"))).evaluate(
        after("published"), see(10, 55_000)
    )
    assert [(v.rule, v.fired, v.progress) for v in decision.verdicts] == [
        ("any_of", False, 0.25),
        ("volume", False, 0.25),
        ("schedule", False, 0.25),
    ]
    assert decision.reason == "volume: 5,000 of 20,000 matured labels since the run of 2013-02-15"


def test_drift_waits_for_its_reference_then_weighs_both_thresholds() -> None:
    rule = policy(drift("score", psi=0.2, sample="14d"))
    early = rule.evaluate(after("published"), replace(see(30, 60_000), scores=lambda: scores(30, 2.0)))
    assert early.reason == "too few days to compare with: 16 of 42 served days before the sample of 14d"
    calm = rule.evaluate(after("published"), replace(see(90, 60_000), scores=lambda: scores(90, 0.0)))
    assert (calm.fired, calm.rule) == (False, "drift")
    assert 0 < calm.progress < 0.2
    shifted = rule.evaluate(after("published"), replace(see(90, 60_000), scores=lambda: scores(90, 1.5)))
    assert shifted.fired
    assert shifted.reason.startswith("score PSI ")


def outcomes(days: int, noise_after: float, rows: int = 500) -> Outcomes:
    """A live version that gets worse after its first 14 days."""
    generator = np.random.default_rng(1)
    day = np.repeat(np.arange(T0 // DAY_US, T0 // DAY_US + days), rows)
    logit = generator.normal(-1, 1.2, len(day))
    label = (generator.random(len(day)) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    noise = np.where(day < T0 // DAY_US + 14, 0.1, noise_after)
    return Outcomes(day, 1 / (1 + np.exp(-(logit + generator.normal(0, 1, len(day)) * noise))), label)


def test_performance_fires_on_a_sure_loss_only() -> None:
    def decide(days: int, noise: float, rows: int = 500, metric: str = "auc") -> Decision:
        rule = policy(performance(metric, drop=0.03))
        return rule.evaluate(
            after("published"), replace(see(days, 60_000), outcomes=lambda: outcomes(days, noise, rows))
        )

    early = decide(27, 3.0)
    assert early.reason == ("not enough outcomes after the first 14 live days: 13 of 14 days, 6,500 of 5,000 outcomes")
    assert "4,900 of 5,000" in decide(28, 3.0, rows=350).reason
    assert decide(28, 3.0).fired
    assert decide(28, 3.0, metric="logloss").fired
    same = decide(60, 0.1)
    assert not same.fired
    assert same.inputs["rules"]["days"] == 14
    assert decide(60, 3.0, rows=200).inputs["rules"]["outcomes"] == 5_000


def test_performance_says_that_its_metric_is_not_defined() -> None:
    rule = policy(performance(own_metric(lambda *_: float("nan"), higher_is_better=True, name="odd"), drop=0.03))
    found = rule.evaluate(after("published"), replace(see(60, 60_000), outcomes=lambda: outcomes(60, 3.0)))
    assert not found.fired
    assert found.reason == "odd is not defined for these outcomes, or for too many resamples of them"


def test_a_decision_survives_json_and_means_the_same_again() -> None:
    rule = policy(any_of(volume(labels=20_000), drift("score", psi=0.2, sample="14d")))
    decision = rule.evaluate(after("published"), replace(see(90, 60_000), scores=lambda: scores(90, 1.5)))
    back = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    assert back == decision
    assert rule.judge(back.state, back.t_us, back.inputs) == decision


def test_no_more_runs_are_asked_for_on_a_day_than_its_budget() -> None:
    keen = TriggerPolicy("delay", schedule(every="1h"), first_after=10, cooldown_us=0, daily_budget=2)
    state, asked = after("published"), []
    for hour in range(1, 49):
        decision = keen.evaluate(state, see(hour / 24, 90_000 + hour))
        state = decision.after
        if decision.request:
            asked.append(hour)
            run = Baseline(run=decision.request, outcome="published", t_us=decision.t_us, matured_labels=90_000)
            state = after_run(state, run)
        elif hour == 12:
            assert (decision.rule, decision.progress) == ("daily_budget", 0.5)
            assert decision.reason == "daily budget: 2 of 2 runs asked for on 2013-02-15"
    assert asked == [1, 2, 24, 25, 48]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: volume(labels=0), r"volume\(labels"),
        (lambda: drift("delay_minutes", psi=0.2, sample="14d"), "only 'score'"),
        (lambda: drift("score", psi=-1, sample="14d"), "psi"),
        (lambda: drift("score", psi=0.2, sample="14d", false_alarms="often"), "'often' is no rate"),
        (lambda: drift("score", psi=0.2, sample="14d", false_alarms="0/year"), "such as '3/year'"),
        (lambda: drift("score", psi=0.2, sample="14d", false_alarms="30/year"), "at most 12"),
        (lambda: drift("score", psi=0.2, sample="14d", false_alarms=3), "3 is no rate"),  # type: ignore[arg-type]
        (lambda: drift("score", psi=0.2, sample="36h"), "whole number of days"),
        (
            lambda: performance("accuracy", drop=0.1),
            r"metric='accuracy'; choose one of \['auc', 'logloss', ",
        ),
        (lambda: performance("auc", drop=0.0), "drop"),
        (lambda: schedule(every="0s"), "every"),
        (lambda: any_of(volume(labels=1), volume(labels=2)), "give each rule its own"),
        (lambda: at_least(3, volume(labels=1)), "can never fire"),
        (any_of, "any_of has no rules; give it at least one"),
        (lambda: TriggerPolicy("delay", volume(labels=1), first_after=0, cooldown_us=0), "first_after=0"),
        (
            lambda: TriggerPolicy("delay", volume(labels=1), first_after=1, cooldown_us=0, daily_budget=0),
            "daily_budget=0",
        ),
        (lambda: hysteresis(volume(labels=1), rearm=1.0), r"hysteresis\(volume, rearm=1\.0\)"),
        (
            lambda: policy(
                any_of(
                    all_of(hysteresis(volume(labels=1)), name="a"),
                    all_of(hysteresis(volume(labels=2)), name="b"),
                )
            ),
            r"several rules with hysteresis have the names \['volume'\]",
        ),
        (lambda: consecutive(volume(labels=1), 1), r"consecutive\(volume, days=1\): give 2 or more whole days"),
        (
            lambda: policy(any_of(consecutive(volume(labels=1), 2), all_of(consecutive(volume(labels=2), 3)))),
            r"several rules with consecutive have the names \['volume'\]",
        ),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(make: object, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        make()  # type: ignore[operator]
