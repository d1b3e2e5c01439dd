"""A view of several streams and roles: live, from the log and by a naive loop it is the same, in any batch cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Count, Entity, Event, FeatureView, First, Last, LastN, Max, Mean, Role, Stream, Sum, col
from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.definitions.service import FeatureService
from headrace.features.kernel.field import unpack
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory
from headrace.features.online.entity_key import serializer
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient, Status
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_memory import ViewMemory
from headrace.streams.views.view_partition import ViewPartition, fold_together
from headrace.streams.worker import publish_definitions
from tests.support.example_budget import examples
from tests.support.naive import naive_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

START = datetime(2026, 1, 1, tzinfo=UTC)


class Paid(Event):
    """A card pays."""

    card: str
    amount: float
    at: datetime


class Transferred(Event):
    """A card sends to another one, which may be unknown, or itself; it arrives later, or never."""

    sender: str
    receiver: str | None
    amount: float
    sent_at: datetime
    arrived_at: datetime | None


paid = Stream("paid", Paid, event_time="at", tolerance="5m")
transferred = Stream("transferred", Transferred, event_time="sent_at", tolerance="5m")
view = FeatureView(
    "card",
    entity=Entity("card", str),
    source=[
        Role(paid, amount=-col("amount")),
        Role(transferred, card="sender", amount=-col("amount")),
        Role(transferred, card="receiver", event_time="arrived_at"),
    ],
    windows=["10m", "1h"],
    derived={"twice": col("amount") + col("amount")},
    where=col("amount") != 3.0,
    features={
        "n": Count(),
        "change": Sum("amount"),
        "in": Sum("amount", where=col("amount") > 0),
        "mean": Mean("twice"),
        "most": Max("amount"),
        "first": First("amount"),
        "last": Last("amount"),
        "newest": LastN("amount", 3),
    },
    history="1h",
)
NAMES = {"paid": paid, "transferred": transferred}
SOURCES = {
    topic: [SourcePartition(number, bytes([first]) * 16) for number in range(2)]
    for topic, first in (("transferred", 1), ("paid", 2))
}
RANKED = sorted(source for sources in SOURCES.values() for source in sources)
CARDS = ["a", "b", "c"]


class Sent(NamedTuple):
    """A record of one of the topics; minutes from the start to its timestamp, and from there to its event times."""

    topic: str
    partition: int
    one: str
    other: str | None
    amount: float
    after: int
    at: int
    arrived: int | None

    def event(self, now: datetime) -> Event:
        """The event, in a record of this time."""
        at = now + timedelta(minutes=self.at)
        if self.topic == "paid":
            return Paid(self.one, self.amount, at)
        arrived = None if self.arrived is None else now + timedelta(minutes=self.arrived)
        return Transferred(self.one, self.other, self.amount, at, arrived)


sent = st.builds(
    Sent,
    st.sampled_from(["paid", "transferred"]),
    st.integers(0, 1),
    st.sampled_from(CARDS),
    st.sampled_from([*CARDS, None]),
    st.sampled_from([0.0, 1.0, 2.5, 3.0, -4.0]),
    st.sampled_from([0, 1, 7, -3, 30]),
    st.sampled_from([0, 0, -5, 4, -90]),
    st.sampled_from([None, 0, 0, -5, 4, 200]),
)


class Roles:
    """What the naive loop makes of records: one row for each role."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def take(self, record: Sent, source: SourcePartition, offset: int, now: datetime, available: datetime) -> None:
        """Add the rows of one record."""
        event, rank = record.event(now), RANKED.index(source)
        at = now + timedelta(minutes=record.at)
        roles = [(at, record.one, -record.amount)]
        if isinstance(event, Transferred) and event.arrived_at is not None and event.receiver is not None:
            roles += [(event.arrived_at, event.receiver, record.amount)] * (
                event.arrived_at <= available + timedelta(minutes=5)
            )
        for role, (time, card, amount) in enumerate(roles):
            place = {"time_us": epoch_us(time), "partition": rank, "offset": offset * 10 + role}
            self.rows.append({**place, "event": {"card": card, "amount": amount}})

    def below(self, offsets: Sequence[int]) -> list[dict[str, Any]]:
        """Those below V, which has one offset for each of the ranked sources."""
        return [row for row in self.rows if row["offset"] // 10 < offsets[row["partition"]]]


class Side:
    """Workers of both topics over one store, which may start again."""

    def __init__(self, shards: int) -> None:
        self.store = MemoryOnlineStore(lambda: 1, shards=shards)
        publish_definitions(self.store, [view], [FeatureService("risk", [view])])
        self.views: dict[SourcePartition, ViewPartition] = {}
        self.start(RANKED)

    def start(self, sources: Sequence[SourcePartition]) -> None:
        """Acquire partitions with a new memory, as a new worker does."""
        memory = ViewMemory(view.spec, self.store)
        for topic, own in SOURCES.items():
            self.views |= {s: ViewPartition(view.spec, s, self.store, memory, topic=topic) for s in own if s in sources}
        self.acquire(sources)

    def acquire(self, sources: Sequence[SourcePartition]) -> None:
        """Acquire partitions again."""
        for source in sources:
            self.views[source].acquire(bytes(16), 2)

    def fold_together(self, topic: str, logged: Logged) -> None:
        """Fold what is new of all partitions of a topic in one fold, the last partition first."""
        sources = SOURCES[topic][::-1]
        views = [self.views[source] for source in sources]
        new = [
            logged.of(source, topic).filter(pl.col("__offset") >= own.position)
            for source, own in zip(sources, views, strict=True)
        ]
        rows = LoggedRows.from_rows(pl.concat(new), NAMES[topic].event_time)
        for own, writes in zip(views, fold_together(views, rows, [logged.ends[s] for s in sources]), strict=True):
            for write in [*writes, *own.level()]:
                if write.before == own.cursors[write.shard]:
                    assert self.store.write([write]) == [True]
                    own.applied(write)

    def fold(self, source: SourcePartition, rows: pl.DataFrame, end: int, event_time: str) -> None:
        """Fold rows of one partition from its view's position on, and write."""
        own = self.views[source]
        for write in own.fold(LoggedRows.from_rows(rows, event_time), end):
            assert self.store.write([write]) == [True]
            own.applied(write)
        for write in own.level():
            assert self.store.write([write]) == [True]
            own.applied(write)


class Logged:
    """The rows of both topics, judged as they came."""

    def __init__(self) -> None:
        self.rows = {
            topic: RecordJudge(stream).rows(bytes(16), 0, _records([], [], 0), 0) for topic, stream in NAMES.items()
        }
        self.ends = dict.fromkeys(RANKED, 0)
        self.clocks = dict.fromkeys(RANKED, NO_CLOCK)
        self.naive = Roles()

    def add(self, topic: str, source: SourcePartition, records: list[tuple[Sent, datetime]]) -> None:
        """Judge the next records of a partition."""
        first = self.ends[source]
        values = [encode(record.event(now)) for record, now in records]
        stamps = [epoch_us(now) for _, now in records]
        rows = RecordJudge(NAMES[topic]).rows(
            source.topic_id, source.partition, _records(values, stamps, first), self.clocks[source]
        )
        for place, (record, now) in enumerate(records):
            self.clocks[source] = max(self.clocks[source], epoch_us(now))
            self.naive.take(record, source, first + place, now, utc_datetime(self.clocks[source]))
        self.ends[source] = first + len(records)
        self.rows[topic] = pl.concat([self.rows[topic], rows])

    def of(self, source: SourcePartition, topic: str) -> pl.DataFrame:
        """The rows of one partition."""
        return self.rows[topic].filter(
            (pl.col("__partition") == source.partition) & (pl.col("__topic_id") == source.topic_id)
        )


def _records(values: list[bytes], stamps: list[int], first: int) -> PartitionRecords:
    offsets = np.arange(first, first + len(values))
    return PartitionRecords(offsets, np.array(stamps, np.int64), [None] * len(values), values)


def check(side: Side, logged: Logged, at: datetime) -> None:
    """Compare the look-up of all cards with the log and the naive loop at its own V."""
    found = FeatureClient(side.store, clock=lambda: 1).get("risk", [{"card": card} for card in CARDS], as_of=at)
    history = ViewHistory(view.spec, logged.rows, logged.ends)
    assert list(history.sources) == RANKED
    for row, card in enumerate(CARDS):
        offsets = found.offsets(row)["card"]
        below = [offsets.get(source.text, 0) for source in RANKED]  # without a cursor nothing is folded yet
        if found.statuses(row)["card"] is Status.OUT_OF_RANGE:
            continue
        wanted = naive_answers(view.spec, logged.naive.below(below), (card,), epoch_us(at))
        queries = PointInTimeQueries(
            pl.DataFrame({"card": [card]}), np.array([epoch_us(at)]), np.array([below]), history.sources
        )
        offline = [v[0].item() if there[0] else None for v, there in history.values(queries)]
        for name, live, again, (exact, slack) in zip(
            view.spec.columns, found.to_lists()[row], offline, wanted, strict=True
        ):
            if exact is None or live is None:
                assert live is exact is again, name
            else:
                assert abs(live - exact) <= slack, (name, live, exact)
                assert abs(again - exact) <= slack, (name, again, exact)


def take(side: Side, logged: Logged, topic: str, stamped: list[tuple[Sent, datetime]], event: str) -> None:
    """Log the records of a topic, and fold them: together, each partition alone, or later."""
    for source in SOURCES[topic]:
        own = [(record, now) for record, now in stamped if record.partition == source.partition]
        if own:
            logged.add(topic, source, own)
        if event != "together" and (event != "behind" or topic == "paid"):  # else the look-up's V is behind the log
            side.fold(source, logged.of(source, topic), logged.ends[source], NAMES[topic].event_time)
    if event == "together":
        side.fold_together(topic, logged)


@settings(deadline=None, max_examples=examples(25))
@given(
    st.lists(st.lists(sent, min_size=1, max_size=12), min_size=1, max_size=6),
    st.sampled_from([1, 4]),
    st.lists(st.sampled_from(["", "restart", "acquire", "behind", "together", "together"]), max_size=6),
    st.integers(0, 90),
)
def test_a_union_is_the_same_live_and_from_the_log_and_in_a_naive_loop(
    batches: list[list[Sent]], shards: int, then: list[str], minutes: int
) -> None:
    side, logged, now = Side(shards), Logged(), START
    for number, batch in enumerate(batches):
        stamped = []
        for record in batch:
            now += timedelta(minutes=record.after)
            stamped.append((record, now))
        event = then[number] if number < len(then) else ""
        if event == "restart":
            side.start(RANKED)
        if event == "acquire":
            side.acquire(RANKED[number % 4 :])
        for topic in SOURCES:
            take(side, logged, topic, [pair for pair in stamped if pair[0].topic == topic], event)
        if number % 3 == 2 or number == len(batches) - 1:
            check(side, logged, utc_datetime(max(logged.clocks.values()) + minutes * 60_000_000))


def test_a_union_is_rebuilding_until_each_of_its_topics_is_there() -> None:
    side = Side(1)
    client = FeatureClient(side.store, clock=lambda: 1)

    def status() -> Status:
        return client.get("risk", {"card": "a"}, as_of=START).statuses()["card"]

    logged = Logged()
    for topic, sources in SOURCES.items():
        assert status() is Status.REBUILDING
        for source in sources:
            logged.add(topic, source, [(Sent(topic, source.partition, "a", "b", 1.0, 0, 0, 0), START)])
            side.fold(source, logged.of(source, topic), 1, NAMES[topic].event_time)
    assert status() is Status.PRESENT
    assert sum(own.rows_total for own in side.views.values()) == 6  # a transfer counts in two roles


def test_a_union_is_stale_when_nobody_writes_the_cursors_of_one_of_its_topics() -> None:
    side, logged = Side(1), Logged()
    now_us = [1]
    side.store = MemoryOnlineStore(lambda: now_us[0])
    publish_definitions(side.store, [view], [FeatureService("risk", [view])])
    side.start(RANKED)
    client = FeatureClient(side.store, clock=lambda: 1, heartbeat_bound="10s")
    for topic, sources in SOURCES.items():
        for source in sources:
            logged.add(topic, source, [(Sent(topic, source.partition, "a", "b", 1.0, 0, 0, 0), START)])
            side.fold(source, logged.of(source, topic), 1, NAMES[topic].event_time)

    def beat(topics: Sequence[str]) -> Status:
        now_us[0] += 11_000_000
        for topic in topics:
            for source in SOURCES[topic]:
                own = side.views[source]
                (write,) = own.heartbeat()
                assert side.store.write([write]) == [True]
                own.applied(write)
        return client.get("risk", {"card": "a"}, as_of=START).statuses()["card"]

    assert beat(["paid", "transferred"]) is Status.PRESENT
    assert beat(["paid"]) is Status.STALE
    assert beat(["transferred"]) is Status.STALE
    assert beat(["paid", "transferred"]) is Status.PRESENT


@settings(deadline=None, max_examples=examples(20))
@given(st.lists(st.lists(sent, min_size=1, max_size=12), min_size=1, max_size=4), st.sampled_from([1, 4]))
def test_one_fold_of_all_partitions_of_a_topic_writes_the_fields_of_a_fold_of_each(
    batches: list[list[Sent]], shards: int
) -> None:
    one, other, logged, now = Side(shards), Side(shards), Logged(), START
    for batch in batches:
        now += timedelta(minutes=20)
        for topic, sources in SOURCES.items():
            for source in sources:
                own = [(r, now) for r in batch if r.topic == topic and r.partition == source.partition]
                if own:
                    logged.add(topic, source, own)
                other.fold(source, logged.of(source, topic), logged.ends[source], NAMES[topic].event_time)
            one.fold_together(topic, logged)
    assert fields(one) == fields(other)


def fields(side: Side) -> list[dict[SourcePartition, list[int]]]:
    """The store's tiles by card and partition, without the positions in their headers."""
    keys = [serializer(kernel(view.spec).entity_keys)((card,)) for card in CARDS]
    (found,) = side.store.look_up([(view.spec.versioned_name, keys)])
    layout = kernel(view.spec).layout
    return [{s: [tiles.tolist() for tiles in unpack(f, layout)[1]] for s, f in own.items()} for own in found.fields]
