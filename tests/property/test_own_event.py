"""Where requests are events of the views, served values equal trained values, with and without the own event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.base.times import utc_datetime
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, RecordPlace
from headrace.features.definitions.aggregates import Count, Histogram, Mean, Sum
from headrace.features.definitions.categories import CountBy, SumBy
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.shape import Ratio
from headrace.features.definitions.view import FeatureView
from headrace.features.definitions.windows import Lifetime
from headrace.features.kernel.python_values import python_list
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.tile_index import TileIndex
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.serving.left_out import LeftOutRecords
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.every_aggregate import SOURCES, Sale, build, sales, same
from tests.support.every_aggregate import view as every
from tests.support.example_budget import examples
from tests.support.naive import naive_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

view = FeatureView(
    "own",
    entity=Entity("place", keys={"shop": str, "till": int}),
    source=sales,
    windows=["10m", "1h", Lifetime()],
    derived={"each": col("amount") / col("pieces")},
    where=col("pieces") >= 0,
    features={
        "n": Count(),
        "n_paid": Count("amount"),
        "amount": Sum("amount"),
        "pieces": Sum("pieces", where=col("cash")),
        "mean": Mean("each"),
        "sizes": Histogram("amount", [0.0, 5.0]),
        "by_pieces": CountBy("pieces", of=[0, 2], where=col("cash")),
        "paid_by": SumBy("amount", by="pieces", of=[1]),
        "share_cash": Ratio(Count(where=col("cash")), Count()),
        "share_paid": Ratio(Sum("pieces", where=col("cash")), Count("amount")),
    },
)
EVENT = st.tuples(
    st.integers(0, 1), st.integers(-90, 9), st.integers(0, 5), st.sampled_from("ab"), st.integers(0, 1),
    st.none() | st.floats(-10, 20, width=16), st.integers(-1, 4), st.booleans(), st.none(),
)  # fmt: skip
EVENTS = st.lists(EVENT, min_size=1, max_size=25)


def below(rows: Sequence[dict[str, Any]], ends: Sequence[int], own: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The rows below V, without one of them."""
    return [row for row in rows if row["offset"] < ends[row["partition"]] and row is not own]


def logged(rows: Sequence[dict[str, Any]], partition: int) -> pl.DataFrame:
    """The log's rows of one partition."""
    own = [row for row in rows if row["partition"] == partition]
    records = PartitionRecords(
        np.arange(len(own)),
        np.array([row["record_us"] for row in own], np.int64),
        [None] * len(own),
        [encode(Sale(**row["event"])) for row in own],
    )
    source = SOURCES[partition]
    return RecordJudge(sales).rows(source.topic_id, source.partition, records, NO_CLOCK)


def served_by(rows: Sequence[dict[str, Any]], ends: Sequence[int]) -> FeatureClient:
    """A client of a store that has folded the rows below V."""
    store = MemoryOnlineStore(lambda: 0)
    publish_definitions(store, [view], [])
    for partition, source in enumerate(SOURCES):
        owned = ViewPartition(view.spec, source, store)
        owned.acquire(b"w" * 16, len(SOURCES))
        fresh = logged(rows, partition).filter(pl.col("__offset") < ends[partition])
        for write in owned.fold(LoggedRows.from_rows(fresh, "at"), ends[partition]):
            assert store.write([write]) == [True]
            owned.applied(write)
    return FeatureClient(store)


def agree(found: Sequence[Any], wanted: Sequence[tuple[Any, float]], slack: float) -> None:
    for value, (expected, within) in zip(found, wanted, strict=True):
        assert same(value, expected, within + slack), (found, wanted)


@settings(max_examples=examples(100), deadline=None)
@given(EVENTS, st.data())
def test_served_values_leave_out_each_requests_own_event(raw: list[tuple[Any, ...]], data: st.DataObject) -> None:
    rows = build(raw)
    ends = [data.draw(st.integers(0, sum(row["partition"] == p for row in rows)), label=f"end {p}") for p in (0, 1)]
    at_us = max(row["record_us"] for row in rows) + data.draw(st.integers(0, 120), label="later") * 60_000_000
    client = served_by(rows, ends)
    places = [RecordPlace(SOURCES[row["partition"]], row["offset"]) for row in rows]
    found = client.get_views(
        view.spec.versioned_name,
        [row["event"] for row in rows],
        as_of=utc_datetime(at_us),
        left_out=LeftOutRecords(sales.topic, places),
    )
    plain = client.get_views(view.spec.versioned_name, [row["event"] for row in rows], as_of=utc_datetime(at_us))
    for number, (row, values) in enumerate(zip(rows, found.to_lists(), strict=True)):
        key = (row["event"]["shop"], row["event"]["till"])
        whole = abs(row["event"]["amount"] or 0) + 1
        agree(values, naive_answers(view.spec, below(rows, ends, row), key, at_us), 1e-9 * whole)
        assert found.offsets(number) == plain.offsets(number)
    without = client.get_views(
        view.spec.versioned_name,
        [row["event"] for row in rows],
        as_of=utc_datetime(at_us),
        left_out=LeftOutRecords(sales.topic, [None] * len(rows)),
    )
    assert without.to_lists() == plain.to_lists()


@settings(max_examples=examples(60), deadline=None)
@given(EVENTS, st.data())
def test_the_log_leaves_out_any_record_from_every_aggregate(raw: list[tuple[Any, ...]], data: st.DataObject) -> None:
    rows = build(raw)
    ends = [data.draw(st.integers(0, sum(row["partition"] == p for row in rows)), label=f"end {p}") for p in (0, 1)]
    at_us = max(row["record_us"] for row in rows) + data.draw(st.integers(-60, 60), label="later") * 60_000_000
    whole = kernel(every.spec)
    frame = pl.DataFrame(
        [
            {**row["event"], "__time": row["time_us"], "__source": row["partition"], "__row_offset": row["offset"]}
            for row in rows
        ],
        schema_overrides={
            "amount": pl.Float64,
            "buyer": pl.String,
            "at": pl.Datetime("us", "UTC"),
            "place": pl.List(pl.Float64),
        },
    ).sort("__source", "__row_offset")
    index = TileIndex(whole, whole.keep(frame), len(SOURCES), every.spec.measured_fields)
    own = np.full((len(rows), len(SOURCES)), -1)
    for number, row in enumerate(rows):
        own[number, row["partition"]] = row["offset"]
    keys = pl.DataFrame({name: [row["event"][name] for row in rows] for name in every.spec.key_names})
    columns = index.values(keys, np.full(len(rows), at_us), np.tile(np.array(ends), (len(rows), 1)), own)
    for number, row in enumerate(rows):
        wanted = naive_answers(every.spec, below(rows, ends, row), tuple(keys.row(number)), at_us)
        found = [python_list(values[number : number + 1])[0] if there[number] else None for values, there in columns]
        agree(found, wanted, 1e-9)
