"""A fold of given rows answers what the event log of a worker says, whatever the rows are given as."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import (
    ApproxDistinct,
    Count,
    Entity,
    Event,
    FeatureView,
    Last,
    Lifetime,
    Mean,
    Role,
    Status,
    Stream,
    Sum,
    Table,
    col,
)
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.offline.feature_history import FeatureHistory, value_column
from headrace.features.offline.view_history import PointInTimeQueries
from headrace.streams.plane.record_judge import PartitionRecords
from headrace.streams.plane.seen_ids import SeenIds
from headrace.streams.plane.table_judge import judge_of
from headrace.testing import Record, fold
from tests.support.example_budget import examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.app.in_memory.folded_features import FoldedFeatures

START = datetime(2026, 1, 1, tzinfo=UTC)
CARDS = ["a", "b", "c"]


class Paid(Event):
    id: int
    card: str | None
    amount: float
    at: datetime


class Sent(Event):
    sender: str
    receiver: str
    amount: float
    at: datetime


class Owner(Event):
    card: str
    plan: str
    limit: float | None


paid = Stream("paid", Paid, event_time="at", key="card", unique="id", within="2h")
sent = Stream("sent", Sent, event_time="at")
owners = Table("owners", Owner, key="card")
card = Entity("card")
spending = FeatureView(
    "spending", card, paid, ["10m", "1h", Lifetime()],
    {
        "n": Count(),
        "large": Count(where=col("amount") > 2.0),
        "spent": Sum("amount"),
        "mean": Mean("twice"),
        "last": Last("amount"),
        "kinds": ApproxDistinct("amount"),
    },
    where=col("amount") != 3.0, derived={"twice": col("amount") * 2},
)  # fmt: skip
balance = FeatureView(
    "balance", card, [Role(paid, amount=-col("amount")), Role(sent, card="receiver"), Role(sent, card="sender")],
    ["1h"], {"n": Count(), "change": Sum("amount"), "last": Last("amount")}, clock="stream",
)  # fmt: skip
owner = FeatureView("owner", card, owners, features=["plan", "limit"])


class Given(NamedTuple):
    """A row: its minute, how many minutes later it is written, and what it says."""

    minute: int
    later: int
    ident: int
    card: str | None
    other: str
    amount: float

    @property
    def at(self) -> datetime:
        return START + timedelta(minutes=self.minute)

    @property
    def written(self) -> datetime:
        return self.at + timedelta(minutes=self.later)

    def paid(self) -> Paid:
        return Paid(self.ident, self.card, self.amount, self.at)

    def sent(self) -> Sent:
        return Sent(self.card or "a", self.other, self.amount, self.at)


rows = st.builds(
    Given,
    st.integers(0, 300),
    st.sampled_from([0, 0, 0, 1, 45, -4, -30]),
    st.integers(0, 40),
    st.sampled_from([*CARDS, *CARDS, None]),
    st.sampled_from(CARDS),
    st.sampled_from([0.5, 1.0, 2.5, 3.0, -4.0]),
)
times = st.lists(st.integers(0, 420), min_size=1, max_size=4, unique=True).map(
    lambda minutes: [START + timedelta(minutes=minute, seconds=30) for minute in minutes]
)


def logged(folder: str, stream: Stream, number: int, records: Sequence[tuple[datetime, Record]], cut: int) -> EventLog:
    """Write records as two batches of a worker, in the order of their timestamps."""
    log, source = EventLog(folder), SourcePartition(0, bytes([number + 1]) * 16)
    judge, writer = judge_of(stream), LogWriter(log, stream)
    ordered = sorted(records, key=lambda pair: pair[0])
    within_us = stream.spec.within_us
    seen = SeenIds(within_us) if isinstance(within_us, int) else None
    clock, begin = NO_CLOCK, 0
    for batch in (ordered[:cut], ordered[cut:]):
        if batch:
            stamps = np.array([epoch_us(at) for at, _ in batch])
            keys = [each.key if isinstance(each.key, bytes) else None for _, each in batch]
            values = [each.value if isinstance(each.value, bytes) else None for _, each in batch]
            offsets = np.arange(begin, begin + len(batch))
            frame = judge.rows(source.topic_id, 0, PartitionRecords(offsets, stamps, keys, values), clock, seen)
            clock = int(str(frame.get_column("__available_at").to_physical().max()))
            writer.append(frame, {source: begin or None}, {source: begin + len(batch)})
            begin += len(batch)
    return log


def check(view: FeatureView, folder: str, found: FoldedFeatures, at: Sequence[datetime]) -> None:
    """Compare a fold with what the event log says was known at each time."""
    history = FeatureHistory([view.spec], EventLog(folder))
    history.refresh()
    of = history.view(view.spec)
    keys = pl.DataFrame([{"card": name} for name in CARDS for _ in at])
    at_us = np.array([epoch_us(time) for _ in CARDS for time in at])
    offsets = of.known_at(at_us, 0)
    values = of.values(PointInTimeQueries(keys, at_us, offsets, of.sources))
    outside = of.out_of_range(at_us, offsets)
    for (name, kind), (column, present) in zip(view.spec.column_kinds.items(), values, strict=True):
        wanted = value_column(name, kind, column, ~present | outside).to_list()
        for mine, other in zip(found.column(name), wanted, strict=True):
            assert mine == other or abs(mine - other) <= 1e-9 * 1_000, name
    for name in CARDS:
        for time in at:
            status = found.of(card=name, at=time).status
            if status is Status.MISSING:
                assert not any(found.of(card=name, at=time)[each] for each in view.spec.columns)


@settings(deadline=None, max_examples=examples(15))
@given(st.lists(rows, min_size=1, max_size=40), times, st.integers(0, 40), st.randoms(use_true_random=False))
def test_a_fold_of_records_is_what_the_event_log_says(
    given: list[Given], at: list[datetime], cut: int, random: Any
) -> None:
    everyone = [{"card": name} for name in CARDS]
    as_events = [Record(row.paid(), row.written) for row in given]
    as_dicts = [
        Record({name: getattr(row.paid(), name) for name in Paid.__struct_fields__}, row.written) for row in given
    ]
    as_bytes = [Record(encode(row.paid()), row.written) for row in given]
    mixed = [random.choice(pair) for pair in zip(as_events, as_dicts, strict=True)]
    of_sent = [Record(row.sent(), row.written) for row in given]
    with tempfile.TemporaryDirectory() as folder:
        logged(folder, paid, 0, [(row.written, each) for row, each in zip(given, as_bytes, strict=True)], cut)
        of_sends = [Record(encode(row.sent())) for row in given]
        logged(folder, sent, 1, [(row.written, each) for row, each in zip(given, of_sends, strict=True)], cut)
        for form in (as_events, as_bytes, mixed):
            found = fold(spending, form, at=at, entity=everyone, rejected="keep")
            check(spending, folder, found, at)
        both = fold(balance, {"paid": mixed, "sent": of_sent}, at=at, entity=everyone, rejected="keep")
        check(balance, folder, both, at)
    reasons = [each.reason for each in found.rejected]
    assert reasons == [
        "missing_key" if row.card is None else "future" for row in given if row.card is None or row.later < -5
    ]
    assert sum(found.verdicts.values()) == len(given)


@settings(deadline=None, max_examples=examples(8))
@given(st.lists(rows, min_size=1, max_size=30), times)
def test_a_fold_of_a_table_of_rows_is_what_the_event_log_says(given: list[Given], at: list[datetime]) -> None:
    everyone = [{"card": name} for name in CARDS]
    table = pl.DataFrame(
        [(row.ident, row.card, row.amount, row.at) for row in given],
        schema=["id", "card", "amount", "at"], orient="row", schema_overrides={"card": pl.String},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        logged(folder, paid, 0, [(row.at, Record(encode(row.paid()))) for row in given], 10)
        for form in (table, table.to_pandas(), table.to_arrow(), table.to_dicts()):
            found = fold(spending, form, at=at, entity=everyone, rejected="keep")
            check(spending, folder, found, at)


@settings(deadline=None, max_examples=examples(8))
@given(st.lists(st.tuples(rows, st.booleans()), min_size=1, max_size=30), times)
def test_a_fold_of_a_table_is_what_the_event_log_says(given: list[tuple[Given, bool]], at: list[datetime]) -> None:
    everyone = [{"card": name} for name in CARDS]
    records, written = [], []
    for row, is_delete in given:
        key = owners.table_keys.written([row.other])
        version = Owner(row.other, "gold" if row.ident % 2 else "free", row.amount)
        records.append(Record(None, row.at, {"card": row.other}) if is_delete else Record(version, row.at))
        written.append((row.at, Record(None if is_delete else encode(version), key=key)))
    with tempfile.TemporaryDirectory() as folder:
        logged(folder, owners, 2, written, 10)
        check(owner, folder, fold(owner, records, at=at, entity=everyone), at)
