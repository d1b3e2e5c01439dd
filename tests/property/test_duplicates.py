"""Duplicates are those of a naive loop over a partition's own records: in any batch cut, with any restarts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.base.times import epoch_us
from headrace.bus.event import Event
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane import seen_ids
from headrace.streams.plane.record_judge import PartitionRecords, PartitionRun, RecordJudge
from headrace.streams.plane.seen_ids import IdTable, OffsetBlocks, RecordIds, SeenIds, seen_before
from tests.support.example_budget import examples

if TYPE_CHECKING:
    import pytest


class Payment(Event):
    """A payment with an id that its producer may send twice."""

    payment_id: int | None
    at: datetime
    shop: str = "a"


SECOND_US = 1_000_000
START_US = epoch_us(datetime(2020, 1, 1, tzinfo=UTC))
SOURCES = [SourcePartition(number, bytes(16)) for number in range(2)]
BLOCK = 4
"""A block is so small that the few records of a test are several blocks."""
one = Stream("payments", Payment, event_time="at", key="shop", tolerance="1m", unique="payment_id", within="10s")
two = Stream(
    "payments", Payment, event_time="at", key="shop", tolerance="1m", unique=("shop", "payment_id"), within="10s"
)


class Sent(NamedTuple):
    """A record: its partition, its id (None for null), its shop, the seconds since the last one, and what is wrong."""

    partition: int
    payment_id: int | None
    shop: str
    after: int
    wrong: str


sent = st.builds(
    Sent,
    st.integers(0, 1),
    st.one_of(st.none(), st.integers(0, 3)),
    st.sampled_from("ab"),
    st.sampled_from([0, 1, 4, 5, 6, 11, -3, 1_000, -1_000]),
    st.sampled_from([""] * 6 + ["decode", "future", "key"]),
)


def value_of(record: Sent) -> bytes:
    """The bytes of a record."""
    if record.wrong == "decode":
        return b"?"
    name = "null" if record.payment_id is None else str(record.payment_id)
    shop = "null" if record.wrong == "key" else f'"{record.shop}"'
    year = 2030 if record.wrong == "future" else 2019
    return f'{{"payment_id":{name},"at":"{year}-01-01T00:00:00Z","shop":{shop}}}'.encode()


class Plane:
    """A worker without servers: it judges in batches, flushes, and at a restart has what the log has."""

    def __init__(self, stream: Stream, log: EventLog) -> None:
        self.stream, self.log, self.writer = stream, log, LogWriter(log, stream)
        self.judge = RecordJudge(stream)
        self.logged: dict[SourcePartition, int | None] = dict.fromkeys(SOURCES)
        self.buffer: list[pl.DataFrame] = []
        self.next = dict.fromkeys(SOURCES, 0)
        self.restart()

    def restart(self) -> None:
        """Go on from the log: rows that were not flushed are read again."""
        self.buffer = []
        self.next = {source: self.logged[source] or 0 for source in SOURCES}
        self.clocks = {source: self.log.clock_us("payments", source, self.next[source]) for source in SOURCES}
        self.seen = {
            source: seen_before(self.log, self.stream, source, self.next[source], self.clocks[source])
            for source in SOURCES
        }

    def flush(self) -> None:
        """Commit what is buffered."""
        if self.buffer:
            self.writer.append(pl.concat(self.buffer), self.logged, self.next)
            self.logged, self.buffer = dict(self.next), []

    def fold(self, topic: list[tuple[list[Sent], list[int]]], most: int) -> bool:
        """Judge up to so many records of each partition in one batch. Return whether there were any."""
        values: list[bytes] = []
        stamps: list[int] = []
        offsets: list[int] = []
        runs = []
        for source, (records, times) in zip(SOURCES, topic, strict=True):
            begin = self.next[source]
            end = min(begin + most, len(records))
            if begin < end:
                values += map(value_of, records[begin:end])
                stamps += times[begin:end]
                offsets += range(begin, end)
                runs.append(PartitionRun(source, end - begin, self.clocks[source], self.seen[source]))
                self.clocks[source] = max(self.clocks[source], *times[begin:end])
                self.next[source] = end
        if runs:
            given = PartitionRecords(np.array(offsets), np.array(stamps), [None] * len(values), values)
            self.buffer.append(self.judge.judge(runs, given))
        return bool(runs)


def naive(stream: Stream, records: list[Sent], times: list[int]) -> list[str]:
    """The verdict of each record of one partition."""
    verdicts, seen, clock = [], dict[object, list[tuple[int, int | None]]](), NO_CLOCK
    for offset, (record, at) in enumerate(zip(records, times, strict=True)):
        clock, block = max(clock, at), offset // BLOCK
        name = record.payment_id if stream is one else (record.shop, record.payment_id)
        if record.wrong:
            verdicts.append("rejected")
        elif record.payment_id is None:
            verdicts.append("accepted")
        else:
            before = [
                then
                for then, overtaken_in in seen.get(name, ())
                if clock - then <= 10 * SECOND_US and (overtaken_in is None or block - overtaken_in <= 1)
            ]
            verdicts.append("duplicate" if before else "accepted")
            seen.setdefault(name, []).append((clock, block if clock - at > 10 * SECOND_US else None))
    return verdicts


def topic_of(log: list[Sent]) -> list[tuple[list[Sent], list[int]]]:
    """The records of each partition with their timestamps."""
    times = (START_US + np.cumsum([record.after for record in log]) * SECOND_US).tolist()
    pairs = list(zip(log, times, strict=True))
    return [([r for r, _ in pairs if r.partition == p], [t for r, t in pairs if r.partition == p]) for p in range(2)]


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([one, two]),
    st.lists(sent, min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["", "", "flush", "restart"])), max_size=12),
)
def test_verdicts_are_those_of_a_naive_loop_in_any_batch_cut_after_any_restarts(
    tmp_path_factory: pytest.TempPathFactory, stream: Stream, log: list[Sent], turns: list[tuple[int, str]]
) -> None:
    plane, topic = Plane(stream, EventLog(tmp_path_factory.mktemp("log"))), topic_of(log)
    with patch.object(seen_ids, "BLOCK", BLOCK):
        for most, then in turns:
            plane.fold(topic, most)
            if then == "flush":
                plane.flush()
            elif then == "restart":
                plane.restart()
        while plane.fold(topic, 7):
            pass
    plane.flush()
    rows = plane.log.read("payments")
    for source, (records, times) in zip(SOURCES, topic, strict=True):
        found = rows.filter(pl.col("__partition") == source.partition)
        assert found["__verdict"].to_list() == naive(stream, records, times)
        assert (found["__reason"] == "duplicate").fill_null(value=False).to_list() == [
            verdict == "duplicate" for verdict in found["__verdict"]
        ]


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 2_000), st.integers(-5, 5_000)), max_size=300), max_size=6),
    st.sampled_from([1, 7, 900]),
)
def test_seen_ids_are_those_of_a_dict_whatever_collides(batches: list[list[tuple[int, int]]], within: int) -> None:
    """Ids that all begin at few places of the table: the last bits of the first half are the same."""
    seen, known, clock = SeenIds(within), dict[int, int](), 0
    for batch in batches:
        names = np.array([name for name, _ in batch], np.uint64)
        clocks = np.maximum.accumulate(np.array([clock, *(at for _, at in batch)]))[1:]
        found = seen.duplicates(RecordIds(names // np.uint64(3) << np.uint64(11), names, clocks))
        wanted = []
        for name, at in zip(names.tolist(), clocks.tolist(), strict=True):
            wanted.append(at - known.get(name, NO_CLOCK) <= within)
            known[name] = at
        clock = int(clocks[-1]) if len(clocks) else clock
        assert found.tolist() == wanted
        assert len(seen) <= len(known) * 10


def test_an_id_takes_between_34_and_69_bytes_and_ids_beyond_the_time_take_none() -> None:
    table, numbers = IdTable(), np.arange(50_000)
    for piece in np.array_split(numbers, 20):
        table.put(RecordIds.of(pl.DataFrame({"n": piece}), piece))
    assert len(table) == len(numbers)
    assert 34 <= table.nbytes / len(table) <= 69
    seen = SeenIds(80_000)
    for begin in range(0, 400_000, 10_000):
        clocks = np.arange(begin, begin + 10_000)
        assert not seen.duplicates(RecordIds.of(pl.DataFrame({"n": clocks}), clocks)).any()
    assert len(seen) <= 100_000


def test_a_timestamp_far_ahead_does_not_let_the_memory_grow() -> None:
    """Later records are available at that time, so the clock leaves none of them behind for ten years."""
    seen, step, ahead = SeenIds(10_000), 20_000, START_US + 10 * 365 * 86_400 * SECOND_US
    sizes, first = [], RecordIds.of(pl.DataFrame({"n": [0]}), np.array([ahead]))
    assert not seen.duplicates(first).any()
    with patch.object(seen_ids, "BLOCK", step):
        for begin in range(step, 12 * step, step):
            numbers = np.arange(begin, begin + step)
            places = OffsetBlocks.of(numbers, np.full(step, ahead), START_US + numbers, 10_000)
            ids = RecordIds.of(pl.DataFrame({"n": numbers}), np.full(step, ahead))
            assert not seen.duplicates(ids, places).any()
            assert seen.duplicates(ids, places).all()
            sizes.append(len(seen))
    assert max(sizes) <= 2 * step + 1
    assert seen.duplicates(first).all(), "the record itself is not overtaken"
