"""Windows whose rows choose their content, with every aggregate: folded in any cut, from the log, and by a loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Count, First, Last, LastN, Rows, Session
from headrace.base.times import epoch_us
from headrace.features.kernel.tile_kernel import TileKernel, kernel
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory
from tests.support.every_aggregate import SOURCES, START, build, recent, wrong
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

MINUTE = 60_000_000
KERNEL = kernel(recent.spec)
EXACT = [output.exact for output in KERNEL.outputs for _ in KERNEL.windows]


@settings(max_examples=examples(8), deadline=None)
@given(rows_strategy, st.data())
def test_the_log_at_any_v_answers_as_a_naive_loop(raw: list[tuple[Any, ...]], data: st.DataObject) -> None:
    rows = build(raw)
    history = ViewHistory(recent.spec, frame(rows))
    at_us = epoch_us(START) + data.draw(st.integers(-200, 300)) * 30_000_000
    below = [data.draw(st.integers(0, 42)) for _ in SOURCES]
    own = [data.draw(st.integers(-1, 10)) for _ in SOURCES]
    seen = [row for row in rows if row["offset"] < below[row["partition"]] and row["offset"] != own[row["partition"]]]
    keys = [("a", 0), ("b", 0), ("zz", 5)]
    times = np.full(3, at_us)
    queries = PointInTimeQueries(keys_frame(keys), times, np.tile(below, (3, 1)), SOURCES, np.tile(own, (3, 1)))
    found = history.values(queries)
    for row, key in enumerate(keys):
        assert not wrong(listed(found, row), naive_answers(recent.spec, seen, key, at_us), KERNEL.columns), key


windows = st.lists(
    st.builds(Rows, st.integers(1, 6), st.none() | st.sampled_from(["1m", "20m", "3h"]))
    | st.builds(Session, st.sampled_from(["1m", "7m", "30m"]), st.integers(0, 3), st.none() | st.just("210m")),
    min_size=1, max_size=3, unique_by=lambda window: window.spec.name,
)  # fmt: skip
few: dict[str, Any] = {
    "n": Count(),
    "newest": LastN("pieces", 4, as_list=True),
    "last_buyer": Last("buyer"),
    "first": First("at"),
}


@settings(max_examples=examples(60), deadline=None)
@given(rows_strategy, windows, st.lists(st.integers(1, 7), max_size=40), st.data())
def test_any_such_windows_are_alike_in_fields_log_and_loop(
    raw: list[tuple[Any, ...]], chosen: list[Rows | Session], cuts: list[int], data: st.DataObject
) -> None:
    of = replace(recent, windows=chosen, features=few, derived={}, history=data.draw(st.sampled_from(["0s", "20m"])))
    compiled, rows = TileKernel(of.spec), build(raw)
    folded = Named(compiled)
    fields: dict[Name, bytes] = {}
    clocks: dict[int, int] = {}
    for batch in batches(rows, cuts):
        fields |= fold(folded, batch, clocks)
        if len(batch) % 3 == 0:
            folded = reloaded(fields, compiled)
        elif len(batch) % 3 == 1:
            folded.forget(fields)
    at_us = max(clocks.values(), default=epoch_us(START)) + data.draw(st.integers(0, 60)) * MINUTE
    at_us -= min(of.spec.history_us, data.draw(st.integers(0, 20)) * MINUTE)
    log = ViewHistory(of.spec, frame(rows))
    for key in (("a", 0), ("b", 1)):
        wanted = naive_answers(of.spec, rows, key, at_us)
        assert not wrong(look_up(fields, key, at_us, compiled), wanted, compiled.columns), key
        query = PointInTimeQueries(keys_frame([key]), np.array([at_us]), np.full((1, 2), len(rows)), SOURCES)
        assert not wrong(listed(log.values(query), 0), wanted, compiled.columns), key


@settings(max_examples=examples(8), deadline=None)
@given(rows_strategy, st.lists(st.integers(1, 7), max_size=40), st.integers(0, 200))
def test_folding_in_any_batch_cut_answers_as_a_naive_loop(
    raw: list[tuple[Any, ...]], cuts: list[int], later: int
) -> None:
    rows = build(raw)
    folded = Named(KERNEL)
    fields: dict[Name, bytes] = {}
    clocks: dict[int, int] = {}
    for batch in batches(rows, cuts):
        fields |= fold(folded, batch, clocks)
        if len(batch) % 3 == 0:
            folded = reloaded(fields, KERNEL)
    at_us = max(clocks.values(), default=epoch_us(START)) + later * 30_000_000
    history = ViewHistory(recent.spec, frame(rows))
    for key in (("a", 0), ("b", 1)):
        found = look_up(fields, key, at_us, KERNEL)
        assert not wrong(found, naive_answers(recent.spec, rows, key, at_us), KERNEL.columns), key
        logged = history.values(
            PointInTimeQueries(keys_frame([key]), np.array([at_us]), np.full((1, 2), len(rows)), SOURCES)
        )
        unlike = [
            name
            for name, live, again, exact in zip(KERNEL.columns, found, listed(logged, 0), EXACT, strict=True)
            if exact and live != again
        ]
        assert not unlike, key
