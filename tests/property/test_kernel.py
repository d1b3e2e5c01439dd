"""value(V, t): folded live in any batch cut, over the log at any V, and by a naive loop: the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.base.times import epoch_us
from headrace.event_log.columns import log_schema
from headrace.features.kernel.field import unpack
from headrace.features.kernel.python_values import python_list
from headrace.features.kernel.role_rows import with_time
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory
from headrace.streams.views.folded_view import FoldedView
from tests.support.every_aggregate import FIELDS, KERNEL, SOURCES, START, build, sales, view, wrong
from tests.support.example_budget import examples
from tests.support.naive import naive_answers

EXACT = [output.exact for output in KERNEL.outputs for _ in KERNEL.windows]
Name = tuple[Any, ...]

quarters = st.integers(-40, 40).map(lambda n: n / 4)
extremes = st.sampled_from([1e150, -1e150, 1e16, 1e16 + 2, -1e16, 1e-150, -1e-300, 0.0, -0.0, 123456.789])

rows_strategy = st.lists(
    st.tuples(
        st.integers(0, 1),  # partition
        st.integers(-200, 10),  # minutes that the event lies before (or after) its record
        st.integers(0, 60),  # seconds since the previous record of all
        st.sampled_from(["a", "b"]),
        st.integers(0, 1),
        st.none() | quarters | extremes,
        st.integers(-1, 3),
        st.booleans(),
        st.none() | st.sampled_from(["", "ann", "béa", "a longer name than most"]),
    ),
    max_size=40,
)


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """The rows as the event log has them."""
    records = [START + timedelta(microseconds=row["record_us"] - epoch_us(START)) for row in rows]
    data = {
        "__topic_id": [SOURCES[0].topic_id] * len(rows),
        "__partition": [row["partition"] for row in rows],
        "__offset": [row["offset"] for row in rows],
        "__record_timestamp": records,
        "__available_at": records,
        "__verdict": ["accepted"] * len(rows),
        "at": [row["event"]["at"] for row in rows],
    } | {name: [row["event"][name] for row in rows] for name in FIELDS}
    return pl.DataFrame(data, schema_overrides={k: v for k, v in log_schema(sales).items() if k in data})


def keys_frame(keys: list[tuple[str, int]]) -> pl.DataFrame:
    """The join keys of queries."""
    return pl.DataFrame(keys, schema=["shop", "till"], orient="row")


def listed(values: list[tuple[np.ndarray, np.ndarray]], row: int) -> list[Any]:
    """One row of an evaluation as Python values."""
    return [python_list(v[row : row + 1])[0] if p[row] else None for v, p in values]


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


def batches(rows: list[dict[str, Any]], cuts: list[int]) -> list[list[dict[str, Any]]]:
    """The rows cut into batches of the given sizes, the rest in one."""
    parts, start = [], 0
    for size in [*cuts, len(rows)]:
        parts.append(rows[start : start + size])
        start += size
    return [part for part in parts if part]


class Named:
    """A folded view whose slots have names."""

    def __init__(self) -> None:
        self.view = FoldedView(KERNEL)
        self.slots: dict[Name, int] = {}

    def slot(self, name: Name) -> int:
        if name not in self.slots:
            self.slots[name] = self.view.add()
        return self.slots[name]


def fold(folded: Named, batch: list[dict[str, Any]], clocks: dict[int, int]) -> dict[Name, bytes]:
    """Fold a batch; the fields that changed."""
    for row in batch:
        clocks[row["partition"]] = max(clocks.get(row["partition"], 0), row["record_us"])
    data = KERNEL.keep(with_time(frame(batch), "at"))
    if data.is_empty():
        return {}
    partitions = data["__partition"].to_list()
    names = list(zip(partitions, data["shop"].to_list(), data["till"].to_list(), strict=True))
    slots = np.array([folded.slot(name) for name in names])
    clock = np.array([clocks[p] for p in partitions])
    folded.view.fold(slots, data["__time"].to_numpy(), KERNEL.lift(data), clock)
    touched = np.unique(slots)
    named = list(folded.slots)
    own = np.array([clocks[named[slot][0]] for slot in touched])
    fields = folded.view.fields(touched, np.full(len(touched), 1), own)
    return dict(zip([named[slot] for slot in touched], fields, strict=True))


def reloaded(fields: dict[Name, bytes]) -> Named:
    """A worker that restarted and has the fields only."""
    folded = Named()
    for name, field in fields.items():
        folded.slots[name] = folded.view.add(field)
    return folded


def look_up(fields: dict[Name, bytes], key: Name, at_us: int) -> list[Any]:
    """What a look-up makes of the fields of one entity."""
    tiles: list[list[np.ndarray]] = [[] for _ in KERNEL.sizes]
    rank: list[list[np.ndarray]] = [[] for _ in KERNEL.sizes]
    for partition in range(2):
        field = fields.get((partition, *key))
        if field is None:
            continue
        for index, of_size in enumerate(unpack(field, KERNEL.layout)[1]):
            tiles[index].append(of_size)
            rank[index].append(np.full(len(of_size), partition))
    joined = [KERNEL.join(part) for part in tiles]
    ranks = [np.concatenate([np.zeros(0, np.int64), *part]) for part in rank]
    values = KERNEL.evaluate(joined, [np.zeros(len(part), np.int64) for part in joined], ranks, np.array([at_us]))
    return listed(values, 0)


@pytest.mark.parametrize("window", ["10m", "1h", "tumbling_1d_lag_1d", "day_kolkata_ago_1", "lifetime"])
def test_an_empty_view_answers_nothing_at_all(window: str) -> None:
    found = dict(zip(KERNEL.columns, look_up({}, ("a", 0), epoch_us(START)), strict=True))
    assert found[f"sales__n_{window}"] == 0
    assert found[f"sales__amount_{window}"] == 0.0
    assert found[f"sales__mean_{window}"] is None
    assert found[f"sales__last_{window}"] is None
