"""A model's policy, its state after a run, and the evidence of a day: for tests of trigger rules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from headrace.base.times import epoch_us
from headrace.trainers.triggers.evidence import DAY_US, Evidence, ServedScores
from headrace.trainers.triggers.rules import volume
from headrace.trainers.triggers.trigger_policy import TriggerPolicy
from headrace.trainers.triggers.trigger_state import Baseline, RunOutcome, TriggerState, after_run

if TYPE_CHECKING:
    from headrace.trainers.triggers.trigger_rule import TriggerRule

T0 = epoch_us(datetime(2013, 2, 15, tzinfo=UTC))
WEEK = 7 * DAY_US


def never() -> ServedScores:
    raise AssertionError("scores were looked at where the answer cannot depend on them")


def see(days: float, labels: int) -> Evidence:
    return Evidence(T0 + int(days * DAY_US), labels, scores=never, outcomes=never)  # type: ignore[arg-type]


def policy(rule: TriggerRule | None = None) -> TriggerPolicy:
    return TriggerPolicy("delay", rule or volume(labels=20_000), first_after=20_000, cooldown_us=WEEK)


def after(outcome: RunOutcome, labels: int = 50_000, *, live: bool = True) -> TriggerState:
    run = Baseline(run="r1", outcome=outcome, t_us=T0, matured_labels=labels)
    return after_run(TriggerState(request="r1", live=live), run)


def scores(days: int, shift: float) -> ServedScores:
    generator = np.random.default_rng(0)
    day = np.repeat(np.arange(T0 // DAY_US, T0 // DAY_US + days), 100)
    newest = day >= T0 // DAY_US + days - 14
    return ServedScores(day, 1 / (1 + np.exp(-generator.normal(np.where(newest, shift, 0.0), 1))))
