"""Verdicts do not depend on the neighbours: any mix of payloads, hostile ones too, in any batch cut."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from headrace.base.times import epoch_us
from headrace.bus.event import Event
from headrace.bus.source_partition import NO_CLOCK
from headrace.bus.stream import Stream
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from tests.support.example_budget import examples


class Reading(Event):
    """A small event of all kinds that are checked."""

    a: int | None
    at: datetime
    s: str = ""
    many: list[int] | None = None
    seen: datetime | None = None


readings = Stream("readings", Reading, event_time="at", key="a", tolerance="1m")
JUDGE = RecordJudge(readings)
START_US = epoch_us(datetime(2020, 1, 1, tzinfo=UTC))
GOOD = b'{"a":1,"at":"2020-01-01T00:00:00Z"}'
TIMES = [
    '"2020-01-01T00:00:00Z"',
    '"2020-01-01T05:00:00.000001+02:00"',
    '"2020-01-01T00:00:00"',
    '"9999-12-31T00:00:00Z"',
]

whole = st.builds(
    lambda a, at, s, many, seen: f'{{"a":{a},"at":{at},"s":{s},"many":{many},"seen":{seen}}}'.encode(),
    st.sampled_from(["1", "null", str(2**63 - 1), str(2**63), "1.0"]),
    st.sampled_from(TIMES),
    st.sampled_from(['""', '"}\\n{"', '"\\ud800"', '"}\n{"', "null"]),
    st.sampled_from(["null", "[]", "[1,2]", f"[{-(2**63)}]", f"[{-(2**63) - 1}]", "[null]"]),
    st.sampled_from(["null", *TIMES]),
)
pieces = st.lists(
    st.sampled_from(
        [b"{", b"}", b"\n", b",", b'"', b'"a":1', b'"at":"2020-01-01T00:00:00Z"', b" ", b"\xff", b"[", b"]", b":"]
    ),
    max_size=6,
).map(b"".join)
cut = st.tuples(whole, st.integers(0, 80), st.booleans()).map(lambda c: c[0][: c[1]] if c[2] else c[0][c[1] :])
payload = st.one_of(
    st.none(),
    st.just(GOOD),
    whole,
    cut,
    pieces,
    st.lists(st.sampled_from([GOOD, b"\n", b"", b" "]), max_size=3).map(b"".join),
)


def rows(values: list[bytes | None], cuts: list[int]) -> pl.DataFrame:
    """The rows of all values, judged in batches of these sizes, the rest in one."""
    parts, start, clock = [], 0, NO_CLOCK
    for size in [*cuts, len(values)]:
        batch = values[start : start + size]
        if batch:
            offsets = np.arange(start, start + len(batch))
            records = PartitionRecords(offsets, START_US + offsets % 7 * 1_000_000, [b"k"] * len(batch), batch)
            parts.append(JUDGE.rows(bytes(16), 0, records, clock))
            clock = parts[-1]["__available_at"].dt.epoch("us").item(-1)
        start += size
    return pl.concat(parts)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(payload, min_size=1, max_size=8), st.lists(st.integers(1, 4), max_size=8))
def test_any_batch_cut_gives_the_rows_that_each_record_has_alone(values: list[bytes | None], cuts: list[int]) -> None:
    alone = rows(values, [1] * len(values))
    assert_frame_equal(rows(values, cuts), alone)
    assert_frame_equal(rows(values, []), alone)
