"""Blocks that tell of the next ones count for less, and a gate that measures it is wrong as rarely as it says."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec import UNSET
from scipy import stats

from headrace.errors import DefinitionError
from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.serial_correlation import LEAST_EFFECTIVE, contributions, serial_correlation
from headrace.trainers.model_spec import Floors
from headrace.trainers.runs.gate import JudgedRows, judge


def series(blocks: int, phi: float, seed: int) -> np.ndarray:
    """A stationary series of first order."""
    generator = np.random.default_rng(seed)
    found = [generator.normal()]
    for _ in range(blocks - 1):
        found.append(phi * found[-1] + np.sqrt(1 - phi**2) * generator.normal())
    return np.array(found)


def passes(differences: np.ndarray) -> bool:
    """Whether a gate that measures serial correlation says that the mean difference of these blocks is above 0."""
    n, found = len(differences), serial_correlation(differences)
    half = stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n) * found.widening
    return bool(differences.mean() > half)


@pytest.mark.long
@pytest.mark.parametrize("blocks", [14, 28])
@pytest.mark.parametrize("phi", [0.0, 0.3, 0.5, 0.8])
def test_blocks_without_a_gain_pass_in_at_most_5_of_100_looks_at_any_correlation(blocks: int, phi: float) -> None:
    """2,000 looks of which 5 % at most pass, give or take three errors."""
    passed = sum(passes(series(blocks, phi, seed)) for seed in range(2_000))
    assert passed / 2_000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2_000)


def test_blocks_that_alternate_or_do_not_differ_are_independent() -> None:
    for each in (np.array([1.0, -1.0] * 7), np.zeros(14)):
        found = serial_correlation(each)
        assert found.widening == pytest.approx(1.0, abs=0.12)
        assert found.lag1 <= 0.1
        assert found.enough


def test_a_series_that_climbs_is_worth_few_independent_blocks() -> None:
    found = serial_correlation(np.arange(14.0))
    assert found.lag1 > 0.8
    assert found.effective < LEAST_EFFECTIVE
    assert found.widening > 2


def test_the_measured_correlation_is_right_on_average() -> None:
    found = [serial_correlation(series(60, 0.5, seed)).lag1 for seed in range(300)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_the_contribution_of_a_block_is_what_the_metric_loses_without_it() -> None:
    values = np.array([1.0, 2.0, 6.0])

    def mean(weights: np.ndarray) -> np.ndarray:
        return np.asarray(weights @ values / weights.sum(axis=1))

    assert contributions(mean, 3) == pytest.approx([3 - 4, 3 - 3.5, 3 - 1.5])


def judged(differences: np.ndarray) -> tuple[JudgedRows, np.ndarray]:
    """Rows of days on which the challenger is better by so much log-loss a row."""
    day = np.repeat(np.arange(len(differences)), 200)
    label = np.tile([0, 1], len(day) // 2)
    ours, theirs = 0.6 * np.exp(differences)[day], 0.6
    return JudgedRows(day, label, np.where(label, ours, 1 - ours)), np.where(label, theirs, 1 - theirs)


def test_a_gate_widens_its_interval_by_the_measured_correlation() -> None:
    differences = 0.02 * series(28, 0.5, 3)
    plain, measuring = Gate("logloss", serial_correlation="ignored"), Gate("logloss")
    reports = [judge(*judged(differences), gate) for gate in (plain, measuring)]
    narrow, wide = (report.metrics["logloss"] for report in reports)
    expected = serial_correlation(differences)
    assert expected.widening > 1.2
    assert wide.gain - wide.gain_low == pytest.approx((narrow.gain - narrow.gain_low) * expected.widening)
    assert wide.gain_high - wide.gain == pytest.approx((narrow.gain_high - narrow.gain) * expected.widening)
    assert (reports[1].lag1, reports[1].effective_blocks) == pytest.approx((expected.lag1, expected.effective))


def test_a_gate_postpones_if_the_days_are_too_much_alike() -> None:
    report = judge(*judged(np.linspace(0.01, 0.2, 14)), Gate("logloss"))
    assert report.verdict == "postponed"
    assert report.reason.startswith("not enough evidence in the holdout: its days are like their neighbours (lag-1")
    assert report.reason.endswith("of 6 independent ones")
    ignoring = Gate("logloss", serial_correlation="ignored")
    assert judge(*judged(np.linspace(0.01, 0.2, 14)), ignoring).verdict == "passed"


def test_a_gain_that_is_sure_at_the_highest_correlation_passes_however_alike_the_days_are() -> None:
    report = judge(*judged(np.linspace(0.15, 0.2, 14)), Gate("logloss"))
    assert report.verdict == "passed"
    assert float(report.effective_blocks or 0) < LEAST_EFFECTIVE
    assert not report.too_alike
    assert report.metrics["logloss"].gain_low > 0


def test_a_challenger_that_is_worse_is_refused_however_alike_the_days_are() -> None:
    report = judge(*judged(np.linspace(-0.01, -0.2, 14)), Gate("logloss"))
    assert (report.verdict, report.too_alike) == ("refused", False)
    assert float(report.effective_blocks or 0) < LEAST_EFFECTIVE


def test_a_gate_measures_unless_it_is_told_not_to_or_cannot() -> None:
    assert Gate("auc").measures_correlation
    assert Gate("auc").spec == Gate("auc", serial_correlation="measured").spec
    assert not Gate("auc", serial_correlation="ignored").measures_correlation
    assert not Gate("auc", block="shop").measures_correlation  # entities have no order
    with pytest.warns(UserWarning, match="blocks=5 is below 14"):
        six, five = (Gate("auc", block="1h", holdout=f"{hours}h", floors=Floors(blocks=5)) for hours in (6, 5))
    assert (six.measures_correlation, five.measures_correlation) == (True, False)
    assert five.spec.serial_correlation is UNSET


def test_a_holdout_that_can_never_be_judged_by_is_refused() -> None:
    said = r"holdout='5h' has 5 blocks of 1h, and by serial_correlation='measured' it must be worth 6 independent ones"
    with pytest.warns(UserWarning, match="blocks=5 is below 14"), pytest.raises(DefinitionError, match=said):
        Gate("auc", block="1h", holdout="5h", floors=Floors(blocks=5), serial_correlation="measured")


@pytest.mark.parametrize("blocks", [6, 8, 10])
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_few_blocks_pass_as_rarely_because_most_looks_are_postponed(blocks: int, phi: float) -> None:
    """400 looks of which 5 % at most pass, give or take three errors."""
    passed = sum(passes(series(blocks, phi, seed)) for seed in range(400))
    assert passed / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
