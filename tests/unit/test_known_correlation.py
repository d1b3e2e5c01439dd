"""A budget for a period takes the correlation of blocks from all looks so far: it holds where days are alike too."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.intervals import t_quantile
from headrace.trainers.metrics.serial_correlation import NOTHING_KNOWN, KnownCorrelation, serial_correlation
from headrace.trainers.runs.gate import GateReport, JudgedRows, judge
from headrace.trainers.runs.holdout_span import HoldoutSpan
from headrace.trainers.runs.known_correlation import known_correlation
from headrace.trainers.runs.look_budget import LookCost, look_cost
from headrace.trainers.runs.messages import RunEnded

YEARLY = Gate("auc", alpha=0.05, per="year")
WEEK, HOLDOUT, YEAR = 7, 14, 364


def ended(request: str, first: int, lag1: float | None, **report: Any) -> RunEnded:
    """The end of a run that has looked at 14 days."""
    gate = {"metric": "auc", "days": 14} | ({} if lag1 is None else {"lag1": lag1}) | report
    span = HoldoutSpan.of_days(first, first + 14)
    return RunEnded(
        request_id=request, model="delay", outcome="refused", reason="", rule="", t_us=0, matured_labels=0, gate=gate,
        **span.fields(),
    )  # fmt: skip


def known(*ends: RunEnded, at: int = 100, gate: Gate = YEARLY) -> KnownCorrelation:
    """What a look at the days from ``at`` on knows."""
    return known_correlation(ends, "delay", "own", gate, HoldoutSpan.of_days(at, at + 14))


def test_a_look_counts_by_the_days_that_it_adds_to_those_before() -> None:
    found = known(ended("b", 7, 0.5), ended("a", 0, 0.2), ended("c", 7, 0.9), at=14)
    assert found.blocks == pytest.approx(14 + 7 + 0)
    assert found.lag1 == pytest.approx((14 * 0.2 + 7 * 0.5) / 21)
    assert found.new == pytest.approx(0.5)


def test_looks_that_measured_something_else_are_not_known() -> None:
    others = [
        ended("own", 0, 0.9),
        ended("a", 0, None),
        ended("b", 0, 0.9, metric="logloss"),
        ended("c", 0, 0.9, days=14, blocks=14 * 24),
        msgspec.structs.replace(ended("d", 0, 0.9), model="other"),
        msgspec.structs.replace(ended("e", 0, 0.9), holdout_days=None),
        msgspec.structs.replace(ended("f", 0, 0.9), gate=None),
    ]
    assert known(*others) == NOTHING_KNOWN
    hourly = Gate("auc", alpha=0.05, per="year", block="1h", holdout="14d")
    assert known(*others, gate=hourly).blocks == 14 * 24


def test_a_request_that_was_answered_twice_has_measured_once() -> None:
    assert known(ended("a", 0, 0.9), ended("a", 0, 0.3)) == pytest.approx(KnownCorrelation(0.3, 14, 1.0))


def test_the_correlation_that_counts_is_the_mean_of_all_looks_and_half_an_error_more() -> None:
    days = np.array([1.0, -1.0] * 7)  # its own is 0
    alone, after = serial_correlation(days, NOTHING_KNOWN), serial_correlation(days, KnownCorrelation(0.6, 42, 0.5))
    assert (alone.lag1, alone.pooled) == pytest.approx((0.0, 0.5 / np.sqrt(14)))
    mean = 0.6 * 42 / 49
    assert after.pooled is not None
    assert after.pooled == pytest.approx(mean + 0.5 * np.sqrt((1 - mean**2) / 49))
    assert serial_correlation(days).pooled is None
    assert alone.enough
    assert not after.enough
    assert after.freedom == pytest.approx(13 * (1 - after.pooled**2) / (1 + after.pooled**2))


def test_a_gate_with_a_budget_for_a_period_measures_the_correlation_unless_told_not_to() -> None:
    assert YEARLY.measures_correlation
    assert msgspec.to_builtins(YEARLY.spec)["serial_correlation"] == "measured"
    ignoring = Gate("auc", alpha=0.05, per="year", serial_correlation="ignored")
    assert not ignoring.measures_correlation
    assert "serial_correlation" not in msgspec.to_builtins(ignoring.spec)


def judged(differences: np.ndarray, cost: LookCost, gate: Gate) -> GateReport:
    """Judge a challenger that is better by so much log-loss on each day."""
    day = np.repeat(np.arange(len(differences)), 200)
    label = np.tile([0, 1], len(day) // 2)
    ours, theirs = 0.6 * np.exp(differences)[day], 0.6
    rows = JudgedRows(day, label, np.where(label, ours, 1 - ours))
    return judge(rows, np.where(label, theirs, 1 - theirs), gate, cost=cost)


def test_a_look_for_a_small_chance_is_judged_by_what_earlier_looks_have_measured() -> None:
    gate, days = Gate("logloss", alpha=0.05, per="year"), 0.03 + 0.02 * np.array([1.0, -1.0] * 7)
    first = judged(days, LookCost(0.001, 7), gate)
    alike = judged(days, LookCost(0.001, 7, KnownCorrelation(0.35, 200)), gate)
    assert (first.verdict, first.lag1) == ("passed", 0.0)
    assert first.pooled_lag1 == pytest.approx(0.134, abs=1e-3)
    assert float(alike.bound or 0) < float(first.bound or 0)
    assert float(alike.effective_blocks or 0) < float(first.effective_blocks or 0)
    postponed = judged(days, LookCost(0.001, 7, KnownCorrelation(0.7, 200)), gate)
    assert postponed.verdict == "postponed"
    assert "over all looks and with a margin), so they are worth" in postponed.reason
    assert postponed.reason.endswith("of 6 independent ones; a longer holdout has more")
    assert msgspec.json.decode(msgspec.json.encode(postponed), type=GateReport) == postponed
    usual = judged(days, LookCost(0.025, 7, KnownCorrelation(0.7, 200)), gate)
    assert (usual.verdict, usual.pooled_lag1) == ("passed", msgspec.UNSET)


def stationary(generator: np.random.Generator, days: int, phi: float) -> np.ndarray:
    noise, series = generator.normal(size=days), np.empty(days)
    series[0] = noise[0]
    for at in range(1, days):
        series[at] = phi * series[at - 1] + np.sqrt(1 - phi**2) * noise[at]
    return series


def has_a_false_pass(seed: int, phi: float) -> bool:
    """Whether one of a year's weekly looks passes a challenger that is no better. Each look has its own challenger."""
    generator = np.random.default_rng(seed)
    champion, alpha = stationary(generator, YEAR, phi), look_cost(YEARLY, HOLDOUT, [(-WEEK, WEEK)]).alpha
    blocks = total = 0.0
    for end in range(HOLDOUT, YEAR + 1, WEEK):
        gains = stationary(generator, HOLDOUT, phi) - champion[end - HOLDOUT : end]
        new = WEEK / HOLDOUT if blocks else 1.0
        found = serial_correlation(gains, KnownCorrelation(total / blocks if blocks else 0.0, blocks, new))
        assert found.freedom is not None
        half = t_quantile(alpha, found.freedom) * found.widening * gains.std(ddof=1) / np.sqrt(HOLDOUT)
        if found.enough and gains.mean() > half:
            return True
        blocks, total = blocks + new * HOLDOUT, total + new * HOLDOUT * found.lag1
    return False


@pytest.mark.long
@pytest.mark.parametrize("phi", [0.0, 0.3, 0.5, 0.8])
def test_a_year_of_weekly_looks_has_a_false_pass_in_at_most_5_of_100_at_any_correlation(phi: float) -> None:
    """400 years of which 5 % at most have one, give or take three errors."""
    passed = sum(has_a_false_pass(seed, phi) for seed in range(400))
    assert passed / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
