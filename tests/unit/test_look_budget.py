"""The looks of a period cost together no more than its budget, however many there are and whenever they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.intervals import Interval, t_quantile
from headrace.trainers.runs.look_budget import LookCost, look_cost

YEARLY = Gate("auc", alpha=0.05, per="year")


def costs(gate: Gate, ends: list[int]) -> list[float]:
    """What looks cost whose holdouts end on these days, after one that ended on day 0."""
    spans = [(end - 14, end) for end in [0, *ends]]
    return [look_cost(gate, end, spans[: number + 1]).alpha for number, end in enumerate(ends)]


@given(ends=st.lists(st.integers(0, 365), max_size=80))
def test_all_looks_of_a_year_cost_at_most_the_budget_of_the_year(ends: list[int]) -> None:
    """In whatever order they come: a run that was delayed looks at days before those of a later one."""
    assert sum(costs(YEARLY, ends)) <= 0.05 + 1e-12


def test_a_look_costs_the_part_of_the_period_since_the_one_before() -> None:
    assert costs(YEARLY, [7, 37, 37]) == pytest.approx([0.05 * 7 / 365, 0.05 * 30 / 365, 0.0])
    assert costs(YEARLY, [1_000]) == [0.05]
    assert costs(Gate("auc", alpha=0.05, per="quarter"), [7]) == pytest.approx([0.05 * 7 / 91.25])
    assert costs(Gate("auc"), [7, 37, 37]) == [0.025] * 3


def test_before_the_first_look_the_length_of_the_holdout_counts() -> None:
    assert look_cost(YEARLY, 100, []) == LookCost(0.05 * 14 / 365, 14)


def test_weekly_looks_that_are_not_paid_for_pass_in_seven_of_ten_years() -> None:
    assert look_cost(Gate("auc"), 7, [(-14, 0)]).false_pass_a_year == pytest.approx(0.733, abs=0.001)
    assert look_cost(YEARLY, 7, [(-14, 0)]).false_pass_a_year == pytest.approx(0.0488, abs=0.0001)


@pytest.mark.parametrize("freedom", [1, 2, 4, 13, 14, 335])
@pytest.mark.parametrize("tail", [0.4, 0.025, 1e-3, 1e-5])
def test_the_quantiles_are_students(freedom: int, tail: float) -> None:
    assert t_quantile(tail, freedom) == pytest.approx(stats.t.isf(tail, freedom), rel=1e-7)


def test_a_bound_for_a_smaller_chance_is_lower_and_the_usual_one_is_the_interval_s() -> None:
    interval = Interval(0.02, 0.01, 0.03)
    assert interval.lower_bound(0.025, 14) == 0.01
    assert interval.lower_bound(0.05, 14) > 0.01 > interval.lower_bound(0.001, 14) > interval.lower_bound(1e-6, 14)
