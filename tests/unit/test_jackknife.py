"""Bounds from what each block contributes: exact for means, and wider where few blocks make most of the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headrace.trainers.metrics import intervals
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import Interval, t_quantile
from headrace.trainers.metrics.jackknife import block_error
from headrace.trainers.metrics.named_metrics import METRICS, metric_named

if TYPE_CHECKING:
    from headrace.trainers.metrics.metric import Metric

BY_PERCENTILES = {"auc", "logloss"}


def pair(seed: int, days: int = 14, per_day: int = 60) -> tuple[BlockRows, BlockRows]:
    """Two models of one label, on the same rows."""
    generator = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), per_day)
    logit = generator.normal(-0.5, 0.5, days)[day] + generator.normal(0, 1, len(day))
    label = (generator.random(len(day)) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    scores = [1 / (1 + np.exp(-logit - generator.normal(0, noise, len(day)))) for noise in (0.6, 0.3)]
    return BlockRows(day, label, scores[0]), BlockRows(day, label, scores[1])


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=40))
def test_the_error_of_a_mean_is_the_one_of_students_t(values: list[float]) -> None:
    days = np.array(values)
    contributions = (days - days.mean()) / (len(days) - 1)  # of a mean of blocks of equal size
    assert block_error(contributions).error == pytest.approx(days.std(ddof=1) / np.sqrt(len(days)), abs=1e-9)


@given(st.integers(2, 60), st.integers(0, 99))
def test_the_degrees_of_freedom_are_at_most_one_fewer_than_the_blocks_and_at_least_three(n: int, seed: int) -> None:
    found = block_error(np.random.default_rng(seed).standard_t(2, n)).freedom
    assert min(3, n - 1) <= found <= n - 1
    assert block_error(np.zeros(n)) == (0.0, n - 1)


def test_one_block_that_adds_far_more_than_the_others_leaves_few_degrees_of_freedom() -> None:
    even, odd = np.array([1.0, -1.0] * 7), np.array([9.0, *[-1.0, 1.0] * 6, 0.0])
    assert block_error(even).freedom == 13
    assert block_error(odd).freedom == 3


def test_the_interval_of_a_mean_over_equal_blocks_is_students() -> None:
    generator = np.random.default_rng(3)
    day = np.repeat(np.arange(20), 50)
    truth = generator.uniform(-1, 1, 20)[day]  # light tails: no degree of freedom is lost
    found = intervals.metric_interval(BlockRows(day, truth + 5, truth * 0), metric_named("mae"), seed=1)
    days = truth[::50] + 5
    low, high = stats.t.interval(0.95, 19, days.mean(), stats.sem(days))
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize("name", sorted(name for name, metric in METRICS.items() if "binary" in metric.tasks))
def test_bounds_of_a_gain_in_auc_or_log_loss_are_percentiles_and_others_are_from_contributions(name: str) -> None:
    champion, challenger = pair(1)
    metric = metric_named(name)
    found = intervals.gain_interval(champion, challenger, metric, seed=7).interval
    resampled = resampled_gain(champion, challenger, metric)
    assert found.point == resampled.point
    assert (found == resampled) == (name in BY_PERCENTILES)
    if name not in BY_PERCENTILES:
        middle = (found.low + found.high) / 2
        assert (middle == pytest.approx(found.point)) == (name != "expected_calibration_error")


def resampled_gain(champion: BlockRows, challenger: BlockRows, metric: Metric) -> Interval:
    """The percentiles of the gain over resampled blocks, as before there was another interval."""
    theirs, ours, sign = metric.statistic(champion), metric.statistic(challenger), 1 if metric.higher_is_better else -1
    weights = intervals.block_weights(14, intervals.DRAWS, 7)
    drawn = sign * (ours.value(weights) - theirs.value(weights))
    return intervals.resampled_interval(sign * (ours.point - theirs.point), drawn, 14)


def test_a_bound_for_a_smaller_chance_is_by_the_same_degrees_of_freedom() -> None:
    champion, challenger = pair(2)
    found = intervals.gain_interval(champion, challenger, metric_named("f1_score"), seed=1).interval
    assert found.freedom is not None
    ratio = t_quantile(0.001, found.freedom) / t_quantile(0.025, found.freedom)
    assert found.lower_bound(0.025, 14) == found.low
    assert found.point - found.lower_bound(0.001, 14) == pytest.approx(ratio * (found.point - found.low))


def test_resamples_that_are_not_defined_make_no_bound_narrower() -> None:
    """Positives are of four days only: F1 is not defined where none of them is drawn."""
    day = np.repeat(np.arange(14), 50)
    label = np.isin(day, (0, 4, 8, 12)).astype(np.int8)
    score = np.where(np.arange(len(day)) % (day + 3) == 0, 0.2, label * 0.6)
    rows, f1 = BlockRows(day, label, score), metric_named("f1_score")
    found = intervals.metric_interval(rows, f1, seed=1)
    resampled = intervals.resampled_interval(
        found.point, f1.statistic(rows).value(intervals.block_weights(14, intervals.DRAWS, 1)), 14
    )
    assert 0 < found.undefined == resampled.undefined
    assert found.low <= resampled.low < resampled.high <= found.high


@given(st.integers(0, 99), st.floats(1e-6, 1e6))
def test_the_interval_of_an_rmse_is_above_0_reaches_further_up_and_has_the_unit_of_its_errors(
    seed: int, unit: float
) -> None:
    errors = np.random.default_rng(seed).standard_t(3, 14 * 20)
    found, scaled = (rmse_interval(factor * errors) for factor in (1.0, unit))
    assert 0 < found.low < found.point < found.high
    assert found.high - found.point > found.point - found.low
    assert (scaled.low, scaled.high) == pytest.approx((unit * found.low, unit * found.high))


def test_the_interval_of_an_rmse_does_not_leave_out_the_one_day_that_has_all_errors() -> None:
    errors = np.where(np.arange(14 * 20) < 20, 1.0, 0.0)
    found, perfect = rmse_interval(errors), rmse_interval(0 * errors)
    assert found.low < found.point < found.high
    assert (perfect.low, perfect.point, perfect.high) == (0, 0, 0)


def rmse_interval(errors: np.ndarray) -> Interval:
    rows = BlockRows(np.repeat(np.arange(14), 20), errors, 0 * errors)
    return intervals.metric_interval(rows, metric_named("rmse"), seed=1, draws=40)


def test_the_interval_of_a_calibration_error_holds_0_where_a_model_is_calibrated() -> None:
    """Its measured error is never 0: nine in ten intervals hold the truth, give or take three errors."""
    metric, held = metric_named("expected_calibration_error"), 0
    generator = np.random.default_rng(5)
    day = np.repeat(np.arange(14), 60)
    for _ in range(150):
        score = generator.uniform(0, 1, len(day))
        label = (generator.random(len(day)) < score).astype(np.int8)
        found = intervals.metric_interval(BlockRows(day, label, score), metric, seed=1, draws=40)
        assert found.low < found.point < found.high
        held += found.low <= 0
    assert held / 150 >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / 150)


def test_a_challenger_that_is_calibrated_is_not_held_to_be_worse_for_its_noise() -> None:
    generator = np.random.default_rng(4)
    day = np.repeat(np.arange(14), 100)
    score = generator.uniform(0, 1, len(day))
    label = (generator.random(len(day)) < score).astype(np.int8)
    champion = BlockRows(day, label, np.clip(score + 0.05, 0, 1))
    found = intervals.gain_interval(
        champion, BlockRows(day, label, score), metric_named("expected_calibration_error"), seed=1
    )
    plain = found.interval.point
    assert found.interval.high - plain > plain - found.interval.low  # more may have been gained, not less
