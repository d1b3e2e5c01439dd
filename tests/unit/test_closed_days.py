"""A shop that closes on Sundays is judged by its newest open days, and publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.trainers.definitions import Gate
from headrace.trainers.runs.holdout_span import HoldoutSpan, closed_days
from headrace.trainers.triggers.evidence import DAY_US
from tests.support.orders_model import LIVE_FROM, Shop, day, request

if TYPE_CHECKING:
    from pathlib import Path

DAILY = Gate("auc")
UNTIL = 40


@given(st.sets(st.integers(0, UNTIL - 1)), st.integers(0, DAY_US - 1))
def test_days_without_requests_are_closed_if_they_are_a_week_at_most(opened: set[int], moment: int) -> None:
    found = closed_days(DAILY, np.array([each * DAY_US + moment for each in opened], np.int64), UNTIL * DAY_US)
    counted = {each for span in found for each in range(span.from_us // DAY_US, span.to_us // DAY_US)}
    assert counted == closed_day_by_day(opened)


def closed_day_by_day(opened: set[int]) -> set[int]:
    """The closed days, by a plain loop. Nothing is known of the days before the first open one."""
    closed, gap = set[int](), list[int]()
    for each in range(min(opened, default=UNTIL), UNTIL):
        gap = [] if each in opened else [*gap, each]
        if gap and (each + 1 == UNTIL or each + 1 in opened) and len(gap) <= 7:
            closed |= set(gap)
    return closed


def test_only_blocks_of_a_day_have_closed_days() -> None:
    requested = np.array([0, 3 * DAY_US])
    gates = [DAILY, Gate("auc", block="1h"), Gate("auc", block="7d", holdout="98d"), Gate("auc", block="shop")]
    assert [len(closed_days(gate, requested, 4 * DAY_US)) for gate in gates] == [1, 0, 0, 0]


@pytest.mark.slow
def test_a_shop_that_closes_on_sundays_publishes_by_its_newest_14_open_days(tmp_path: Path) -> None:
    shop = Shop(tmp_path, closed_on=6)
    first = shop.runner().run(request("first", day(LIVE_FROM)))
    assert first.outcome == "published", first.reason
    shop.serve(1)
    second = shop.runner().run(request("second", day(50)))
    assert second.outcome == "published", second.reason
    assert second.gate is not None
    assert (second.gate["days"], second.gate["rows"]) == (14, 14 * 150)
    assert second.gate["lag1"] >= 0
    assert (second.holdout, second.gate["from_us"]) == (HoldoutSpan(day(32), day(49)), day(32))
    again = shop.runner().run(request("second", day(50)))  # the trainer died before it said so
    assert (again.reason, again.holdout) == ("published before", second.holdout)
