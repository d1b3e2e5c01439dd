from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.errors import DefinitionError
from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.expected_cost import expected_cost
from headrace.trainers.metrics.intervals import t_quantile
from headrace.trainers.metrics.named_metrics import within_block
from headrace.trainers.model_spec import Floors
from headrace.trainers.runs.gate import GateReport, JudgedRows, KnownRates, judge, judge_first
from headrace.trainers.runs.look_budget import LookCost

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def logistic(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def world(seed: int, days: int = 14, per_day: int = 200) -> Rows:
    """Days with a level of their own, rows with a signal; returns day, label and the true logit."""
    generator = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), per_day)
    logit = np.repeat(generator.normal(-1.2, 0.7, days), per_day) + generator.normal(0, 1, days * per_day)
    return day, (generator.random(len(day)) < logistic(logit)).astype(int), logit


def fitted(logit: np.ndarray, day: np.ndarray, seed: int, noise: float = 0.5) -> np.ndarray:
    """A model's score: the truth, its own errors by row, and an error it makes on all rows of a day."""
    generator = np.random.default_rng(seed)
    return logistic(logit + generator.normal(0, noise, len(day)) + generator.normal(0, 0.2, day.max() + 1)[day])


@pytest.mark.slow
def test_two_models_that_are_equally_good_pass_in_at_most_5_of_100() -> None:
    passed = 0
    for seed in range(100):
        day, label, logit = world(seed)
        rows = JudgedRows(day, label, fitted(logit, day, 2_000 + seed))
        report = judge(rows, fitted(logit, day, 1_000 + seed), seed=seed, draws=1_000)
        passed += report.verdict == "passed"
    assert passed <= 5


def test_a_real_improvement_passes_and_says_by_how_much() -> None:
    day, label, logit = world(1, days=21)
    report = judge(JudgedRows(day, label, fitted(logit, day, 2, noise=0.3)), fitted(logit, day, 1, noise=1.5))
    assert report.verdict == "passed"
    assert report.metrics["auc"].gain_low > 0
    assert report.reason.startswith("auc 0.")
    assert report.reason.endswith("the lower bound is above +0.0000")
    assert (report.rows, report.days, int(report.positives or 0) + int(report.negatives or 0)) == (4_200, 21, 4_200)


def test_a_challenger_trained_on_nothing_is_refused_with_its_numbers() -> None:
    day, label, logit = world(1)
    shuffled = np.random.default_rng(3).permutation(fitted(logit, day, 2))
    report = judge(JudgedRows(day, label, shuffled), fitted(logit, day, 1))
    assert report.verdict == "refused"
    assert report.metrics["auc"].challenger == pytest.approx(0.5, abs=0.05)
    assert "not above" in report.reason


def test_not_worse_takes_its_margin_and_better_asks_for_it() -> None:
    day, label, logit = world(1)
    score = fitted(logit, day, 1)
    slightly = score + np.random.default_rng(1).normal(0, 1e-3, len(score))
    assert (
        judge(JudgedRows(day, label, slightly), score, Gate("auc", rule="not_worse", margin=0.01)).verdict == "passed"
    )
    assert (
        judge(JudgedRows(day, label, slightly), score, Gate("auc", rule="not_worse", margin=1e-6)).verdict == "refused"
    )
    strong = fitted(logit, day, 2, noise=0.1)
    weak = fitted(logit, day, 3, noise=2.0)
    assert judge(JudgedRows(day, label, strong), weak, Gate("auc", margin=0.01)).verdict == "passed"
    assert judge(JudgedRows(day, label, strong), weak, Gate("auc", margin=0.3)).verdict == "refused"


def test_a_gate_may_decide_by_logloss() -> None:
    day, label, logit = world(2)
    bold = logistic(4 * logit)  # the same order, badly calibrated
    report = judge(JudgedRows(day, label, logistic(logit)), bold, Gate("logloss"))
    assert report.verdict == "passed"
    assert report.metrics["auc"].gain == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("days", "per_day", "missing"),
    [
        (13, 400, "13 of 14 days"),
        (14, 142, "1,988 of 2,000 rows"),
    ],
)
def test_too_little_evidence_postpones(days: int, per_day: int, missing: str) -> None:
    day, label, logit = world(1, days, per_day)
    report = judge(JudgedRows(day, label, logistic(logit)), logistic(-logit))
    assert (report.verdict, report.reason) == ("postponed", f"not enough evidence in the holdout: {missing}")
    assert report.metrics == {}


def test_too_few_of_a_class_postpones() -> None:
    day, _, logit = world(1)
    label = np.zeros(len(day), int)
    label[:99] = 1
    assert "99 of 100 positives" in judge(JudgedRows(day, label, logistic(logit)), logistic(logit)).reason
    assert "99 of 100 negatives" in judge(JudgedRows(day, 1 - label, logistic(logit)), logistic(logit)).reason


def test_the_first_version_must_beat_both_constants() -> None:
    day, label, logit = world(4, days=28)
    rate = label.mean()
    good = judge_first(JudgedRows(day, label, logistic(logit)), KnownRates(rate, rate + 0.02))
    assert good.verdict == "passed"
    assert set(good.metrics) == {"logloss against the label rate", "logloss against the last period's rate"}
    noise = logistic(np.random.default_rng(1).normal(-1.2, 1, len(day)))
    bad = judge_first(JudgedRows(day, label, noise), KnownRates(rate, 0.9))
    assert bad.verdict == "refused"
    assert "label rate" in bad.reason
    assert judge_first(JudgedRows(day[:500], label[:500], noise[:500]), KnownRates(rate, rate)).verdict == "postponed"


def test_the_report_counts_looks_and_survives_json() -> None:
    day, label, logit = world(1)
    looks = np.where(day < 7, 2, 1)
    report = judge(JudgedRows(day, label, logistic(logit), looks), logistic(-logit))
    assert (report.looks_mean, report.looks_max) == (1.5, 2)
    assert msgspec.json.decode(msgspec.json.encode(report), type=GateReport) == report
    assert judge(JudgedRows(day, label, logistic(logit), looks), logistic(-logit)) == report


@pytest.mark.parametrize(
    "metric", ["brier_score_loss", "accuracy_score", within_block("auc"), expected_cost([[0, 1], [4, 0]])]
)
def test_a_gate_decides_by_any_metric_of_a_binary_label(metric: Any) -> None:
    day, label, logit = world(1, days=21)
    gate = Gate(metric)
    report = judge(JudgedRows(day, label, logistic(logit)), fitted(logit, day, 1, noise=2.0), gate)
    assert (report.verdict, report.metric) == ("passed", gate.spec.metric)
    assert report.metrics.keys() == {"auc", "logloss", gate.spec.metric}
    assert report.reason.startswith(f"{gate.spec.metric} ")


def test_blocks_of_hours_are_resampled_and_counted() -> None:
    day, label, logit = world(1, days=2, per_day=2_400)
    hour = np.arange(len(day)) // 100
    rows = JudgedRows(day, label, logistic(logit), block=hour)
    report = judge(rows, fitted(logit, day, 1, noise=2.0), Gate("auc", holdout="2d", block="1h"))
    assert (report.verdict, report.days, report.blocks) == ("passed", 2, 48)
    short = judge(JudgedRows(day, label, logistic(logit), block=hour // 4), logistic(logit), Gate("auc", block="1h"))
    assert short.reason == "not enough evidence in the holdout: 12 of 14 blocks of 1h"


def test_floors_are_set_and_warned_of_below_the_usual() -> None:
    day, label, logit = world(1, days=7, per_day=200)
    with pytest.warns(UserWarning, match="floors: blocks=7 is below 14: how often the gate is wrong was not measured"):
        gate = Gate("auc", holdout="7d", floors=Floors(blocks=7, rows=2_000))
    rows = JudgedRows(day, label, logistic(logit))
    assert judge(rows, logistic(logit), gate).reason.endswith("holdout: 1,400 of 2,000 rows")
    strict = Gate("auc", floors=Floors(blocks=14, of_class=1_000))
    assert "days, 1,400 of 2,000 rows, " in judge(rows, logistic(logit), strict).reason


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"block": "5h"}, "block='5h'; give whole days, such as '1d', or a time that divides a day"),
        ({"block": "7d"}, "holdout='14d' must be 14 or more whole blocks of 7d, because blocks are resampled"),
        ({"block": "1h", "holdout": "13h"}, "holdout='13h' must be 14 or more whole blocks of 1h, because blocks are"),
        ({"block": "1h", "holdout": "930m"}, "holdout='930m' must be 14 or more whole blocks of 1h"),
        ({"floors": Floors(blocks=4)}, "floors: blocks=4 must be a whole number of 5 or more"),
        ({"serial_correlation": "none"}, "serial_correlation='none'; choose one of"),
    ],
)
def test_a_gate_whose_blocks_or_floors_do_not_fit_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        Gate("auc", **given)


def test_the_defaults_of_blocks_and_floors_are_left_out_of_spec_and_report() -> None:
    day, label, logit = world(1)
    assert Gate("auc", block="24h", floors=Floors()).spec == Gate("auc").spec
    gate = Gate("auc", block="24h", floors=Floors(), serial_correlation="ignored")
    assert msgspec.to_builtins(gate.spec).keys() == {"metric", "rule", "holdout", "margin"}
    report = msgspec.to_builtins(judge(JudgedRows(day, label, logistic(logit)), logistic(-logit), gate))
    assert report.keys().isdisjoint({"blocks", "lag1", "effective_blocks", "alpha", "bound", "false_pass_a_year"})
    measured = Gate("auc", block="7d", holdout="98d", serial_correlation="measured", floors=Floors(rows=9_000)).spec
    assert msgspec.to_builtins(measured)["floors"] == {"blocks": 14, "rows": 9_000, "of_class": 100}
    paid = msgspec.to_builtins(Gate("auc", alpha=0.05, per="year").spec)
    assert (paid["alpha"], paid["per"]) == (0.05, "year")
    assert (measured.block, measured.serial_correlation) == ("7d", "measured")


def test_the_bound_of_a_gate_moves_with_what_its_look_may_cost() -> None:
    day, label, logit = world(1, days=21)
    rows, weak = JudgedRows(day, label, fitted(logit, day, 2, noise=0.3)), fitted(logit, day, 1, noise=1.5)
    usual = judge(rows, weak, Gate("auc", serial_correlation="ignored")).metrics["auc"]
    yearly = Gate("auc", alpha=0.05, per="year", serial_correlation="ignored")
    strict = judge(rows, weak, yearly, cost=LookCost(0.001, 7))
    ratio = t_quantile(0.001, 20) / t_quantile(0.025, 20)
    assert strict.bound == pytest.approx(usual.gain - (usual.gain - usual.gain_low) * ratio)
    assert strict.metrics["auc"] == usual
    assert "the lower bound for a chance of 0.10% of a false pass, +0." in strict.reason
    assert msgspec.json.decode(msgspec.json.encode(strict), type=GateReport) == strict


def test_a_second_look_at_the_same_days_has_no_budget_and_postpones() -> None:
    day, label, logit = world(1)
    report = judge(JudgedRows(day, label, logistic(logit)), logistic(-logit), cost=LookCost(0.0, 0))
    assert report.verdict == "postponed"
    assert report.reason == "the gate has looked at these days before: no chance of a false pass is left"
    assert msgspec.json.decode(msgspec.json.encode(report), type=GateReport) == report


@pytest.mark.parametrize("alpha", [0.0, -0.1, 0.3])
def test_an_alpha_that_is_no_small_chance_is_refused(alpha: float) -> None:
    with pytest.raises(DefinitionError, match=r"gate: alpha=.* must be above 0 and at most 0.25, such as 0.05"):
        Gate("auc", alpha=alpha)
