"""Folds rows of every aggregate's view by hand, as a worker does, and reads the fields, as a look-up does."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from headrace.base.times import epoch_us
from headrace.event_log.columns import log_schema
from headrace.features.kernel.field import unpack
from headrace.features.kernel.python_values import python_list
from headrace.features.kernel.role_rows import with_time
from headrace.streams.views.folded_view import FoldedView
from tests.support.every_aggregate import FIELDS, KERNEL, SOURCES, START, sales

if TYPE_CHECKING:
    from headrace.features.kernel.tile_kernel import TileKernel

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


def batches(rows: list[dict[str, Any]], cuts: list[int]) -> list[list[dict[str, Any]]]:
    """The rows cut into batches of the given sizes, the rest in one."""
    parts, start = [], 0
    for size in [*cuts, len(rows)]:
        parts.append(rows[start : start + size])
        start += size
    return [part for part in parts if part]


class Named:
    """A folded view whose slots have names."""

    def __init__(self, kernel: TileKernel = KERNEL) -> None:
        self.view = FoldedView(kernel)
        self.slots: dict[Name, int] = {}

    def slot(self, name: Name) -> int:
        if name not in self.slots:
            self.slots[name] = self.view.add()
        return self.slots[name]

    def forget(self, fields: dict[Name, bytes]) -> None:
        """Drop half of the slots, and load them again from their fields."""
        kept = {slot: place for place, slot in enumerate(self.view.forget(len(self.slots) // 2).tolist())}
        former = self.slots
        self.slots = {name: kept[slot] for name, slot in former.items() if slot in kept}
        for name in [name for name in former if name not in self.slots]:
            self.slots[name] = self.view.add(fields[name])


def fold(folded: Named, batch: list[dict[str, Any]], clocks: dict[int, int]) -> dict[Name, bytes]:
    """Fold a batch; the fields that changed."""
    for row in batch:
        clocks[row["partition"]] = max(clocks.get(row["partition"], 0), row["record_us"])
    data = folded.view.kernel.keep(with_time(frame(batch), "at"))
    if data.is_empty():
        return {}
    partitions = data["__partition"].to_list()
    names = list(zip(partitions, data["shop"].to_list(), data["till"].to_list(), strict=True))
    slots = np.array([folded.slot(name) for name in names])
    clock = np.array([clocks[p] for p in partitions])
    folded.view.fold(slots, data["__time"].to_numpy(), folded.view.kernel.lift(data), clock)
    touched = np.unique(slots)
    named = list(folded.slots)
    own = np.array([clocks[named[slot][0]] for slot in touched])
    fields = folded.view.fields(touched, np.full(len(touched), 1), own)
    return dict(zip([named[slot] for slot in touched], fields, strict=True))


def reloaded(fields: dict[Name, bytes], kernel: TileKernel = KERNEL) -> Named:
    """A worker that restarted and has the fields only."""
    folded = Named(kernel)
    for name, field in fields.items():
        folded.slots[name] = folded.view.add(field)
    return folded


def look_up(fields: dict[Name, bytes], key: Name, at_us: int, kernel: TileKernel = KERNEL) -> list[Any]:
    """What a look-up makes of the fields of one entity."""
    tiles: list[list[np.ndarray]] = [[] for _ in kernel.sizes]
    rank: list[list[np.ndarray]] = [[] for _ in kernel.sizes]
    for partition in range(2):
        field = fields.get((partition, *key))
        if field is None:
            continue
        for index, of_size in enumerate(unpack(field, kernel.layout)[1]):
            tiles[index].append(of_size)
            rank[index].append(np.full(len(of_size), partition))
    joined = [kernel.join(part) for part in tiles]
    ranks = [np.concatenate([np.zeros(0, np.int64), *part]) for part in rank]
    values = kernel.evaluate(joined, [np.zeros(len(part), np.int64) for part in joined], ranks, np.array([at_us]))
    return listed(values, 0)
