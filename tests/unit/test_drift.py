from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.trainers.triggers.score_drift import ScoreBins, psi, score_drift


def served(
    days: int, shift: float = 0.0, *, seed: int = 0, last: int = 14, rows: int = 300
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of days that differ from each other anyway; the last ones shifted."""
    generator = np.random.default_rng(seed)
    day = np.repeat(np.arange(days), rows)
    level = generator.normal(0, 0.4, days) + np.where(np.arange(days) >= days - last, shift, 0.0)
    return day, 1 / (1 + np.exp(-generator.normal(level[day], 1)))


def test_psi_is_its_formula_and_nothing_for_equal_shares() -> None:
    p, q = np.array([0.26, 0.74]), np.array([0.74, 0.26])
    assert psi(p, q) == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert psi(np.array([0.25, 0.75]), np.array([0.75, 0.25]), 0.5) == pytest.approx(2 * 0.25 * np.log(1.25 / 0.75))
    assert psi(p, p) == 0


def test_a_shift_of_all_days_is_found() -> None:
    day, score = served(90, shift=1.5)
    found = score_drift(day, score, until_day=90, sample_days=14)
    assert found.psi is not None
    assert found.threshold is not None
    assert found.psi > max(0.2, found.threshold)
    assert (found.sample_days, found.reference_days, found.needed_days) == (14, 76, 42)


@pytest.mark.slow
def test_days_that_merely_differ_stay_below_the_resampled_threshold() -> None:
    alarms = 0
    for seed in range(50):
        day, score = served(84, seed=seed)
        found = score_drift(day, score, until_day=84, sample_days=14, seed=seed, resamples=300)
        assert found.psi is not None
        assert found.threshold is not None
        alarms += found.psi > found.threshold
    assert alarms <= 3


@pytest.mark.parametrize(("days", "enough"), [(55, False), (56, True)])
def test_the_reference_is_three_samples_long_or_there_is_no_answer(days: int, enough: bool) -> None:
    day, score = served(days)
    found = score_drift(day, score, until_day=days, sample_days=14)
    assert (found.psi is not None) is enough
    assert (found.threshold is not None) is enough
    assert found.reference_days == days - 14


def test_days_from_the_tick_on_do_not_count() -> None:
    day, score = served(90)
    now = score_drift(day, score, until_day=80, sample_days=14)
    assert now == score_drift(day[day < 80], score[day < 80], until_day=80, sample_days=14)


@pytest.mark.parametrize(("closed", "sample_days", "reference_days"), [(0, 14, 76), (13, 14, 63), (14, 14, 62)])
def test_a_sample_is_the_newest_days_with_rows(closed: int, sample_days: int, reference_days: int) -> None:
    day, score = served(90)
    opened = (day < 90 - closed - 1) | (day == 89)
    found = score_drift(day[opened], score[opened], until_day=90, sample_days=14)
    assert (found.sample_days, found.reference_days) == (sample_days, reference_days)
    assert found.psi is not None


def test_a_sample_does_not_reach_back_for_ever() -> None:
    day, score = served(120)
    opened = (day < 90) | (day == 119)
    found = score_drift(day[opened], score[opened], until_day=120, sample_days=14)
    assert (found.psi, found.sample_days, found.reference_days) == (None, 1, 90)


def test_the_seed_decides_the_threshold() -> None:
    day, score = served(90)
    first = score_drift(day, score, until_day=90, sample_days=14, seed=1)
    assert score_drift(day, score, until_day=90, sample_days=14, seed=1) == first
    assert score_drift(day, score, until_day=90, sample_days=14, seed=2).threshold != first.threshold


# -- scores with atoms and tails: 86 days of reference, 14 of the sample ---------------------------------------------

DAYS, SAMPLE, ROWS = 100, 14, 300
DAY = np.repeat(np.arange(DAYS), ROWS)
LATE = DAY >= DAYS - SAMPLE


def with_atom(generator: np.random.Generator) -> np.ndarray:
    """93 % of the scores are .01, the others lie between .5 and 1."""
    return np.where(generator.random(len(DAY)) < 0.93, 0.01, generator.uniform(0.5, 1, len(DAY)))


def fraud_like(generator: np.random.Generator) -> np.ndarray:
    """Nearly all scores are close to 0."""
    return generator.beta(0.3, 60, len(DAY))


def with_jump(scores: np.ndarray, share: float, low: float, high: float) -> np.ndarray:
    """The scores, of which a share jumps on the last days."""
    generator = np.random.default_rng(1)
    jumps = LATE & (generator.random(len(DAY)) < share)
    return np.where(jumps, generator.uniform(low, high, len(DAY)), scores)


def measured(scores: np.ndarray) -> tuple[float, float]:
    """PSI and threshold."""
    found = score_drift(DAY, scores, until_day=DAYS, sample_days=SAMPLE)
    assert found.psi is not None
    assert found.threshold is not None
    return found.psi, found.threshold


@pytest.mark.parametrize(
    ("scores", "at_least"),
    [
        (np.where(LATE, 0.9, with_atom(np.random.default_rng(0))), 10),
        (with_jump(with_atom(np.random.default_rng(0)), 0.3, 0.95, 0.95), 1),
        (np.where(LATE, 0.8, 0.2), 10),
        (np.where(LATE, 0.2, 0.8), 10),
        (with_jump(fraud_like(np.random.default_rng(0)), 0.02, 0.7, 1), 0.05),
        (with_jump(fraud_like(np.random.default_rng(0)), 0.005, 0.7, 1), 0.01),
    ],
    ids=["an-atom-goes", "a-third-beside-an-atom", "a-constant-up", "a-constant-down", "two-percent", "a-half-percent"],
)
def test_drift_of_scores_that_crowd_on_a_value_or_in_a_tail_is_seen(scores: np.ndarray, at_least: float) -> None:
    found, threshold = measured(scores)
    assert found > max(at_least, 4 * threshold if at_least >= 0.05 else threshold)


def test_an_alarm_of_two_percent_of_the_rows_is_far_from_that_of_other_days() -> None:
    calm, threshold = measured(fraud_like(np.random.default_rng(0)))
    found, _ = measured(with_jump(fraud_like(np.random.default_rng(0)), 0.02, 0.7, 1))
    assert calm < threshold < found / 5


@pytest.mark.parametrize("scores", [np.full(len(DAY), 0.2), np.arange(len(DAY)) % 2 / 2], ids=["one", "two"])
def test_scores_that_stay_on_the_same_few_values_have_no_drift(scores: np.ndarray) -> None:
    found, threshold = measured(scores)
    assert found <= threshold < 0.001


@pytest.mark.slow
def test_unchanged_days_stay_below_the_threshold_whatever_the_shape_of_their_scores() -> None:
    alarms = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        day, smooth = served(84, seed=seed, rows=100)
        atom, leaves = generator.random(len(day)) < generator.uniform(0.05, 0.95), int(generator.integers(2, 30))
        score = [np.where(atom, 0.01, smooth), np.round(smooth * leaves) / leaves, smooth**8][seed % 3]
        found = score_drift(day, score, until_day=84, sample_days=14, seed=seed, resamples=300)
        assert found.psi is not None
        assert found.threshold is not None
        alarms += found.psi > found.threshold
    assert alarms <= 3


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1), min_size=40, max_size=200),
    st.integers(0, 3),
)
def test_only_the_order_of_the_scores_counts(drawn: list[float], which: int) -> None:
    scores = np.resize(np.array(drawn), 10 * 20)
    day = np.repeat(np.arange(10), 20)
    ranks = np.unique(scores, return_inverse=True)[1].astype(float)
    other = [ranks, ranks**3, np.exp(ranks / 50) - 7, -(1 / (1 + ranks))][which]
    found = [score_drift(day, each, until_day=10, sample_days=2, resamples=50) for each in (scores, other)]
    assert found[0] == found[1]
    assert found[0].psi is not None
    assert found[0].psi >= 0


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1), min_size=1, max_size=60))
def test_every_score_is_in_one_bin(reference: list[float]) -> None:
    bins = ScoreBins(np.array(reference))
    scores = np.array([*reference, -1.0, 0.3, 2.0])
    days, counts = bins.histograms(np.zeros(len(scores), np.int64), scores)
    assert (days.tolist(), counts.sum()) == ([0], len(scores))
    alone = [bins.histograms(np.zeros(1, np.int64), np.array([score]))[1].argmax() for score in np.sort(scores)]
    assert alone == sorted(alone)  # a larger score is in no lower bin


# -- traffic: how many rows a day has is no drift --------------------------------------------------------------------

WEEKEND = 0.6
"""The scores of a weekend lie higher: a change of traffic on these days changes the mix of all rows."""


def of_traffic(generator: np.random.Generator, rows: np.ndarray, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of days with so many rows each. Days differ anyway; the last 14 days are shifted."""
    days = len(rows)
    level = generator.normal(0, 0.4, days) + WEEKEND * (np.arange(days) % 7 > 4)
    level[-14:] += shift
    day = np.repeat(np.arange(days), rows)
    return day, 1 / (1 + np.exp(-generator.normal(level[day], 1)))


def weekends(rows: np.ndarray, few: int) -> np.ndarray:
    return np.where((np.arange(len(rows)) % 7 > 4) & (np.arange(len(rows)) >= len(rows) - 14), few, rows)


LEVEL = np.full(84, 300)
LAST = np.arange(84) >= 84 - 14
TRAFFIC = {
    "unchanged": LEVEL,
    "a hundredth at weekends": weekends(LEVEL, 3),
    "closed at weekends": weekends(LEVEL, 0),
    "tenfold since the sample began": np.where(LAST, 3_000, 300),
    "tenfold in the newest days": np.where(np.arange(84) >= 80, 3_000, 300),
    "a tenth since the sample began": np.where(LAST, 30, 300),
    "a hundredth since the sample began": np.where(LAST, 3, 300),
    "tenfold since a month": np.where(np.arange(84) >= 54, 3_000, 300),
}


@pytest.mark.slow
@pytest.mark.parametrize("rows", TRAFFIC.values(), ids=TRAFFIC)
def test_traffic_that_changes_is_no_drift(rows: np.ndarray) -> None:
    alarms = 0
    for seed in range(60):
        day, score = of_traffic(np.random.default_rng(seed), rows)
        found = score_drift(day, score, until_day=84, sample_days=14, seed=seed, resamples=300)
        assert (found.psi is None) is (found.threshold is None)
        alarms += found.psi is not None and found.threshold is not None and found.psi > found.threshold
    assert alarms <= 3


@pytest.mark.slow
@pytest.mark.parametrize("rows", TRAFFIC.values(), ids=TRAFFIC)
def test_drift_is_found_whatever_the_traffic(rows: np.ndarray) -> None:
    found = 0
    for seed in range(20):
        day, score = of_traffic(np.random.default_rng(seed), rows, shift=1.5)
        measured = score_drift(day, score, until_day=84, sample_days=14, seed=seed, resamples=300)
        assert measured.psi is not None
        assert measured.threshold is not None
        found += measured.psi > max(0.2, measured.threshold)
    assert found >= 18


# -- false alarms: as many a year as are asked for -------------------------------------------------------------------


def unchanged_years(generator: np.random.Generator, days: int, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """Days that tell of the next ones, and do not drift."""
    level = np.empty(days)
    level[0] = generator.normal()
    for at in range(1, days):
        level[at] = correlation * level[at - 1] + np.sqrt(1 - correlation**2) * generator.normal()
    day = np.repeat(np.arange(days), 40)
    return day, 1 / (1 + np.exp(-(generator.normal(size=len(day)) + 0.4 * level[day])))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("correlation", "most"), [(0.0, 4), (0.5, 4)])
def test_a_year_of_daily_judgements_has_about_as_many_false_alarms_as_are_allowed(
    correlation: float, most: int
) -> None:
    """The count of three years is by chance: 3 a year are allowed."""
    sample, years, alarms, last = 7, 3, 0, -999
    day, score = unchanged_years(np.random.default_rng(3), 365 * years + 9 * sample, correlation)
    for until in range(9 * sample, day[-1] + 1):
        seen = (day >= until - 9 * sample) & (day < until)
        found = score_drift(
            day[seen], score[seen], until_day=until, sample_days=sample, seed=until, resamples=50, alarms_a_year=3
        )
        assert found.psi is not None
        assert found.threshold is not None
        if found.psi > found.threshold:
            alarms += until - last > sample
            last = until
    assert 1 <= alarms / years <= most


def test_the_fewer_false_alarms_are_allowed_the_higher_is_the_limit() -> None:
    day, score = served(90)
    limits = [
        score_drift(day, score, until_day=90, sample_days=14, alarms_a_year=rate).threshold for rate in (12, 3, 0.5)
    ]
    assert None not in limits
    assert limits == sorted(limits, key=lambda limit: limit or 0.0)
    assert len(set(limits)) == 3
