from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from headrace.errors import DefinitionError
from headrace.trainers.metrics import intervals
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.expected_cost import expected_cost
from headrace.trainers.metrics.named_metrics import metric_named, metric_value, within_block
from headrace.trainers.metrics.own_metric import own_metric
from headrace.trainers.runs import provenance
from headrace.trainers.runs.gate import GateReport, MetricComparison

REPORT = GateReport(
    rule="better", metric="auc", margin=0.0, verdict="passed", reason="", rows=0, days=0, positives=0, negatives=0,
    looks_mean=1.0, looks_max=1, metrics={}, seed=0, draws=0,
)  # fmt: skip


def rows(days: int = 20, per_day: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    day = np.repeat(np.arange(days) * 3 + 15_000, per_day)
    level = np.repeat(generator.normal(0, 0.5, days), per_day)
    score = 1 / (1 + np.exp(-np.round(generator.normal(level, 1), 1)))  # rounded: there are ties
    return day, (generator.random(len(day)) < score).astype(int), score


def test_within_a_day_the_days_own_levels_count_for_nothing() -> None:
    day, label, score = rows()
    shifted = score + day  # days apart, order within them kept
    within = within_block("auc")
    assert metric_value(within, label, shifted, block=day) == metric_value(within, label, score, block=day)
    per_day = [roc_auc_score(label[day == d], score[day == d]) for d in np.unique(day)]
    pairs = [np.sum(label[day == d]) * np.sum(1 - label[day == d]) for d in np.unique(day)]
    assert metric_value(within, label, score, block=day) == pytest.approx(np.average(per_day, weights=pairs))


def test_one_class_alone_has_no_auc_and_one_day_no_bounds() -> None:
    assert np.isnan(metric_value("auc", [1, 1], [0.1, 0.2]))
    day, label, score = rows(days=1)
    interval = intervals.metric_interval(BlockRows(day, label, score), metric_named("auc"), seed=1)
    assert np.isnan(interval.low)
    assert np.isfinite(interval.point)


def test_rows_of_a_metric_are_equally_many_and_have_no_nan() -> None:
    with pytest.raises(ValueError, match="NaN"):
        BlockRows([1, 1], [0, 1], [0.5, float("nan")])
    with pytest.raises(ValueError, match="2 blocks, 1 labels"):
        BlockRows([1, 1], [0], [0.5, 0.5])


def test_the_bounds_of_few_days_cover_the_truth_at_their_level() -> None:
    """1,000 intervals for the mean of 14 day effects: 95 % of them hold the true value, give or take three errors."""
    generator = np.random.default_rng(5)
    weights = intervals.block_weights(14, 1_000, seed=1) / 14
    covered = 0
    for _ in range(1_000):
        days = generator.normal(0, 1, 14)
        interval = intervals.resampled_interval(float(days.mean()), weights @ days, 14)
        covered += interval.low <= 0 <= interval.high
    assert 929 <= covered <= 971


@pytest.mark.parametrize("days", [14, 30, 365])
def test_the_bounds_are_the_percentiles_widened_by_students_t(days: int) -> None:
    draws = np.random.default_rng(2).normal(1.0, 0.1, 5_000)
    interval = intervals.resampled_interval(1.0, draws, days)
    widening = stats.t.ppf(0.975, days - 1) / stats.norm.ppf(0.975) * np.sqrt(days / (days - 1))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (interval.low - 1.0) / (low - 1.0) == pytest.approx(widening, rel=1e-3)
    assert (interval.high - 1.0) / (high - 1.0) == pytest.approx(widening, rel=1e-3)


def test_the_gain_is_positive_for_the_better_model_in_any_metric() -> None:
    day, label, score = rows()
    noisy = np.clip(score + np.random.default_rng(1).normal(0, 0.3, len(score)), 0.01, 0.99)
    worse, better = BlockRows(day, label, noisy), BlockRows(day, label, score)
    for metric in ("auc", "logloss", "brier_score_loss", "accuracy_score", "f1_score", "expected_calibration_error"):
        gain = intervals.gain_interval(worse, better, metric_named(metric), seed=1)
        assert gain.interval.low < gain.interval.point < gain.interval.high
        assert gain.interval.point > 0
        assert intervals.gain_interval(worse, better, metric_named(metric), seed=1) == gain


def test_a_metric_of_ones_own_is_resampled_as_the_same_metric_by_sums() -> None:
    day, label, score = rows(days=14)
    own = own_metric(lambda truth, p: float(np.mean((truth - p) ** 2)), higher_is_better=False, name="brier")
    found = intervals.metric_interval(BlockRows(day, label, score), own, seed=4, draws=50)
    exact = intervals.metric_interval(BlockRows(day, label, score), metric_named("brier_score_loss"), seed=4, draws=50)
    assert (found.low, found.point, found.high) == pytest.approx((exact.low, exact.point, exact.high), abs=1e-12)


def test_a_metric_of_ones_own_needs_a_function_with_a_name() -> None:
    for function in (lambda truth, p: 0.0, "f1"):
        with pytest.raises(DefinitionError, match=r"own_metric: .* give a function of truth and prediction"):
            own_metric(function, higher_is_better=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("costs", [[[0, 1]], [0, 1], [[0, "x"], [1, 0]], [[0, 1], [1, float("inf")]], [[1]]])
def test_costs_are_a_square_table_of_numbers(costs: list[list[float]]) -> None:
    with pytest.raises(DefinitionError, match="is no square table of numbers; write a line for each class"):
        expected_cost(costs)


def test_costs_decide_which_of_two_models_is_cheaper() -> None:
    label = np.array([0, 0, 0, 1])
    careful, bold = np.array([0.1, 0.1, 0.3, 0.3]), np.array([0.1, 0.1, 0.01, 0.01])
    dear_misses = expected_cost([[0, 1], [25, 0]])  # it pays to say 1 above 1/26
    assert metric_value(dear_misses, label, careful) == 3 / 4
    assert metric_value(dear_misses, label, bold) == (2 + 25) / 4
    assert metric_value(expected_cost([[0, 25], [1, 0]]), label, careful) == 1 / 4


def test_a_metric_within_blocks_needs_a_metric() -> None:
    with pytest.raises(DefinitionError, match="within_block: 'f1' is no metric; choose one of"):
        within_block("f1")


def test_a_metric_of_ones_own_gets_truths_whose_products_do_not_overflow() -> None:
    day, label, score = rows(days=14)

    def gained(truth: Any, prediction: Any) -> float:
        return float((truth * 500 * (prediction > 0.5)).sum() + truth @ truth)

    kept = BlockRows(day, label.astype(np.int8), score)  # as labels are kept
    expected = 500.0 * (label * (score > 0.5)).sum() + label.sum()
    assert own_metric(gained, higher_is_better=True).statistic(kept).point == expected


def test_the_names_of_all_metrics_are_ones_that_mlflow_takes() -> None:
    compared = MetricComparison(champion=0.5, challenger=0.6, gain=0.1, gain_low=0.0, gain_high=0.2)
    cost, last = "expected_cost([[0, 1], [25, 2]])", "logloss against the last period's rate"
    names = ["within_block(auc)", cost, last, "x" * 999]
    report = msgspec.structs.replace(REPORT, metrics=dict.fromkeys(names, compared))
    found = provenance.metrics(report)
    assert [name for name in found if not re.fullmatch(r"[\w.-]{1,250}", name)] == []
    assert {"within_block_auc_champion", "logloss_against_the_last_periods_rate_gain_low"} < found.keys()
    assert len(found) == 3 * len(names)
