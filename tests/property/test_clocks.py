"""Whatever times records claim, and however availability and age are told: in range is the law, and nothing else.

Judge, fold, online store and look-up together, against a naive loop over the accepted rows; between batches the store
is scavenged.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.base.times import epoch_us, utc_datetime, wall_clock
from headrace.bus.event import Event, encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import AfterEventTime, Stream, after
from headrace.features.definitions.aggregates import Aggregate, Count, Last, Sum
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient, Status
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition, reach
from headrace.streams.worker import publish_definitions
from tests.support.every_aggregate import same
from tests.support.example_budget import examples
from tests.support.naive import naive_values

START = datetime(2013, 1, 1, tzinfo=UTC)
MINUTE = 60_000_000
SOURCES = [SourcePartition(partition, bytes([5]) * 16) for partition in range(2)]
KEYS = ["a", "b"]


class Sale(Event):
    """Two times that need not agree."""

    shop: str
    at: datetime
    seen: datetime
    amount: int


class Scene:
    """A stream, its view, a worker and a store in memory."""

    def __init__(self, available_at: str | AfterEventTime, clock: Any, history: str) -> None:
        stream = Stream("sales", Sale, event_time="at", tolerance="10m", available_at=available_at)
        features: dict[str, Aggregate] = {"n": Count(), "amount": Sum("amount"), "last": Last("amount")}
        view = FeatureView("shop", Entity("shop"), stream, ["10m", "1h"], features, history=history, clock=clock)
        self.spec, self.store, self.judge = view.spec, MemoryOnlineStore(), RecordJudge(stream)
        publish_definitions(self.store, [view], [FeatureService("risk", [view])])
        self.views = [ViewPartition(view.spec, source, self.store) for source in SOURCES]
        self.reach = {self.views[0].view: reach(view.spec)}
        self.available = [NO_CLOCK, NO_CLOCK]
        self.rows: list[dict[str, Any]] = []
        for owned in self.views:
            owned.acquire(b"w" * 16, len(SOURCES))

    def fold(self, partition: int, batch: list[tuple[int, Sale]]) -> None:
        """Records of (timestamp, event)."""
        view = self.views[partition]
        offsets = view.position + np.arange(len(batch))
        times = np.array([record_us for record_us, _ in batch], np.int64)
        records = PartitionRecords(offsets, times, [None] * len(batch), [encode(event) for _, event in batch])
        rows = self.judge.rows(bytes([5]) * 16, partition, records, self.available[partition])
        self.available[partition] = rows["__available_at"].dt.epoch("us").item(-1)
        for write in view.fold(LoggedRows.from_rows(rows, "at"), int(offsets[-1]) + 1):
            assert self.store.write([write]) == [True]
            view.applied(write)
        for (_, event), offset, verdict in zip(batch, offsets.tolist(), rows["__verdict"], strict=True):
            if verdict == "accepted":
                of_event = {"shop": event.shop, "amount": event.amount}
                self.rows.append(
                    {"partition": partition, "offset": offset, "time_us": epoch_us(event.at), "event": of_event}
                )

    @property
    def clock(self) -> int:
        return max(view.clock for view in self.views)

    def check(self, as_of_us: int | None, own_us: int) -> None:
        found = FeatureClient(self.store, clock=lambda: own_us).get(
            "risk", [{"shop": key} for key in KEYS], as_of=None if as_of_us is None else utc_datetime(as_of_us)
        )
        is_credible = self.clock <= own_us + 10 * MINUTE  # the stream's tolerance
        now_us = max(own_us, self.clock) if is_credible else own_us
        at_us = now_us if as_of_us is None else as_of_us
        assert found.at == utc_datetime(at_us)
        in_range = at_us >= self.clock - self.spec.history_us
        for key, values, row in zip(KEYS, found.to_lists(), range(len(KEYS)), strict=True):
            assert (found.statuses(row)["shop"] is not Status.OUT_OF_RANGE) == in_range
            wanted = naive_values(self.spec, self.rows, (key,), at_us) if in_range else [None] * len(values)
            assert all(map(same, values, wanted)), (key, at_us, values, wanted)


def sale(raw: tuple[int, ...], at_us: int) -> Sale:
    _, _, event, seen, key, amount = raw
    record = START + timedelta(microseconds=at_us - epoch_us(START))
    return Sale(KEYS[key], record + timedelta(minutes=event), record + timedelta(minutes=seen), amount)


# 73 and 41 minutes are the lengths of the view's rings: tiles so far apart share a place.
minutes = st.sampled_from([-146, -114, -82, -73, -41, -32, 0, 9, 10, 11]) | st.integers(-150, 15)
raw_records = st.lists(
    st.tuples(
        st.integers(0, 1),  # partition
        st.sampled_from([0, 0, 41, 73, -20]) | st.integers(-20, 90),  # minutes from the last record of all to this
        minutes,  # from the record to its event, beyond the tolerance too
        st.just(-146) | minutes,  # … and to when it claims to have been seen
        st.integers(0, 1),
        st.integers(-9, 9),
    ),
    min_size=1,
    max_size=25,
)


AGES = [(clock, history) for clock in ("wall", "stream") for history in ("0s", "25m")]


@pytest.mark.parametrize("ages", AGES, ids=" ".join)
@pytest.mark.parametrize("available_at", ["record", "seen", after("7m")])
@settings(max_examples=examples(20), deadline=None)
@given(raw=raw_records, size=st.integers(1, 6), data=st.data())
def test_values_in_range_follow_the_law_and_values_out_of_range_are_missing(
    available_at: str | AfterEventTime,
    ages: tuple[str, str],
    raw: list[tuple[int, ...]],
    size: int,
    data: st.DataObject,
) -> None:
    scene, record_us = Scene(available_at, *ages), epoch_us(START)
    for start in range(0, len(raw), size):
        batches: list[list[tuple[int, Sale]]] = [[], []]
        for one in raw[start : start + size]:
            record_us += one[1] * MINUTE
            batches[one[0]].append((record_us, sale(one, record_us)))
        for partition, batch in enumerate(batches):
            if batch:
                scene.fold(partition, batch)
        if data.draw(st.booleans()):
            scene.store.scavenge(scene.reach, 0)
        away = data.draw(st.integers(0, 80) | minutes) * MINUTE
        scene.check(None, scene.clock + away)
        known = scene.clock > NO_CLOCK  # without an accepted row the clock is no time that a person can ask for
        scene.check((scene.clock if known else epoch_us(START)) + away, 0)
        of_streams = FeatureClient(scene.store, clock="stream").get("risk", {"shop": "a"})
        assert of_streams.at == utc_datetime(scene.clock if known else 0)


def test_an_event_long_after_it_was_available_would_overrun_the_ring_and_is_rejected() -> None:
    scene, record_us = Scene("seen", "wall", "0s"), epoch_us(START)
    for event in (-146, -146 + 41, -146 + 73, -136, -135):  # minutes; all claim to have been seen at -146
        scene.fold(0, [(record_us, sale((0, 0, event, -146, 0, 1), record_us))])
    assert [(row["time_us"] - record_us) // MINUTE for row in scene.rows] == [-146, -136]
    scene.check(scene.clock, 0)


def test_a_clock_ahead_of_the_wall_does_not_move_the_stream_clock() -> None:
    scene, of_history, ahead = Scene("record", "wall", "0s"), epoch_us(START), wall_clock() + 23 * 60 * MINUTE
    client = FeatureClient(scene.store, clock="stream")
    scene.fold(0, [(of_history, sale((0, 0, 0, 0, 0, 1), of_history))])
    assert (client.get("risk", {"shop": "a"}).at, client.get("risk", {"shop": "a"}).to_lists()[0][0]) == (START, 1)
    scene.fold(1, [(ahead, sale((0, 0, 0, 0, 0, 1), ahead))])
    found = client.get("risk", {"shop": "a"})
    assert (found.at, found.statuses()["shop"]) == (START, Status.OUT_OF_RANGE)
    assert set(found.to_lists()[0]) == {None}


def test_the_stream_clock_is_the_walls_if_all_clocks_are_ahead_of_it() -> None:
    scene, before = Scene("record", "wall", "0s"), wall_clock()
    ahead = before + 23 * 60 * MINUTE
    scene.fold(0, [(ahead, sale((0, 0, 0, 0, 0, 1), ahead))])
    found = FeatureClient(scene.store, clock="stream").get("risk", {"shop": "a"})
    assert utc_datetime(before) <= found.at <= utc_datetime(wall_clock())
    assert found.statuses()["shop"] is Status.OUT_OF_RANGE
