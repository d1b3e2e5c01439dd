"""What is excluded later is taken out of both sides of every count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pandas as pd
import pytest

from headrace.models.manifest import TimeSpan
from headrace.trainers.data.examples import Examples
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.runs.holdout import split_holdout
from headrace.trainers.triggers.evidence import DAY_US, Evidence
from headrace.trainers.triggers.rules import volume
from headrace.trainers.triggers.trigger_policy import Decision, TriggerPolicy
from headrace.trainers.triggers.trigger_state import Baseline, RunOutcome, TriggerState, after_run, with_pin
from tests.support.orders_model import A_DAY, Shop, day, model

if TYPE_CHECKING:
    from pathlib import Path

POLICY = TriggerPolicy("m", volume(labels=20_000), 20_000, 7 * DAY_US)
BEFORE, BAD = 100_000, 30_000


def ran(outcome: RunOutcome, t_us: int = 0, labels: int = BEFORE, run: str = "r") -> TriggerState:
    baseline = Baseline(run=run, outcome=outcome, t_us=t_us, matured_labels=labels)
    return after_run(TriggerState(request=run, live=True), baseline)


def seen(days: int, labels: int, excluded: int = 0) -> Evidence:
    """All ``excluded`` labels were matured before the first day."""
    return Evidence(days * DAY_US, labels - excluded, matured_at=lambda _: BEFORE - excluded)


def judged(state: TriggerState, evidence: Evidence) -> tuple[bool, str]:
    decision = POLICY.evaluate(state, evidence)
    again = msgspec.json.decode(msgspec.json.encode(decision), type=Decision)
    assert POLICY.judge(again.state, again.t_us, again.inputs) == decision
    return decision.fired, decision.reason


def test_labels_that_are_excluded_later_need_not_be_made_up_for() -> None:
    fires = (True, "20,000 of 20,000 matured labels since the run of 1970-01-01")
    assert judged(ran("published"), seen(30, 120_000)) == fires
    assert judged(ran("published"), seen(30, 120_000, BAD)) == fires
    assert judged(ran("published"), seen(30, 119_000, BAD))[1].startswith("19,000 of 20,000 matured labels")


def test_the_count_after_a_refusal_is_without_what_is_excluded() -> None:
    fired, reason = judged(ran("refused"), seen(30, 104_000, BAD))
    assert (fired, reason) == (
        False, "the run of 1970-01-01 was refused: 4,000 of 5,000 matured labels before asking again"
    )  # fmt: skip


def test_the_count_of_a_pin_is_without_what_is_excluded() -> None:
    pinned = with_pin(ran("published"), "e", 0, BEFORE)
    assert judged(pinned, seen(30, 119_000, BAD))[1].startswith("the live version is pinned: 19,000 of 20,000")
    assert judged(pinned, seen(30, 120_000, BAD))[0]


def test_an_exclusion_between_a_run_and_a_postponed_one_counts_from_the_first_of_them() -> None:
    postponed = Baseline(run="p", outcome="postponed", t_us=20 * DAY_US, matured_labels=115_000)
    state = after_run(ran("published"), postponed)
    times: list[int] = []

    def matured_at(t_us: int) -> int:
        times.append(t_us)
        return BEFORE - BAD

    assert judged(state, Evidence(40 * DAY_US, 120_000 - BAD, matured_at=matured_at))[0]
    assert set(times) == {0}
    again = after_run(state, msgspec.structs.replace(postponed, run="q", t_us=30 * DAY_US))
    assert again.baseline is not None
    assert (again.baseline.matured_labels, again.baseline.cooldown_from_us) == (BEFORE, 0)


def test_a_decision_in_which_nothing_is_excluded_has_the_inputs_of_before() -> None:
    assert POLICY.evaluate(ran("published"), seen(30, 110_000)).inputs["matured_labels"] == 110_000
    assert "baseline_labels" not in POLICY.evaluate(ran("published"), seen(30, 110_000)).inputs


def test_a_label_that_was_late_in_the_log_is_new() -> None:
    late = Evidence(30 * DAY_US, 120_000, matured_at=lambda _: BEFORE + 5_000)
    assert judged(ran("published"), late)[0]


@pytest.mark.slow
def test_the_labels_since_a_baseline_are_the_same_whatever_was_excluded_before_it(tmp_path: Path) -> None:
    log, then, now = ModelLog(model, Shop(tmp_path).log), day(30), day(40)
    counted = log.evidence(then, None).matured_labels
    old = [TimeSpan(from_us=day(3), to_us=day(9), reason="the till was broken")]
    new = [TimeSpan(from_us=day(32), to_us=day(33), reason="a sale")]
    for excluded, left in (([], 10 * A_DAY), (old, 10 * A_DAY), (new, 9 * A_DAY), ([*old, *new], 9 * A_DAY)):
        evidence = log.evidence(now, None, excluded)
        assert evidence.matured_labels - evidence.still_counted(counted, then) == left


def test_a_day_that_two_exclusions_cover_together_is_not_one_of_the_holdout() -> None:
    requested = np.sort(np.random.default_rng(0).integers(day(0), day(40), 1_000))
    data = Examples(
        pd.DataFrame({"a": np.zeros(1_000)}), np.zeros(1_000, np.int8), np.arange(1_000), requested // DAY_US, requested
    )
    whole = [TimeSpan(from_us=day(30), to_us=day(31), reason="x")]
    halves = [TimeSpan(from_us=day(30 + at), to_us=day(30.5 + at), reason="x") for at in (0.5, 0)]
    days = [split_holdout(model, data, day(40), excluded).span.days for excluded in (whole, halves)]
    assert days == [(day(24) // DAY_US, day(39) // DAY_US)] * 2
    apart = [halves[1], TimeSpan(from_us=day(30.6), to_us=day(31), reason="x")]
    assert split_holdout(model, data, day(40), apart).span.days == (day(25) // DAY_US, day(39) // DAY_US)
