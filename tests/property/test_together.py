"""One fold of all partitions writes what a fold of each alone writes: the same fields, the same cursors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Count, Entity, Event, FeatureView, Last, LastN, Stream, Sum, col
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.features.online.store import shard_of
from headrace.streams.plane.record_judge import PartitionRecords, PartitionRun, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_memory import ViewMemory
from headrace.streams.views.view_partition import ViewPartition, fold_together
from tests.support.example_budget import examples

if TYPE_CHECKING:
    from headrace.features.definitions.aggregates import Aggregate

EVERYWHERE = {b"%d" % number for number in range(64)}
"""Keys that lie in all shards, of nobody who visits."""
START = datetime(2026, 1, 1, tzinfo=UTC)
SOURCES = [SourcePartition(0, bytes(16)), SourcePartition(2, bytes(16)), SourcePartition(5, bytes([1]) * 16)]


class Visit(Event):
    """Somebody was somewhere."""

    who: int | None
    at: datetime
    amount: float


visits = Stream("visits", Visit, event_time="at", key="who", lateness="1m")
Batch = dict[int, list[tuple[int | None, int, int, float]]]
"""By index of a source: visitor, minutes from the batch's time to the record and to the event, amount."""
RECORD = st.tuples(
    st.integers(0, 30) | st.none(), st.integers(-20, 20), st.integers(-20, 20), st.sampled_from([0.0, 1.0, 2.5, -3.0])
)
BATCHES = st.lists(st.dictionaries(st.integers(0, 2), st.lists(RECORD, min_size=1, max_size=40)), max_size=6)


def view_of(clock: Any) -> FeatureView:
    """Every part of folding: several windows, a filter, a sketch, rows that a view leaves out."""
    features: dict[str, Aggregate] = {
        "n": Count(),
        "amount": Sum("amount", where=col("amount") > 0),
        "last": Last("amount"),
    }
    return FeatureView(
        "visitor",
        Entity("visitor", keys={"who": int}),
        visits,
        ["10m", "1h"],
        {**features, "newest": LastN("amount", 2)},
        where=col("amount") != 1.0,
        clock=clock,
    )


class Side:
    """A worker's views over a store of its own."""

    def __init__(self, view: FeatureView, shards: int, *, together: bool) -> None:
        self.store, self.together = MemoryOnlineStore(lambda: 0, shards=shards), together
        memory = ViewMemory(view.spec, self.store) if together else None
        self.keys = EVERYWHERE
        self.views = [ViewPartition(view.spec, source, self.store, memory) for source in SOURCES]
        for owned in self.views:
            owned.acquire(bytes(16), len(SOURCES))

    def fold(self, rows: LoggedRows, ends: dict[int, int]) -> None:
        """Fold and write; the rows are of the sources whose indexes are in ``ends``."""
        views = [self.views[index] for index in ends]
        if self.together:
            writes = fold_together(views, rows, list(ends.values()))
        else:
            parts = [rows.only([view.source.partition]) for view in views]
            writes = [view.fold(part, end) for view, part, end in zip(views, parts, ends.values(), strict=True)]
        for view, of in zip(views, writes, strict=True):
            assert all(self.store.write(of))
            for write in of:
                view.applied(write)
                self.keys = self.keys.union(write.keys)
                assert {shard_of(key, self.store.shards) for key in write.keys} <= {write.shard}

    def fold_in_vain(self, index: int, rows: LoggedRows, end: int) -> None:
        """Fold the rows of one partition, have the writes refused, and acquire again."""
        self.state()
        self.views[index].fold(rows.only([SOURCES[index].partition]), end)
        self.views[index].acquire(bytes(16), len(SOURCES))

    def state(self) -> tuple[Any, Any]:
        """All that the store holds, with the cursors brought up."""
        for view in self.views:
            level = view.level()
            assert all(self.store.write(level))
            for write in level:
                view.applied(write)
        (found,) = self.store.look_up([(self.views[0].view, sorted(self.keys))])
        assert found.snapshots.keys() == {*range(self.store.shards)}
        fields = dict(zip(sorted(self.keys), found.fields, strict=True))
        return {shard: each.cursors for shard, each in found.snapshots.items()}, fields


@settings(deadline=None, max_examples=examples(60))
@given(BATCHES, st.sampled_from([1, 4]), st.sampled_from(["wall", "stream"]), st.sets(st.integers(0, 5)))
def test_one_fold_of_all_partitions_is_a_fold_of_each(
    batches: list[Batch], shards: int, clock: str, forgotten: set[int]
) -> None:
    view, judge = view_of(clock), RecordJudge(visits)
    one, other = Side(view, shards, together=True), Side(view, shards, together=False)
    ends, clocks, accepted = [0] * len(SOURCES), [NO_CLOCK] * len(SOURCES), 0
    for number, batch in enumerate(batches):
        if number in forgotten:
            one.views[0].memory.forget()
        now = START + timedelta(minutes=30 * number)
        runs = [PartitionRun(SOURCES[index], len(rows), clocks[index]) for index, rows in batch.items()]
        events = [(who, recorded, at, amount) for rows in batch.values() for who, recorded, at, amount in rows]
        offsets = [ends[index] + place for index, rows in batch.items() for place in range(len(rows))]
        stamps = [epoch_us(now + timedelta(minutes=recorded)) for _, recorded, _, _ in events]
        values = [encode(Visit(who, now + timedelta(minutes=at), amount)) for who, _, at, amount in events]
        if not events:
            continue
        frame = judge.judge(runs, PartitionRecords(np.array(offsets), np.array(stamps), [None] * len(values), values))
        assert frame.equals(_alone(judge, runs, offsets, stamps, values))
        for index, rows in batch.items():
            ends[index] += len(rows)
            own = frame.filter(pl.col("__partition") == SOURCES[index].partition)
            clocks[index] = own["__available_at"].dt.epoch("us").item(-1)
        logged = LoggedRows.from_rows(frame, "at")
        accepted += logged.accepted.height
        one.fold_in_vain(next(iter(batch)), logged, ends[next(iter(batch))])
        for side in (one, other):
            side.fold(logged, {index: ends[index] for index in batch})
    assert one.state() == other.state()
    assert sum(owned.rows_total for owned in one.views) == accepted


def test_a_dropped_partition_takes_no_room_however_often_it_comes_back() -> None:
    view, judge = view_of("wall"), RecordJudge(visits)
    side = Side(view, 1, together=True)
    values = [encode(Visit(who, START, 2.0)) for who in range(500)]
    for index in (0, 1, 1, 1, 1):
        records = PartitionRecords(np.arange(500), np.full(500, epoch_us(START)), [None] * 500, values)
        owned = side.views[index]
        rows = LoggedRows.from_rows(judge.rows(owned.source.topic_id, owned.source.partition, records, NO_CLOCK), "at")
        owned.fold(rows, 500)
        memory = owned.memory
        assert memory.folded.slot_count <= 1_500
        if index == 1:
            owned.acquire(bytes(16), 1)
    assert memory.folded.slot_count - memory.folded.abandoned == 500 == len(memory._index[SOURCES[0]])
    side.views[0].acquire(bytes(16), 1)
    assert (memory.folded.slot_count, len(memory._table)) == (0, 0)


def _alone(
    judge: RecordJudge, runs: list[PartitionRun], offsets: list[int], stamps: list[int], values: list[bytes]
) -> pl.DataFrame:
    """The rows of each run judged by itself."""
    parts, start = [], 0
    for run in runs:
        end = start + run.count
        records = PartitionRecords(
            np.array(offsets[start:end]), np.array(stamps[start:end]), [None] * run.count, values[start:end]
        )
        parts.append(judge.rows(run.source.topic_id, run.source.partition, records, run.clock_us))
        start = end
    return pl.concat(parts)
