"""A holdout has as much time that is not excluded as its gate asks for, and is the newest of that kind."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from headrace.models.manifest import TimeSpan
from headrace.trainers.data.exclusions import merged
from headrace.trainers.definitions import Gate
from headrace.trainers.model_spec import Floors
from headrace.trainers.runs.holdout_span import HoldoutSpan, holdout_span
from headrace.trainers.triggers.evidence import DAY_US
from tests.support.orders_model import day, model

if TYPE_CHECKING:
    from headrace.trainers.definitions import Model

MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
WITHIN_US = model.label.spec.within_us
LAST_US = day(80)
MOMENTS = st.integers(day(70), LAST_US)
LENGTHS = st.integers(1, 3 * DAY_US)


@st.composite
def exclusions(draw: st.DrawFn) -> list[TimeSpan]:
    """Spans that may overlap, touch, and lie before or after the holdout. Some begin and end with days."""
    found = []
    for _ in range(draw(st.integers(0, 6))):
        begin = draw(st.integers(day(40), LAST_US))
        unit = draw(st.sampled_from([1, MINUTE_US, HOUR_US, DAY_US]))
        begin, length = begin // unit * unit, -(-draw(LENGTHS) // unit) * unit
        found.append(TimeSpan(from_us=begin, to_us=begin + length, reason="x"))
    return found


def counted_day_by_day(of: Model, t_us: int, excluded: list[TimeSpan]) -> tuple[int, int]:
    """The holdout of whole days, by a plain loop."""
    last = first = (t_us - WITHIN_US) // DAY_US
    wanted, bad = 14, merged(excluded)
    while wanted:
        first -= 1
        wanted -= not any(low <= first * DAY_US and (first + 1) * DAY_US <= high for low, high in bad)
    assert of.gate.holdout == "14d"
    return first, last


@given(t_us=MOMENTS, excluded=exclusions())
def test_a_holdout_of_days_is_the_newest_days_that_are_not_excluded_as_a_whole(
    t_us: int, excluded: list[TimeSpan]
) -> None:
    span = holdout_span(model, t_us, excluded)
    assert span == HoldoutSpan.of_days(*counted_day_by_day(model, t_us, excluded))
    assert span.fields() == {"holdout_days": span.days}


def hourly() -> Model:
    with warnings.catch_warnings(action="ignore"):  # few blocks
        gate = Gate("auc", block="1h", holdout="8h", floors=Floors(blocks=5))
    return replace(model, gate=gate)


@given(t_us=MOMENTS, excluded=exclusions())
def test_a_holdout_of_hours_has_as_many_minutes_that_are_not_excluded(t_us: int, excluded: list[TimeSpan]) -> None:
    span = holdout_span(hourly(), t_us, excluded)
    assert span.to_us == (t_us - WITHIN_US) // MINUTE_US * MINUTE_US
    bad = merged(excluded)
    minutes = range(span.from_us, span.to_us, MINUTE_US)
    counted = [us for us in minutes if not any(low <= us and us + MINUTE_US <= high for low, high in bad)]
    assert len(counted) == 8 * 60
    assert counted[0] == span.from_us
    assert span.fields()["holdout_days"] == (span.from_us // DAY_US, -(-span.to_us // DAY_US))


def test_the_end_of_a_run_says_the_times_of_a_holdout_only_if_they_are_not_those_of_days() -> None:
    assert HoldoutSpan.of_days(3, 17).fields() == {"holdout_days": (3, 17)}
    hours = HoldoutSpan(3 * DAY_US + HOUR_US, 4 * DAY_US)
    assert hours.fields() == {"holdout_days": (3, 4), "holdout_us": (3 * DAY_US + HOUR_US, 4 * DAY_US)}
