"""Rows that are changed and deleted: the values are those of a plain loop over the rows that are left."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import (
    Count,
    Entity,
    Event,
    FeatureView,
    Histogram,
    Mean,
    Places,
    Role,
    Std,
    Stream,
    Sum,
    Variance,
    col,
)
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.definitions.service import FeatureService
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.example_budget import examples

if TYPE_CHECKING:
    from collections.abc import Sequence

START = datetime(2026, 1, 1, tzinfo=UTC)
EDGES = [0.0, 5.0]


class Row(Event):
    """A row of a table of payments."""

    card: str
    amount: float | None
    fee: Annotated[Decimal, Places(2)]
    paid_at: datetime


class Change(Event):
    """A change of a row, as a connector writes it."""

    at: datetime
    before: Row | None = None
    after: Row | None = None


changed = Stream("changed", Change, event_time="at", tolerance="1h")
OF = ("card", "amount", "fee")
view = FeatureView(
    "card",
    entity=Entity("card", str),
    source=[
        Role(changed, {name: f"after.{name}" for name in OF}, event_time="after.paid_at"),
        Role(changed, {name: f"before.{name}" for name in OF}, event_time="before.paid_at", takes_back=True),
    ],
    windows=["10m", "1h"],
    features={
        "n": Count(),
        "large": Count(where=col("amount") > 2),
        "sum": Sum("amount"),
        "fees": Sum("fee"),
        "mean": Mean("amount"),
        "spread": Variance("amount"),
        "scatter": Std("fee"),
        "sizes": Histogram("amount", EDGES),
    },
)
SOURCES = [SourcePartition(number, bytes(16)) for number in range(2)]
CARDS = ["a", "b"]


class Write(NamedTuple):
    """A write of the row of one id: another row, or None for a delete. Minutes after the last write."""

    row_id: int
    row: tuple[str, float | None, int, int] | None
    after: int


write = st.builds(
    Write,
    st.integers(0, 3),
    st.none()
    | st.tuples(
        st.sampled_from(CARDS), st.sampled_from([None, 0.0, 2.5, 7.0, -3.0, 1e6]), st.integers(0, 500),
        st.sampled_from([0, 0, -7, -50]),
    ),
    st.sampled_from([0, 1, 6]),
)  # fmt: skip


def row_of(write: Write, now: datetime) -> Row | None:
    """The row that a write leaves."""
    if write.row is None:
        return None
    card, amount, cents, minutes = write.row
    return Row(card, amount, Decimal(cents) / 100, now + timedelta(minutes=minutes))


def wanted(rows: Sequence[Row], card: str, at_us: int) -> list[tuple[Any, float]]:
    """The values of a card over the rows that are there, with how far from them is equal."""
    by_window: list[list[tuple[Any, float]]] = []
    for window in view.spec.windows:
        size, newest = window.tile_us, at_us // window.tile_us
        tiles = window.length_us // size
        own = [row for row in rows if row.card == card and newest - tiles < epoch_us(row.paid_at) // size <= newest]
        amounts = [row.amount for row in own if row.amount is not None]
        fees = [float(row.fee) for row in own]
        slack = 1e-9 * 50e12  # of all squares, also of rows that were taken back
        bounds = list(pairwise([-math.inf, *EDGES, math.inf]))
        by_window.append([
            (len(own), 0), (sum(amount > 2 for amount in amounts), 0), (math.fsum(amounts), 1e-9 * 50e6),
            (math.fsum(fees), 1e-9 * 500), (mean_of(amounts), 1e-9 * 50e6), (variance_of(amounts), slack),
            (None if not fees else math.sqrt(variance_of(fees) or 0.0), 1e-3),
            *((sum(low <= amount < high for amount in amounts), 0) for low, high in bounds),
        ])  # fmt: skip
    return [values[place] for place in range(len(by_window[0])) for values in by_window]


def mean_of(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def variance_of(values: Sequence[float]) -> float | None:
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / len(values)


class Worker:
    """A worker of both partitions, which keeps what it has logged."""

    def __init__(self) -> None:
        self.store, self.judge = MemoryOnlineStore(lambda: 1), RecordJudge(changed)
        publish_definitions(self.store, [view], [FeatureService("risk", [view])])
        self.logged = [self.judge.rows(bytes(16), 0, PartitionRecords(np.arange(0), np.arange(0), [], []), NO_CLOCK)]
        self.ends, self.clocks = [0, 0], [NO_CLOCK, NO_CLOCK]
        self.restart()

    def restart(self) -> None:
        """Begin with an empty memory."""
        self.views = [ViewPartition(view.spec, source, self.store) for source in SOURCES]
        for own in self.views:
            own.acquire(bytes(16), len(SOURCES))

    def fold(self, partition: int, changes: list[tuple[Change, datetime]]) -> None:
        """Judge and fold a batch of one partition."""
        begin = self.ends[partition]
        stamps = [epoch_us(now) for _, now in changes]
        records = PartitionRecords(
            np.arange(begin, begin + len(changes)), np.array(stamps, np.int64), [None] * len(changes),
            [encode(change) for change, _ in changes],
        )  # fmt: skip
        rows = self.judge.rows(bytes(16), partition, records, self.clocks[partition])
        assert rows["__verdict"].to_list() == ["accepted"] * len(changes)
        self.logged.append(rows)
        self.ends[partition], self.clocks[partition] = begin + len(changes), stamps[-1]
        for made in self.views[partition].fold(LoggedRows.from_rows(rows, "at"), self.ends[partition]):
            assert self.store.write([made]) == [True]
            self.views[partition].applied(made)


def check(worker: Worker, left: Sequence[Row], at: datetime) -> None:
    """Compare the look-up of each card with the log and with the rows that are left."""
    history = ViewHistory(view.spec, pl.concat(worker.logged))
    found = FeatureClient(worker.store, clock=lambda: 1).get("risk", [{"card": card} for card in CARDS], as_of=at)
    for row, card in enumerate(CARDS):
        values = wanted(left, card, epoch_us(at))
        below = np.array([[worker.ends[source.partition] for source in history.sources]])
        queries = PointInTimeQueries(pl.DataFrame({"card": [card]}), np.array([epoch_us(at)]), below, history.sources)
        offline = [v[0].item() if there[0] else None for v, there in history.values(queries)]
        for name, live, again, (exact, slack) in zip(
            view.spec.columns, found.to_lists()[row], offline, values, strict=True
        ):
            if exact is None:
                assert live is again is None, name
            else:
                assert abs(live - exact) <= slack, (name, live, exact)
                assert abs(again - exact) <= slack, (name, again, exact)


@settings(deadline=None, max_examples=examples(25))
@given(
    st.lists(st.lists(write, min_size=1, max_size=8), min_size=1, max_size=6),
    st.lists(st.booleans(), max_size=6),
    st.integers(0, 40),
)
def test_values_are_those_of_the_rows_that_are_left(
    batches: list[list[Write]], restarts: list[bool], minutes: int
) -> None:
    worker, left, now = Worker(), dict[int, Row](), START
    for number, batch in enumerate(batches):
        changes: list[list[tuple[Change, datetime]]] = [[], []]
        for each in batch:
            now += timedelta(minutes=each.after)
            before, after = left.pop(each.row_id, None), row_of(each, now)
            if after is not None:
                left[each.row_id] = after
            changes[each.row_id % 2].append((Change(now, before, after), now))
        if number < len(restarts) and restarts[number]:
            worker.restart()
        for partition, own in enumerate(changes):
            if own:
                worker.fold(partition, own)
        if number % 3 == 2 or number == len(batches) - 1:
            check(worker, list(left.values()), now + timedelta(minutes=minutes))
