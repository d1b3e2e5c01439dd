from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from headrace.trainers import day_scores
from headrace.trainers.day_scores import DayScores


def rows(days: int = 20, per_day: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    day = np.repeat(np.arange(days) * 3 + 15_000, per_day)
    level = np.repeat(generator.normal(0, 0.5, days), per_day)
    score = 1 / (1 + np.exp(-np.round(generator.normal(level, 1), 1)))  # rounded: there are ties
    return day, (generator.random(len(day)) < score).astype(int), score


def test_auc_and_logloss_are_scikit_learns() -> None:
    _, label, score = rows()
    assert day_scores.auc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert day_scores.logloss(label, score) == pytest.approx(log_loss(label, score), abs=1e-12)


def test_a_weighted_draw_is_the_metric_of_the_rows_drawn() -> None:
    day, label, score = rows(days=6)
    scores = DayScores(day, label, score)
    weights = day_scores.day_weights(6, 5, seed=3)
    for draw, row in enumerate(weights):
        drawn = np.concatenate(
            [np.tile(np.flatnonzero(day == d), int(n)) for d, n in zip(scores.days, row, strict=True)]
        )
        assert scores.value("auc", weights)[draw] == pytest.approx(roc_auc_score(label[drawn], score[drawn]))
        assert scores.value("logloss", weights)[draw] == pytest.approx(log_loss(label[drawn], score[drawn]))


def test_within_a_day_the_days_own_levels_count_for_nothing() -> None:
    day, label, score = rows()
    shifted = score + day  # days apart, order within them kept
    assert day_scores.auc_within_day(day, label, shifted) == day_scores.auc_within_day(day, label, score)
    per_day = [roc_auc_score(label[day == d], score[day == d]) for d in np.unique(day)]
    pairs = [np.sum(label[day == d]) * np.sum(1 - label[day == d]) for d in np.unique(day)]
    assert day_scores.auc_within_day(day, label, score) == pytest.approx(np.average(per_day, weights=pairs))


def test_one_class_alone_has_no_auc_and_one_day_no_bounds() -> None:
    assert np.isnan(day_scores.auc([1, 1], [0.1, 0.2]))
    day, label, score = rows(days=1)
    interval = day_scores.metric_interval(DayScores(day, label, score), "auc", seed=1)
    assert np.isnan(interval.low)
    assert np.isfinite(interval.point)


def test_metrics_refuse_nan_and_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="NaN"):
        DayScores([1, 1], [0, 1], [0.5, float("nan")])
    with pytest.raises(ValueError, match="2 days, 1 labels"):
        DayScores([1, 1], [0], [0.5, 0.5])


def test_the_bounds_of_few_days_cover_the_truth_at_their_level() -> None:
    """1,000 intervals for the mean of 14 day effects: 95 % of them hold the true value, give or take three errors."""
    generator = np.random.default_rng(5)
    weights = day_scores.day_weights(14, 1_000, seed=1) / 14
    covered = 0
    for _ in range(1_000):
        days = generator.normal(0, 1, 14)
        interval = day_scores.resampled_interval(float(days.mean()), weights @ days, 14)
        covered += interval.low <= 0 <= interval.high
    assert 929 <= covered <= 971


@pytest.mark.parametrize("days", [14, 30, 365])
def test_the_bounds_are_the_percentiles_widened_by_students_t(days: int) -> None:
    draws = np.random.default_rng(2).normal(1.0, 0.1, 5_000)
    interval = day_scores.resampled_interval(1.0, draws, days)
    widening = stats.t.ppf(0.975, days - 1) / stats.norm.ppf(0.975) * np.sqrt(days / (days - 1))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (interval.low - 1.0) / (low - 1.0) == pytest.approx(widening, rel=1e-3)
    assert (interval.high - 1.0) / (high - 1.0) == pytest.approx(widening, rel=1e-3)


def test_the_gain_is_positive_for_the_better_model_in_any_metric() -> None:
    day, label, score = rows()
    noisy = np.clip(score + np.random.default_rng(1).normal(0, 0.3, len(score)), 0.01, 0.99)
    worse, better = DayScores(day, label, noisy), DayScores(day, label, score)
    for metric in ("auc", "logloss"):
        interval = day_scores.gain_interval(worse, better, metric, seed=1)
        assert 0 < interval.low < interval.point < interval.high
        assert day_scores.gain_interval(worse, better, metric, seed=1) == interval
