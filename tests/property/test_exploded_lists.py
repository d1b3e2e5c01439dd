"""A view of the items of lists: live in any batch cut, after restarts, from the log and by a naive loop, the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import (
    Count,
    Entity,
    Event,
    FeatureView,
    First,
    Last,
    LastN,
    Lifetime,
    Mean,
    Role,
    Stream,
    Sum,
    TopK,
    UniqueList,
    Vector,
    col,
)
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.definitions.service import FeatureService
from headrace.features.kernel.python_values import python_list
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.every_aggregate import same
from tests.support.example_budget import examples
from tests.support.naive import naive_answers

START = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = SourcePartition(0, bytes(16))
SKUS = ["a", "b"]


class Item(Event):
    """An item of an order."""

    sku: str | None
    pieces: int
    embedding: Annotated[list[float], Vector(2)] | None


class Ordered(Event):
    """A user orders some items, or none."""

    user: str
    at: datetime
    items: list[Item] | None
    tags: list[str | None]


ordered = Stream("ordered", Ordered, event_time="at")
view = FeatureView(
    "sku",
    entity=Entity("sku", str),
    source=[
        Role(ordered, {"sku": "items.sku", "pieces": "items.pieces"}, explode="items", where=col("items.pieces") != 3),
        Role(ordered, {"sku": "items.sku", "pieces": -col("items.pieces")}, explode="items"),
    ],
    windows=["10m", Lifetime()],
    features={
        "n": Count(),
        "pieces": Sum("pieces"),
        "first": First("pieces"),
        "last": Last("pieces"),
        "users": LastN("user", 3, as_list=True),
        "often": TopK("pieces", 1),
        "unlike": UniqueList("pieces", most=2),
        "taste": Mean("items.embedding", dim=2),
        "newest": Last("items.embedding", dim=2, where=col("pieces") > 0),
    },
)
tags = FeatureView(
    "tag", Entity("tag", str), Role(ordered, {"tag": "tags"}, explode="tags"), ["10m", Lifetime()],
    {"n": Count(), "users": LastN("user", 2, as_list=True)},
)  # fmt: skip
service = FeatureService("shop", [view, tags])

items = st.none() | st.lists(
    st.builds(
        Item,
        st.sampled_from([*SKUS, None]),
        st.integers(0, 3),
        st.none() | st.tuples(*[st.integers(-8, 8).map(lambda n: n / 4)] * 2).map(list),
    ),
    max_size=3,
)
orders = st.lists(
    st.tuples(
        st.sampled_from(["ann", "ben"]),
        st.sampled_from([0, 0, -2, -30, 3]),  # minutes from the record to the event
        items,
        st.lists(st.sampled_from([*SKUS, None]), max_size=2),
    ),
    max_size=12,
)


def naive_rows(event: Ordered, offset: int) -> dict[str, list[dict[str, Any]]]:
    """What a record is in each view: a row for each item in each role."""
    place = {"time_us": epoch_us(event.at), "partition": 0}
    of_view = [
        {"sku": item.sku, "pieces": sign * item.pieces, "user": event.user, "items.embedding": item.embedding}
        for sign in (1, -1)
        for item in event.items or []
        if sign < 0 or item.pieces != 3
    ]
    of_tags = [{"tag": tag, "user": event.user} for tag in event.tags]
    return {
        name: [{**place, "offset": 100 * offset + number, "event": own} for number, own in enumerate(rows)]
        for name, rows in (("sku", of_view), ("tag", of_tags))
    }


@settings(max_examples=examples(25), deadline=None)
@given(orders, st.lists(st.integers(1, 4), max_size=6), st.integers(0, 25))
def test_an_item_of_a_list_is_a_row_live_in_the_log_and_in_a_naive_loop(
    raw: list[tuple[str, int, list[Item] | None, list[str | None]]], cuts: list[int], later: int
) -> None:
    now = [START + timedelta(minutes=minute) for minute in range(len(raw))]
    events = [
        Ordered(user, time + timedelta(minutes=at), own, of)
        for time, (user, at, own, of) in zip(now, raw, strict=True)
    ]  # fmt: skip
    stamps = np.array([epoch_us(time) for time in now], np.int64)
    records = PartitionRecords(np.arange(len(raw)), stamps, [None] * len(raw), [encode(event) for event in events])
    rows = RecordJudge(ordered).rows(SOURCE.topic_id, 0, records, NO_CLOCK)
    store = MemoryOnlineStore(lambda: 1)
    publish_definitions(store, [view, tags], [service])
    for own in (view, tags):
        begin = 0
        for size in [*cuts, len(raw)]:
            end = min(begin + size, len(raw))
            worker = ViewPartition(own.spec, SOURCE, store)  # a new one for each batch
            worker.acquire(bytes([end]) * 16, 1)
            assert all(store.write(worker.fold(LoggedRows.from_rows(rows[begin:end], "at"), end)))
            begin = end
    at = START + timedelta(minutes=len(raw) + later)
    found = FeatureClient(store, clock=lambda: 1).get("shop", [{"sku": sku, "tag": sku} for sku in SKUS], as_of=at)
    told = [naive_rows(event, offset) for offset, event in enumerate(events)]
    for own in (view, tags):
        (key,) = own.spec.key_names
        history = ViewHistory(own.spec, rows, {SOURCE: len(raw)})
        for row, sku in enumerate(SKUS):
            wanted = naive_answers(own.spec, [each for of in told for each in of[own.name]], (sku,), epoch_us(at))
            queries = PointInTimeQueries(
                pl.DataFrame({key: [sku]}), np.array([epoch_us(at)]), np.array([[len(raw)]]), history.sources
            )
            offline = [python_list(v)[0] if there[0] else None for v, there in history.values(queries)]
            live = [found.to_dicts()[row][name] for name in own.spec.columns]
            for name, one, other, (right, slack) in zip(own.spec.columns, live, offline, wanted, strict=True):
                assert same(one, right, slack), (name, one, right)
                assert same(other, right, slack), (name, other, right)
