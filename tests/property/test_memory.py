"""A worker that forgets entities writes the same bytes as one that never does."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import ApproxDistinct, Count, Entity, Event, FeatureView, LastN, Lifetime, Stream, Sum
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import SourcePartition
from headrace.features.kernel.field import unpack
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.online.entity_key import serializer
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views import folded_view
from headrace.streams.views.folded_view import FoldedView
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.tile_pages import TilePages
from headrace.streams.views.tile_ring import TileRing
from headrace.streams.views.view_memory import ViewMemory, bound_memory
from headrace.streams.views.view_partition import ViewPartition
from tests.support.example_budget import examples

START = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = SourcePartition(0, bytes(16))


class Visit(Event):
    """Somebody was somewhere."""

    who: int
    place: str
    at: datetime
    amount: float


visits = Stream("visits", Visit, event_time="at")
spending = FeatureView(
    "spending",
    entity=Entity("visitor", keys={"who": int}),
    source=visits,
    windows=["10m", Lifetime()],
    features={"n": Count(), "amount": Sum("amount"), "newest": LastN("amount", 2), "places": ApproxDistinct("place")},
)
Batch = list[tuple[int, int, float, str]]


def batches_of(*, visitors: int, minutes: int, most: int) -> st.SearchStrategy[list[Batch]]:
    """Up to five batches of up to ``most`` visits each."""
    who, when, amount = st.integers(0, visitors - 1), st.integers(0, minutes), st.integers(0, 9).map(float)
    visit = st.tuples(who, when, amount, st.sampled_from("abcde"))
    return st.lists(st.lists(visit, min_size=1, max_size=most), min_size=1, max_size=5)


def fields(batches: list[Batch], forget_after: set[int]) -> list[bytes | None]:
    """What the store holds of each visitor in the end."""
    store, judge = MemoryOnlineStore(), RecordJudge(visits)
    view = ViewPartition(spending.spec, SOURCE, store)
    view.acquire(bytes(16), 1)
    offset = 0
    for number, batch in enumerate(batches):
        events = [Visit(who, place, START + timedelta(minutes=m), float(amount)) for who, m, amount, place in batch]
        offsets = np.arange(offset, offset + len(events))
        stamps = np.array([epoch_us(event.at) for event in events], np.int64)
        records = PartitionRecords(offsets, stamps, [None] * len(events), [encode(event) for event in events])
        offset += len(events)
        rows = LoggedRows.from_rows(judge.rows(SOURCE.topic_id, 0, records, 0), visits.event_time)
        for write in view.fold(rows, offset):
            assert store.write([write]) == [True]
            view.applied(write)
        if number in forget_after:
            before = view.memory.nbytes
            view.memory.forget()
            assert view.memory.nbytes <= before
    key_of = serializer(view.memory.kernel.entity_keys)
    return store.read(view.view, SOURCE, [key_of((who,)) for who in range(200)])


@settings(deadline=None, max_examples=examples(50))  # two whole workers' folds an example
@given(
    batches_of(visitors=200, minutes=30, most=120),
    st.sets(st.integers(0, 4)),
)
def test_forgetting_an_entity_changes_no_byte(batches: list[Batch], forget_after: set[int]) -> None:
    assert fields(batches, forget_after) == fields(batches, set())


@settings(deadline=None, max_examples=examples(50))
@given(
    batches_of(visitors=10, minutes=600, most=60),
    st.sets(st.integers(0, 4)),
    st.sampled_from([0, 20]),
)
def test_pages_and_rings_write_the_same_bytes(batches: list[Batch], forget_after: set[int], places: int) -> None:
    """With 20 places the tiles of ten minutes are on pages from the start, those of a lifetime are in a ring."""
    wanted = fields(batches, forget_after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folded_view, "MOST_PLACES", places)
        assert fields(batches, forget_after) == wanted


def test_a_ring_becomes_pages_when_more_tiles_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    of, minute = kernel(spending.spec), 60_000_000
    folded = FoldedView(of)
    for _ in range(3):
        folded.add()
    slots, times = np.array([0, 2, 2]), np.array([5, 7, 9]) * minute + 1_000_000 * minute
    clocks = np.full(3, int(times[-1]))
    folded.fold(slots, times, np.repeat(of.empty, 3), clocks)
    before = folded.fields(np.arange(3), np.arange(3), clocks)
    monkeypatch.setattr(folded_view, "MOST_PLACES", 3)
    folded.fold(slots[:1], times[:1], np.repeat(of.empty, 1), clocks[:1])
    assert isinstance(folded.rings[0], TilePages)
    assert folded.fields(np.arange(3), np.arange(3), clocks) == before


def test_memory_follows_the_tiles_that_exist_and_not_the_history_that_is_declared() -> None:
    """200 users with five windows and 30 days of history in four partitions, within 256 MiB and its own bound."""
    view = FeatureView(
        "history", Entity("visitor", keys={"who": int}), Stream("visits", Visit, event_time="at", tolerance="7d"),
        ["10m", "1h", "6h", "1d", "7d"], {"n": Count(), "amount": Sum("amount")}, history="30d",
    )  # fmt: skip
    judge, store = RecordJudge(visits), MemoryOnlineStore()
    rng = np.random.default_rng(1)
    tracemalloc.start()
    try:
        memory = ViewMemory(view.spec, store)
        sources = [SourcePartition(number, bytes(16)) for number in range(4)]
        owned = [ViewPartition(view.spec, source, store, memory) for source in sources]
        for part in owned:
            part.acquire(bytes(16), len(sources))
        for day in range(0, 30, 3):
            for part in owned:
                minutes = np.sort(rng.integers(day * 1440, (day + 1) * 1440, 200)).tolist()
                events = [Visit(who, "a", START + timedelta(minutes=m), 1.0) for who, m in enumerate(minutes)]
                stamps = np.array([epoch_us(event.at) for event in events])
                offsets = np.arange(day * 200, day * 200 + 200)
                records = PartitionRecords(offsets, stamps, [None] * 200, [encode(event) for event in events])
                rows = LoggedRows.from_rows(judge.rows(bytes(16), part.source.partition, records, 0), "at")
                for write in part.fold(rows, day * 200 + 200):
                    assert store.write([write]) == [True]
                    part.applied(write)
            bound_memory([memory], 64 * 2**20)
        assert memory.nbytes < 1.2 * 64 * 2**20
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 2**20
    key_of = serializer(memory.kernel.entity_keys)
    fields_of_one = store.read(owned[0].view, sources[0], [key_of((7,))])
    assert fields_of_one[0] is not None
    assert len(unpack(fields_of_one[0], memory.kernel.layout)[1][0]) == 10


def test_entities_used_least_recently_are_forgotten() -> None:
    of = kernel(spending.spec)
    folded = FoldedView(of)
    for _ in range(100):
        folded.add()
    partials = np.repeat(of.empty, 30)
    again = np.arange(60, 90)
    folded.fold(again, np.zeros(30, np.int64), partials, np.zeros(30, np.int64))
    kept = folded.forget(30)
    assert kept.tolist() == again.tolist()
    assert folded.slot_count == 30


def test_forgetting_frees_the_entries_of_sketches() -> None:
    store, judge = MemoryOnlineStore(), RecordJudge(visits)
    view = ViewPartition(spending.spec, SOURCE, store)
    view.acquire(bytes(16), 1)
    events = [Visit(who, f"{who}-{n}", START, 1.0) for who in range(100) for n in range(200)]
    stamps = np.full(len(events), epoch_us(START))
    records = PartitionRecords(
        np.arange(len(events)), stamps, [None] * len(events), [encode(event) for event in events]
    )
    rows = LoggedRows.from_rows(judge.rows(SOURCE.topic_id, 0, records, 0), visits.event_time)
    for write in view.fold(rows, len(events)):
        assert store.write([write]) == [True]
        view.applied(write)
    full = entries(view)
    for _ in range(4):
        view.memory.forget()
    assert entries(view) < 0.7 * full  # the rest is the room that every view has


def entries(view: ViewPartition) -> int:
    return sum(entries.nbytes for ring in view.memory.folded.rings for entries in ring.stored.entries)


def test_an_event_further_ahead_than_the_view_was_made_for_takes_no_living_place() -> None:
    """The tolerance of a stream may grow while an old version of a view is still folded."""
    of, minute = kernel(spending.spec), 60_000_000
    folded = FoldedView(of)
    slot = folded.add()
    (ring, _) = folded.rings
    assert isinstance(ring, TileRing)
    beyond = ring.places * of.sizes[0]  # it would take the place of the first one
    times = np.array([0, beyond]) + 1_000_000 * minute
    partials = np.repeat(of.empty, 2)
    for time in times:
        folded.fold(np.array([slot]), np.array([time]), partials[:1], np.array([times[0]]))
    field = folded.fields(np.array([slot]), np.array([2]), np.array([times[0]]))[0]
    again = FoldedView(of)
    again.add(field)
    assert again.fields(np.array([0]), np.array([2]), np.array([times[0]])) == [field]
    kept = unpack(field, of.layout)[1][0]["k"] * of.sizes[0]
    assert kept.tolist() == [time // of.sizes[0] * of.sizes[0] for time in times]
