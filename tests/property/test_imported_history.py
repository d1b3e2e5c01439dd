"""Values with history from a file are those of the same events on a topic, and of a plain loop.

They are looked up and computed for training. The file is shuffled, in any form; any part of the events comes by the
topic instead, from a boundary on.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace import Count, Entity, Event, FeatureView, Last, Lifetime, Max, Stream, Sum
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import SourcePartition
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.definitions.spec import to_document
from headrace.features.definitions.store_documents import ViewDocument
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.history_import import HistoryImport, ImportOptions
from headrace.streams.imports.source_file import find_files
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from tests.support.example_budget import examples
from tests.support.naive import naive_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pytest

T0 = datetime(2024, 1, 1, tzinfo=UTC)
TOPIC = SourcePartition(0, b"k" * 16)


class Ride(Event):
    city: str
    fare: int
    at: datetime


rides = Stream("rides", Ride, event_time="at", key="city", tolerance="0s")
view = FeatureView(
    "city", Entity("city", str), rides, ["30m", "3h", Lifetime()],
    {"n": Count(), "fares": Sum("fare"), "most": Max("fare"), "last": Last("fare")}, history="30d",
)  # fmt: skip


class Arrival(NamedTuple):
    """A ride, and when it arrived."""

    ride: Ride
    arrived: datetime


def arrival(city: str, fare: int, minute: int, delay: int) -> Arrival:
    at = T0 + timedelta(minutes=minute)
    return Arrival(Ride(city, fare, at), at + timedelta(minutes=delay))


arrivals = st.lists(
    st.builds(
        arrival, st.sampled_from("ab"), st.integers(-9, 9), st.integers(0, 400), st.sampled_from([0, 1, 7, 90])
    ),
    min_size=1, max_size=25,
    # Of rides of one time the partition decides which is the last, and a file is a partition of its own.
    unique_by=(lambda each: each.arrived, lambda each: (each.ride.city, each.ride.at)),
)  # fmt: skip


@given(
    arrivals, st.tuples(st.floats(0, 1), st.sampled_from(["parquet", "csv", "jsonl"])),
    st.randoms(use_true_random=False),
    st.lists(st.integers(0, 600), min_size=1, max_size=8),
)  # fmt: skip
@settings(
    max_examples=examples(15), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
def test_history_from_a_file_counts_as_it_does_from_the_topic(
    tmp_path_factory: pytest.TempPathFactory, given_: list[Arrival], how: tuple[float, str], random: Any,
    minutes: list[int],
) -> None:  # fmt: skip
    share, form = how
    found = sorted(given_, key=lambda each: each.arrived)
    boundary = found[min(int(share * len(found)), len(found) - 1)].arrived
    folder = tmp_path_factory.mktemp("import")
    by_topic = logged(EventLog(folder / "topic"), found)
    both = logged(EventLog(folder / "both"), [each for each in found if each.arrived >= boundary])
    shuffled = random.sample(found, len(found))
    load(both, folder, shuffled, form, boundary)

    assert answers(by_topic, minutes) == answers(both, minutes)
    assert look_ups(by_topic) == look_ups(both) == naive(found, None)
    wanted = [naive(found, T0 + timedelta(minutes=minute)) for minute in minutes]
    assert answers(both, minutes) == wanted


def logged(log: EventLog, found: Sequence[Arrival]) -> EventLog:
    """The events as a worker logs them from the topic."""
    times = np.array([epoch_us(each.arrived) for each in found], np.int64)
    values = [encode(each.ride) for each in found]
    records = PartitionRecords(np.arange(len(found)), times, [None] * len(found), values)
    writer = LogWriter(log, rides)
    if found:
        rows = RecordJudge(rides).rows(TOPIC.topic_id, 0, records, epoch_us(T0))
        writer.append(rows, {TOPIC: None}, {TOPIC: len(found)})
    return log


def load(log: EventLog, folder: Path, found: Sequence[Arrival], form: str, boundary: datetime) -> None:
    """The events as a file has them, up to the boundary."""
    rows = [{"city": r.city, "fare": r.fare, "at": r.at, "arrived": at} for r, at in found]
    frame = pl.DataFrame(rows).with_columns(pl.col("at", "arrived").dt.convert_time_zone("UTC"))
    texts = frame.with_columns(pl.col("at", "arrived").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
    file = folder / f"rides.{form}"
    if form == "parquet":
        frame.write_parquet(file)
    elif form == "csv":
        texts.write_csv(file)
    else:
        texts.write_ndjson(file)
    options = ImportOptions(Availability.of(rides, "arrived"), epoch_us(boundary))
    HistoryImport(log, rides, folder / "spool", options, _silent).run(find_files([str(file)]), 0)


@contextmanager
def _silent(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def answers(log: EventLog, minutes: Sequence[int]) -> list[list[list[Any]]]:
    """The features of a training set: at each time those of both cities, from what had arrived by then."""
    history = FeatureHistory([view.spec], log)
    history.refresh()
    keys = pl.DataFrame({"city": ["a", "b"] * len(minutes)})
    at = np.array([epoch_us(T0 + timedelta(minutes=minute)) for minute in minutes for _ in "ab"])
    rows = [list(row) for row in history.features(keys, at).iter_rows()]
    return [rows[place : place + 2] for place in range(0, len(rows), 2)]


def look_ups(log: EventLog) -> list[list[Any]]:
    """What a worker folds of the whole log, looked up at its end."""
    store = MemoryOnlineStore(clock=lambda: epoch_us(T0))
    rows = log.read("rides")
    for source in {SourcePartition(*each) for each in rows.select("__partition", "__topic_id").iter_rows()}:
        own = log.read_from("rides", source, 0)
        part = ViewPartition(view.spec, source, store)
        part.acquire(source.topic_id, 1)
        assert all(store.write(part.fold(LoggedRows.from_rows(own, "at"), own.height)))
    store.put_document(f"view:{view.spec.versioned_name}", to_document(view.spec))
    store.put_document("view:city", to_document(ViewDocument.of("city", view.version)))
    client = FeatureClient(store, clock=lambda: epoch_us(END), heartbeat_bound="30d")
    return client.get_views("city", [{"city": "a"}, {"city": "b"}], as_of=END).to_lists()


END = T0 + timedelta(minutes=600)


def naive(found: Sequence[Arrival], at: datetime | None) -> list[list[Any]]:
    """A plain loop over the events that had arrived by t minus the view's delay; None: over all of them, at the end."""
    known = [each for each in found if at is None or each.arrived <= at - timedelta(milliseconds=1)]
    rows = [
        {"event": {"city": r.city, "fare": r.fare}, "time_us": epoch_us(r.at), "partition": 0, "offset": place}
        for place, (r, _) in enumerate(known)
    ]
    values = [naive_values(view.spec, rows, (city,), epoch_us(at or END)) for city in "ab"]
    assert len(values[0]) == len(kernel(view.spec).columns)
    return values
