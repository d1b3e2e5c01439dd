from __future__ import annotations

import numpy as np
import pytest

from headrace.trainers.triggers.score_drift import psi, score_drift


def served(
    days: int, shift: float = 0.0, *, seed: int = 0, last: int = 14, rows: int = 300
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of days that differ from each other anyway; the last ones shifted."""
    generator = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), rows)
    level = generator.normal(0, 0.4, days) + np.where(np.arange(days) >= days - last, shift, 0.0)
    return day, 1 / (1 + np.exp(-generator.normal(level[day], 1)))


def test_psi_is_its_formula_and_nothing_for_equal_shares() -> None:
    p, q = np.array([10.5, 30.5]) / 41, np.array([30.5, 10.5]) / 41
    assert psi(np.array([10.0, 30.0]), np.array([30.0, 10.0])) == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert psi(np.array([10.0, 30.0]), np.array([10.0, 30.0])) == 0


def test_a_shift_of_all_days_is_found() -> None:
    day, score = served(90, shift=1.5)
    found = score_drift(day, score, until_day=90, sample_days=14)
    assert found.psi is not None
    assert found.threshold is not None
    assert found.psi > max(0.2, found.threshold)
    assert (found.sample_days, found.reference_days, found.needed_days) == (14, 76, 56)


def test_days_that_merely_differ_stay_below_the_resampled_threshold() -> None:
    alarms = 0
    for seed in range(50):
        day, score = served(84, seed=seed)
        found = score_drift(day, score, until_day=84, sample_days=14, seed=seed, resamples=300)
        assert found.psi is not None
        assert found.threshold is not None
        alarms += found.psi > found.threshold
    assert alarms <= 3


@pytest.mark.parametrize(("days", "enough"), [(69, False), (70, True)])
def test_the_reference_is_four_samples_long_or_there_is_no_answer(days: int, enough: bool) -> None:
    day, score = served(days)
    found = score_drift(day, score, until_day=days, sample_days=14)
    assert (found.psi is not None) is enough
    assert (found.threshold is not None) is enough
    assert found.reference_days == days - 14


def test_days_from_the_tick_on_and_gaps_in_the_sample_do_not_count() -> None:
    day, score = served(90)
    now = score_drift(day, score, until_day=80, sample_days=14)
    assert now == score_drift(day[day < 80], score[day < 80], until_day=80, sample_days=14)
    gap = day != 85
    assert score_drift(day[gap], score[gap], until_day=90, sample_days=14).psi is None


def test_the_seed_decides_the_threshold() -> None:
    day, score = served(90)
    first = score_drift(day, score, until_day=90, sample_days=14, seed=1)
    assert score_drift(day, score, until_day=90, sample_days=14, seed=1) == first
    assert score_drift(day, score, until_day=90, sample_days=14, seed=2).threshold != first.threshold
