"""Spread over shards that may each be elsewhere, a view tells of every entity the value at the V that it names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Count, Entity, Event, FeatureService, FeatureView, Last, Lifetime, Stream, Sum, col
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.online.cursor import CursorState, is_live
from headrace.features.online.entity_key import serializer
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.features.online.store import shard_of
from headrace.serving.features import FeatureClient, Status
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.example_budget import examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.online.store import FencedWrite

START = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = SourcePartition(0, bytes(16))
WHO = range(12)


class Visit(Event):
    """Somebody was somewhere."""

    who: int
    at: datetime
    amount: int


visits = Stream("visits", Visit, event_time="at")
spending = FeatureView(
    "spending",
    entity=Entity("visitor", keys={"who": int}),
    source=visits,
    windows=[Lifetime()],
    where=col("amount") > 0,
    features={"n": Count(), "amount": Sum("amount"), "last": Last("amount")},
)
Row = tuple[int, int] | None
"""Who, and how much; None does not decode."""


class Worker:
    """Folds a log into one store, and may die of any of its writes; then the next one takes over."""

    def __init__(self, log: Sequence[Row], shards: int) -> None:
        self.log, self.end = log, 0
        self.store = MemoryOnlineStore(lambda: 1, shards=shards)
        publish_definitions(self.store, [spending], [FeatureService("risk", [spending])])
        self.client = FeatureClient(self.store, clock="stream")
        times = np.array([epoch_us(START + timedelta(seconds=n)) for n in range(len(log))], np.int64)
        values = [b"broken" if row is None else self._value(n, *row) for n, row in enumerate(log)]
        records = PartitionRecords(np.arange(len(log)), times, [None] * len(log), values)
        self.rows = RecordJudge(visits).rows(SOURCE.topic_id, 0, records, NO_CLOCK)
        self.start()

    @staticmethod
    def _value(n: int, who: int, amount: int) -> bytes:
        return encode(Visit(who, START + timedelta(seconds=n), amount))

    def start(self) -> None:
        """As a worker begins with a partition: what is behind is folded before it says that it is live."""
        self.view = ViewPartition(spending.spec, SOURCE, self.store)
        self.view.acquire(b"w" * 16, 1)
        is_behind = self.view.position < self.end
        self.apply(self.view.marked(CursorState.REBUILDING if is_behind else CursorState.LIVE))
        if is_behind:
            self.apply(self.fold(self.view.position, (self.view.position + self.end) // 2, CursorState.REBUILDING))
            self.apply(self.fold(self.view.position, self.end))

    def fold(self, start: int, end: int, state: CursorState = CursorState.LIVE) -> list[FencedWrite]:
        return self.view.fold(LoggedRows.from_rows(self.rows.slice(start, end - start), "at"), end, state)

    def apply(self, writes: Sequence[FencedWrite]) -> None:
        assert self.store.write(writes) == [True] * len(writes)
        for write in writes:
            self.view.applied(write)

    def batch(self, rows: int, survives: set[int] | None) -> None:
        """Fold some rows. ``survives``: fail, when only the writes to these shards are applied, give up, and die."""
        start, self.end = self.end, min(self.end + rows, len(self.log))
        if start == self.end:
            return
        writes = self.fold(start, self.end)
        if survives is None:
            self.apply(writes)
            return
        self.store.write([write for write in writes if write.shard in survives])
        self.check()
        self.store.write([*self.view.level(), *self.view.heartbeat()])  # refused where the fence is another by now
        self.check()
        self.start()

    def check(self) -> None:
        """What a look-up says of everybody is what a loop over the rows below V says."""
        found = self.client.get("risk", [{"who": who} for who in WHO])
        for who, values in zip(WHO, found.to_lists(), strict=True):
            below = found.offsets(who)["spending"].get(SOURCE.text, 0)
            assert below <= self.end
            own = [row[1] for row in self.log[:below] if row is not None and row[0] == who and row[1] > 0]
            assert values == [len(own), sum(own), own[-1] if own else None], (who, below)

    def check_end(self) -> None:
        """Level, it is all there, each row counted once."""
        self.apply(self.view.level())
        assert self.view.level() == []
        self.check()
        (cursor,) = self.store.cursors([self.view.view])[0].values()
        accepted = [row for row in self.log[: self.end] if row is not None]
        assert (cursor.next_offset, cursor.rows_total) == (self.end, len(accepted))
        assert is_live({SOURCE: cursor})
        assert cursor.clock == max(epoch_us(START + timedelta(seconds=self.end - 1)), NO_CLOCK)
        found = self.client.get("risk", [{"who": who} for who in WHO])
        assert set(found.views[0].statuses) <= {Status.PRESENT, Status.MISSING}
        assert {of_row[SOURCE.text] for of_row in found.views[0].offsets} == {self.end}


row = st.one_of(st.tuples(st.sampled_from(WHO), st.integers(-2, 9)), st.tuples(st.just(3), st.just(1)), st.none())
steps = st.one_of(
    st.tuples(st.just("batch"), st.integers(1, 9), st.none()),
    st.tuples(st.just("batch"), st.integers(1, 9), st.sets(st.integers(0, 4))),
    st.sampled_from([("level", 0, None), ("beat", 0, None), ("forget", 0, None), ("die", 0, None)]),
)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(row, min_size=1, max_size=40), st.lists(steps, max_size=12), st.sampled_from([1, 2, 5]))
def test_values_of_each_shard_follow_the_shards_own_offsets(
    log: list[Row], does: list[tuple[str, int, set[int] | None]], shards: int
) -> None:
    worker = Worker(log, shards)
    for what, rows, survives in does:
        match what:
            case "batch":
                worker.batch(rows, survives)
            case "level":
                worker.apply(worker.view.level())
            case "beat":
                worker.apply(worker.view.heartbeat())
            case "forget":
                worker.view.memory.forget()
            case _:
                worker.start()
        worker.check()
    if worker.end:
        worker.check_end()


def test_a_shard_that_nothing_came_for_is_not_written_and_follows_with_the_next_heartbeat() -> None:
    worker = Worker([(3, 1)] * 4, 64)
    writes = worker.fold(0, 3)
    assert len(writes) == 1
    worker.apply(writes)
    worker.end = 3
    assert worker.store.cursors([worker.view.view])[0][SOURCE].next_offset == 0
    assert len(worker.view.level()) == 63
    worker.apply(worker.view.heartbeat())
    worker.check_end()


def test_rows_that_a_view_leaves_out_are_counted_once() -> None:
    """In shard 0, also when that one was behind another."""
    worker = Worker([(who, who % 3) for who in WHO] * 2, 5)
    worker.batch(len(WHO), {1, 2})
    worker.batch(len(WHO), None)
    worker.check_end()


def test_a_shard_that_is_ahead_of_the_log_stays_there() -> None:
    """As when the log was not flushed before a crash: rows up to its cursor are left out when they come again."""
    worker = Worker([(who, 1) for who in WHO] * 2, 5)
    worker.batch(len(WHO), None)
    ahead = shard_of(serializer(worker.view.memory.kernel.entity_keys)((WHO[0],)), 5)
    worker.store.write([write for write in worker.fold(12, 24) if write.shard == ahead])
    worker.end = 18
    worker.start()
    assert worker.view.cursors[ahead].next_offset == 24
    assert worker.view.is_live
    worker.batch(6, None)
    worker.check_end()
    worker.start()
    assert worker.view.clock == epoch_us(START + timedelta(seconds=23))
