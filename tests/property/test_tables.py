"""A view over a table says what a plain loop over the records says: live, rebuilt, trained on and audited."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal  # noqa: TC003 - the event type reads it
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Debezium, Entity, Event, FeatureClient, FeatureView, Places, Status, Table, col
from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.event_log.columns import log_schema
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.streams.plane.record_judge import PartitionRecords, PartitionRun
from headrace.streams.plane.table_judge import judge_of
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_memory import ViewMemory
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.example_budget import examples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.event_log.readable_log import ReadableLog

START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = epoch_us(START)
SECOND_US = 1_000_000
TOLERANCE_US = 300 * SECOND_US
SOURCES = [SourcePartition(0, b"t" * 16), SourcePartition(1, b"t" * 16)]
KEYS = range(4)
"""The last one never has a row."""


class Account(Event):
    """A row."""

    id: int | None
    at: datetime
    level: int | None
    amount: float | None
    price: Annotated[Decimal, Places(2)]
    active: bool
    plan: str | None
    since: date


TABLES = {
    "upserts": Table("accounts", Account, key="id"),
    "timed": Table("accounts", Account, key="id", event_time="at"),
    "debezium": Table("accounts", Account, key="id", format=Debezium()),
}
FEATURES: Any = {
    "level": "level",
    "amount": "amount",
    "price": "price",
    "active": "active",
    "is_large": col("amount").fill_null(0.0) > 1.0,
    "twice": col("doubled"),
    "plan": "plan",
    "at": "at",
    "since": "since",
}


def view_of(table: Table, *, filtered: bool) -> FeatureView:
    return FeatureView(
        "account", Entity("account", keys={"id": int}), table, features=FEATURES,
        derived={"doubled": col("level") * 2}, where=col("active") if filtered else None,
    )  # fmt: skip


class Change(NamedTuple):
    """One record: what happens to which key in which partition; seconds of its stamp and of its row."""

    partition: int
    key: int | None
    what: str
    level: int | None
    amount: float | None
    active: bool
    stamp: int
    at: int


CHANGES = st.lists(
    st.builds(
        Change,
        partition=st.sampled_from([0, 0, 1]),
        key=st.sampled_from([0, 0, 0, 1, 2, None]),
        what=st.sampled_from(["upsert", "upsert", "upsert", "delete", "tombstone", "bad"]),
        level=st.integers(-2, 2) | st.none(),
        amount=st.sampled_from([0.0, 1.5, -2.25, None]),
        active=st.booleans(),
        stamp=st.integers(-3, 3),
        at=st.sampled_from([-600, -2, -1, 0, 1, 2, 400]),
    ),
    max_size=25,
)


class Record(NamedTuple):
    """A change as the topic has it: its place, its stamp, and its bytes."""

    change: Change
    offset: int
    stamp_us: int
    key: bytes | None
    value: bytes | None


def records_of(kind: str, changes: Sequence[Change]) -> list[Record]:
    ends, found = [0, 0], []
    for number, change in enumerate(changes):
        stamp_us = START_US + (2 * number + change.stamp) * SECOND_US
        key = None if change.key is None else json.dumps({"id": change.key}).encode()
        found.append(Record(change, ends[change.partition], stamp_us, key, _value(kind, change, stamp_us)))
        ends[change.partition] += 1
    return found


def row_at(change: Change, stamp_us: int) -> int:
    return stamp_us + change.at * SECOND_US


def plan_of(change: Change) -> str | None:
    return None if change.level is None else "gold, éven more than twenty bytes"[: 11 * (change.level + 2)]


def since_of(change: Change) -> date:
    return date(1969, 12, 28) + timedelta(days=change.at % 7)


def _value(kind: str, change: Change, stamp_us: int) -> bytes | None:
    row = {
        "id": change.key, "at": utc_datetime(row_at(change, stamp_us)).isoformat(), "level": change.level,
        "amount": change.amount, "price": f"{(change.level or 0) / 4:.2f}", "active": change.active,
        "plan": plan_of(change), "since": since_of(change).isoformat(),
    }  # fmt: skip
    if change.what == "tombstone" or (change.what == "delete" and kind != "debezium"):
        return None
    if kind != "debezium":
        return b"{" if change.what == "bad" else json.dumps(row).encode()
    if change.what == "delete":
        before = {"id": change.key, "level": None} if change.active else None
        return json.dumps({"op": "d", "before": before, "after": None}).encode()
    op = "t" if change.what == "bad" else "cur"[change.at % 3]
    return json.dumps({"payload": {"op": op, "before": None, "after": None if op == "t" else row}}).encode()


# -- the plain loop -------------------------------------------------------------------------------------------------


def available(records: Sequence[Record]) -> list[int]:
    """The time at which each record was available: the largest stamp so far in its partition."""
    clocks, found = [NO_CLOCK, NO_CLOCK], []
    for record in records:
        clocks[record.change.partition] = max(clocks[record.change.partition], record.stamp_us)
        found.append(clocks[record.change.partition])
    return found


def newest_row(kind: str, records: Sequence[Record], key: int, ends: Sequence[int]) -> Record | None:
    """The newest version of a key below V, a delete among them."""
    versions = []
    for record, known_us in zip(records, available(records), strict=True):
        change = record.change
        if change.what == "bad" or change.key != key or record.offset >= ends[change.partition]:
            continue
        at_us = known_us
        if kind == "timed" and change.what == "upsert":
            at_us = row_at(change, record.stamp_us)
            if at_us > record.stamp_us + TOLERANCE_US:
                continue
        versions.append((at_us, change.partition, record.offset, record))
    return max(versions)[-1] if versions else None


def naive(kind: str, records: Sequence[Record], key: int, ends: Sequence[int], *, filtered: bool) -> list[Any]:
    found = newest_row(kind, records, key, ends)
    if found is None or found.change.what != "upsert" or (filtered and not found.change.active):
        return [None] * len(FEATURES)
    level, amount = found.change.level, found.change.amount
    twice = None if level is None else 2 * level
    at, since = utc_datetime(row_at(found.change, found.stamp_us)), since_of(found.change)
    price, is_large = float(f"{(level or 0) / 4:.2f}"), (amount or 0.0) > 1.0
    return [level, amount, price, found.change.active, is_large, twice, plan_of(found.change), at, since]


# -- the machine ----------------------------------------------------------------------------------------------------


def judged(table: Table, records: Sequence[Record], clocks: list[int]) -> pl.DataFrame:
    """The log's rows of a batch. The clocks of the partitions go on."""
    if not records:
        return pl.DataFrame(schema=log_schema(table))
    parts = [[record for record in records if record.change.partition == p] for p in range(len(SOURCES))]
    runs = [PartitionRun(SOURCES[p], len(own), clocks[p]) for p, own in enumerate(parts) if own]
    ordered = [record for own in parts for record in own]
    rows = judge_of(table).judge(
        runs,
        PartitionRecords(
            np.array([record.offset for record in ordered], np.int64),
            np.array([record.stamp_us for record in ordered], np.int64),
            [record.key for record in ordered],
            [record.value for record in ordered],
        ),
    )
    for p, own in enumerate(parts):
        clocks[p] = max([clocks[p], *(record.stamp_us for record in own)])
    return rows


class Worker:
    """Folds what the log has into its store. Its writes may be lost, and then it starts again."""

    def __init__(self, view: FeatureView, shards: int) -> None:
        self.view, self.store = view, MemoryOnlineStore(lambda: 0, shards=shards)
        publish_definitions(self.store, [view], [])
        self.start()

    def start(self) -> None:
        memory = ViewMemory(self.view.spec, self.store)
        self.owned = [ViewPartition(self.view.spec, source, self.store, memory) for source in SOURCES]
        for owned in self.owned:
            owned.acquire(bytes(16), len(SOURCES))

    def fold(self, log: pl.DataFrame, *, lost: bool) -> None:
        for number, owned in enumerate(self.owned):
            own = log.filter((pl.col("__partition") == number) & (pl.col("__offset") >= owned.position))
            end = max([owned.position, *(own["__offset"] + 1).to_list()])
            writes = owned.fold(LoggedRows.from_rows(own.select(owned.columns), owned.event_time), end)
            for write in writes[: len(writes) // 2] if lost else writes:
                assert self.store.write([write]) == [True]
                owned.applied(write)
        if not lost:
            self.level()
        else:
            self.start()

    def level(self) -> None:
        """Bring up the cursors of shards without rows, as a worker does before a flush."""
        for owned in self.owned:
            for write in owned.level():
                assert self.store.write([write]) == [True]
                owned.applied(write)


class FrameLog:
    """An event log that has these rows."""

    restarts = 0

    def __init__(self, rows: pl.DataFrame) -> None:
        self._rows = rows

    def reader(self, topic: str, columns: Sequence[str]) -> FrameLog:
        assert topic == "accounts"
        identity = ["__topic_id", "__partition", "__offset", "__verdict"]
        return FrameLog(self._rows.select(list(dict.fromkeys([*identity, *columns]))))

    def read(self, snapshot: object = None) -> pl.DataFrame:
        del snapshot
        return self._rows

    def positions(self) -> Mapping[SourcePartition, int]:
        return dict(zip(SOURCES, ends_of(self._rows), strict=True))


def ends_of(rows: pl.DataFrame) -> list[int]:
    return [rows.filter(pl.col("__partition") == number).height for number in range(len(SOURCES))]


@settings(deadline=None, max_examples=examples(60))
@given(
    CHANGES,
    st.sampled_from(sorted(TABLES)),
    st.booleans(),
    st.sampled_from([1, 4]),
    st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=5),
    st.lists(st.tuples(st.sampled_from(KEYS), st.integers(-2, 60)), min_size=1, max_size=8),
)
def test_a_table_is_what_a_plain_loop_says(  # noqa: PLR0917 - what hypothesis draws
    changes: list[Change],
    kind: str,
    filtered: bool,
    shards: int,
    cuts: list[tuple[int, bool]],
    asked: list[tuple[int, int]],
) -> None:
    table, records = TABLES[kind], records_of(kind, changes)
    view = view_of(table, filtered=filtered)
    log = live_equals_naive(view, kind, records, cuts, shards, filtered=filtered)
    assert log.sort("__partition", "__offset").equals(judged(table, records, [NO_CLOCK, NO_CLOCK]))
    history = FeatureHistory([view.spec], cast("ReadableLog", FrameLog(log)))
    history.refresh()
    trained_equals_naive(history, kind, records, asked, filtered=filtered)


def live_equals_naive(
    view: FeatureView,
    kind: str,
    records: Sequence[Record],
    cuts: Sequence[tuple[int, bool]],
    shards: int,
    *,
    filtered: bool,
) -> pl.DataFrame:
    """Fold in batches, with losses and restarts; at each cut every key is what the loop and the audit say."""
    worker, clocks, done = Worker(view, shards), [NO_CLOCK, NO_CLOCK], 0
    log = judged(cast("Table", view.source), [], clocks)
    for end, lost in [*sorted(cuts), (len(records), False)]:
        log = log.vstack(judged(cast("Table", view.source), records[done:end], clocks))
        done = max(done, min(end, len(records)))
        worker.fold(log, lost=lost)
        if lost:
            worker.fold(log, lost=False)
        served_and_audited(worker, kind, records, log, filtered=filtered)
    rebuilt = Worker(view, shards)
    rebuilt.fold(log, lost=False)
    assert served(rebuilt) == served(worker)
    return log


def served(worker: Worker) -> tuple[list[list[Any]], list[Any]]:
    at = utc_datetime(START_US + 3_600 * SECOND_US)
    found = FeatureClient(worker.store).get_views(
        worker.view.spec.versioned_name, [{"id": key} for key in KEYS], as_of=at
    )
    return found.to_lists(), [found.statuses(key)["account"] for key in KEYS]


def served_and_audited(
    worker: Worker, kind: str, records: Sequence[Record], log: pl.DataFrame, *, filtered: bool
) -> None:
    ends = ends_of(log)
    wanted = [naive(kind, records, key, ends, filtered=filtered) for key in KEYS]
    values, statuses = served(worker)
    assert values == wanted
    known = [newest_row(kind, records, key, ends) is not None for key in KEYS]
    assert statuses == [Status.PRESENT if each else Status.MISSING for each in known]
    line = json.dumps({"account": {source.text: end for source, end in zip(SOURCES, ends, strict=True)}})
    history = FeatureHistory([worker.view.spec], cast("ReadableLog", FrameLog(log)))
    history.refresh()
    at_us = np.full(len(KEYS), START_US + 3_600 * SECOND_US)
    audited = history.features(pl.DataFrame({"id": list(KEYS)}), at_us, [line] * len(KEYS))
    assert list(map(list, audited.iter_rows())) == wanted


def trained_equals_naive(
    history: FeatureHistory,
    kind: str,
    records: Sequence[Record],
    asked: Sequence[tuple[int, int]],
    *,
    filtered: bool,
) -> None:
    """A training set has the version that was available at t, minus the view's delay."""
    at_us = [START_US + second * SECOND_US for _, second in asked]
    found = history.features(pl.DataFrame({"id": [key for key, _ in asked]}), np.array(at_us))
    for values, (key, _), t_us in zip(found.iter_rows(), asked, at_us, strict=True):
        known = [record for record, since in zip(records, available(records), strict=True) if since <= t_us - 1_000]
        ends = [sum(record.change.partition == number for record in known) for number in range(len(SOURCES))]
        assert list(values) == naive(kind, records, key, ends, filtered=filtered)


def test_the_property_sees_every_kind_of_record() -> None:
    """The judge accepts, deletes and rejects what the loop thinks it does."""
    changes = [
        Change(0, 0, "upsert", 1, 1.5, active=True, stamp=0, at=0),
        Change(0, 0, "upsert", 2, 1.5, active=True, stamp=0, at=400),
        Change(0, None, "upsert", 2, 1.5, active=True, stamp=0, at=0),
        Change(0, 0, "bad", 2, 1.5, active=True, stamp=0, at=0),
        Change(0, 0, "delete", 2, 1.5, active=True, stamp=0, at=0),
        Change(0, None, "tombstone", 2, 1.5, active=True, stamp=0, at=0),
    ]
    reasons = {kind: judged(t, records_of(kind, changes), [0, 0])["__reason"].to_list() for kind, t in TABLES.items()}
    rest = ["missing_key", "decode", None, "missing_key"]
    assert reasons == {
        "upserts": [None, None, *rest],
        "timed": [None, "future", *rest],
        "debezium": [None, None, *rest],
    }
