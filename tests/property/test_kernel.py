"""value(V, t): folded live in any batch cut, over the log at any V, and by a naive loop: the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.base.times import epoch_us
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory
from tests.support.every_aggregate import KERNEL, SOURCES, START, build, view, wrong
from tests.support.example_budget import examples
from tests.support.folding_by_hand import (
    Name,
    Named,
    batches,
    fold,
    frame,
    keys_frame,
    listed,
    look_up,
    reloaded,
    rows_strategy,
)
from tests.support.naive import naive_answers

EXACT = [output.exact for output in KERNEL.outputs for _ in KERNEL.windows]


@settings(max_examples=examples(40), deadline=None)
@given(rows_strategy, st.data())
def test_the_log_at_any_v_answers_as_a_naive_loop(raw: list[tuple[Any, ...]], data: st.DataObject) -> None:
    rows = build(raw)
    history = ViewHistory(view.spec, frame(rows))
    at_us = epoch_us(START) + data.draw(st.integers(-600, 3000)) * 30_000_000
    below = [data.draw(st.integers(0, 42)) for _ in SOURCES]
    seen = [row for row in rows if row["offset"] < below[row["partition"]]]
    keys = [("a", 0), ("a", 1), ("b", 0), ("zz", 5)]
    queries = PointInTimeQueries(keys_frame(keys), np.full(4, at_us), np.tile(below, (4, 1)), SOURCES)
    found = history.values(queries)
    for row, key in enumerate(keys):
        assert not wrong(listed(found, row), naive_answers(view.spec, seen, key, at_us)), key


@settings(max_examples=examples(30), deadline=None)
@given(rows_strategy, st.lists(st.integers(1, 7), max_size=40), st.integers(0, 3000))
def test_folding_in_any_batch_cut_answers_as_a_naive_loop(
    raw: list[tuple[Any, ...]], cuts: list[int], later: int
) -> None:
    rows = build(raw)
    folded = Named()
    fields: dict[Name, bytes] = {}
    clocks: dict[int, int] = {}
    for batch in batches(rows, cuts):
        fields |= fold(folded, batch, clocks)
        if len(batch) % 3 == 0:
            folded = reloaded(fields)
    at_us = max(clocks.values(), default=epoch_us(START)) + later * 30_000_000
    history = ViewHistory(view.spec, frame(rows))
    for key in (("a", 0), ("a", 1), ("b", 0), ("b", 1)):
        found = look_up(fields, key, at_us)
        assert not wrong(found, naive_answers(view.spec, rows, key, at_us)), key
        logged = history.values(
            PointInTimeQueries(keys_frame([key]), np.array([at_us]), np.full((1, 2), len(rows)), SOURCES)
        )
        unlike = [
            name
            for name, live, again, exact in zip(KERNEL.columns, found, listed(logged, 0), EXACT, strict=True)
            if exact and live != again
        ]
        assert not unlike, key


@pytest.mark.parametrize("window", ["10m", "1h", "tumbling_1d_lag_1d", "day_kolkata_ago_1", "lifetime"])
def test_an_empty_view_answers_nothing_at_all(window: str) -> None:
    found = dict(zip(KERNEL.columns, look_up({}, ("a", 0), epoch_us(START)), strict=True))
    assert found[f"sales__n_{window}"] == 0
    assert found[f"sales__amount_{window}"] == 0.0
    assert found[f"sales__mean_{window}"] is None
    assert found[f"sales__last_{window}"] is None
