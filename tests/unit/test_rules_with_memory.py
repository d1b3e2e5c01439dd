"""Rules that remember: hysteresis, days in a row, and what a reset and the end of a run leave of them."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from headrace.trainers.triggers.consecutive import consecutive
from headrace.trainers.triggers.evidence import DAY_US, Evidence
from headrace.trainers.triggers.hysteresis import hysteresis
from headrace.trainers.triggers.rules import all_of, drift, schedule, volume
from headrace.trainers.triggers.trigger_state import Baseline, RunOutcome, TriggerState, after_run, reset
from tests.support.trigger_scene import T0, after, policy, scores, see


def test_a_rule_with_hysteresis_asks_again_only_after_it_has_calmed_down() -> None:
    def see_drift(days: float, shift: float) -> Evidence:
        return replace(see(days, 90_000 + int(days * 1_000)), scores=lambda: scores(int(days), shift))

    calm = policy(hysteresis(drift("score", psi=0.2, sample="14d"), rearm=0.5))
    fired = calm.evaluate(after("published"), see_drift(90, 1.5))
    assert (fired.fired, fired.rule, fired.after.disarmed) == (True, "drift", ("drift",))
    run = Baseline(run=str(fired.request), outcome="refused", t_us=T0 + 90 * DAY_US, matured_labels=180_000)
    refused = after_run(fired.after, run)
    still = calm.evaluate(refused, see_drift(98, 1.5))
    assert (still.fired, still.progress, still.after) == (False, 0.0, refused)
    assert still.reason.startswith(
        "it has asked already, and may ask again when its progress is 50% or less: score PSI "
    )
    lower = calm.evaluate(still.after, see_drift(99, 0.0))
    assert (lower.fired, lower.after.disarmed) == (False, ())
    assert lower.reason.startswith("armed again: score PSI ")
    assert calm.evaluate(lower.after, see_drift(100, 1.5)).fired


@pytest.mark.parametrize("live", [True, False])
def test_a_run_that_is_asked_for_after_a_reset_is_another_than_the_open_one(live: bool) -> None:
    asking = policy(schedule(every="1d"))
    state = after("published") if live else TriggerState()
    asked, t_us = set(), T0 + 30 * DAY_US
    for number in range(4):
        wished = asking.ask(state, Evidence(t_us, 60_000), words="ann", lift_pin=False)
        assert wished.request is not None
        asked.add(wished.request)
        assert len(asked) == number + 1
        state = reset(wished.after)
    last = asking.ask(state, Evidence(t_us, 60_000), words="ann", lift_pin=False)
    late = Baseline(run=min(asked), outcome="refused", t_us=t_us, matured_labels=60_000)  # an abandoned run ends
    assert after_run(last.after, late).request == last.request not in asked
    ended = after_run(last.after, Baseline(run=str(last.request), outcome="refused", t_us=t_us, matured_labels=60_000))
    assert (ended.abandoned, ended.request) == (msgspec.UNSET, None)
    assert reset(ended).abandoned is msgspec.UNSET  # there is no open run


def test_a_consecutive_rule_says_which_day_it_is_and_forgets_at_a_calm_day() -> None:
    def see_drift(days: float, shift: float) -> Evidence:
        return replace(see(days, 90_000 + int(days * 1_000)), scores=lambda: scores(int(days), shift))

    patient = policy(hysteresis(consecutive(drift("score", psi=0.2, sample="14d"), 3)))
    state = after("published")
    said = []
    for day, shift in ((90, 1.5), (90.5, 1.5), (91, 1.5), (92, 0.0), (93, 1.5), (94, 1.5), (95, 1.5)):
        decision = patient.evaluate(state, see_drift(day, shift))
        said.append((decision.fired, decision.reason.partition(":")[0], round(decision.progress, 2)))
        state = decision.after
    assert said[:3] == [(False, f"day {n} of 3 in a row", p) for n, p in ((1, 0.33), (1, 0.33), (2, 0.67))]
    assert (said[3][0], said[3][1][:9]) == (False, "score PSI")
    assert said[4:] == [(n == 3, f"day {n} of 3 in a row", p) for n, p in ((1, 0.33), (2, 0.67), (3, 1.0))]
    assert (decision.rule, state.disarmed) == ("drift", ("drift",))


@pytest.mark.parametrize(("outcome", "armed"), [("published", 0), ("refused", 0), ("postponed", 1), ("failed", 1)])
def test_a_run_that_judged_nothing_arms_the_rule_again(outcome: RunOutcome, armed: int) -> None:
    state = TriggerState(request="r1", live=True, disarmed=("drift",))
    run = Baseline(run="r1", outcome=outcome, t_us=T0, matured_labels=50_000)
    assert after_run(state, run).disarmed == (() if armed else ("drift",))


def test_a_rule_that_took_no_part_in_asking_stays_armed() -> None:
    both = policy(all_of(hysteresis(schedule(every="7d")), volume(labels=20_000)))
    waiting = both.evaluate(after("published"), see(10, 60_000))
    assert (waiting.fired, waiting.after.disarmed) == (False, ())
    assert both.evaluate(after("published"), see(10, 70_000)).after.disarmed == ("schedule",)
