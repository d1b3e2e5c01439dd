"""A table whose earlier versions come from a file says what it says if all come by the topic, and a plain loop.

The file is shuffled, in any form; rows are deleted in it and on the topic. Look-ups and training sets are compared.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace import Entity, Event, FeatureClient, FeatureView, Table, col
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import SourcePartition
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.history_import import HistoryImport, ImportOptions
from headrace.streams.imports.source_file import find_files
from headrace.streams.plane.record_judge import PartitionRecords
from headrace.streams.plane.table_judge import judge_of
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.example_budget import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pytest

T0 = datetime(2024, 1, 1, tzinfo=UTC)
END = T0 + timedelta(minutes=600)
TOPIC = SourcePartition(0, b"k" * 16)
KEYS = (1, 2)


class Account(Event):
    id: int
    level: int | None
    at: datetime


TABLES = {
    "upserts": Table("accounts", Account, key="id"),
    "timed": Table("accounts", Account, key="id", event_time="at"),
}
VIEWS = {
    kind: FeatureView(
        "account", Entity("account", keys={"id": int}), table, features={"level": "level", "next": col("level") + 1}
    )
    for kind, table in TABLES.items()
}


class Version(NamedTuple):
    """A version of a row, when it arrived, and whether it takes the row away."""

    row: Account
    arrived: datetime
    is_deleted: bool


def version(key: int, level: int | None, minute: int, delay: int, deleted: str) -> Version:
    arrived = T0 + timedelta(minutes=minute, seconds=30)
    at = arrived - timedelta(minutes=delay, microseconds=minute + 1)  # no two times are equal
    return Version(Account(key, level, at), arrived, deleted == "deleted")


versions = st.lists(
    st.builds(
        version, st.sampled_from(KEYS), st.integers(-9, 9) | st.none(), st.integers(0, 400),
        st.sampled_from([0, 1, 7, 90]), st.sampled_from(["there", "there", "deleted"]),
    ),
    min_size=1, max_size=20, unique_by=lambda each: each.arrived,
)  # fmt: skip


@given(
    versions, st.sampled_from(sorted(TABLES)), st.tuples(st.floats(0, 1), st.sampled_from(["parquet", "csv", "jsonl"])),
    st.randoms(use_true_random=False), st.lists(st.integers(0, 600), min_size=1, max_size=6),
)  # fmt: skip
@settings(
    max_examples=examples(20), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
def test_versions_from_a_file_count_as_they_do_from_the_topic(  # noqa: PLR0917 - what hypothesis draws
    tmp_path_factory: pytest.TempPathFactory, given_: list[Version], kind: str, how: tuple[float, str], random: Any,
    minutes: list[int],
) -> None:  # fmt: skip
    share, form = how
    found = sorted(given_, key=lambda each: each.arrived)
    boundary = found[min(int(share * len(found)), len(found) - 1)].arrived
    folder = tmp_path_factory.mktemp("import")
    by_topic = logged(EventLog(folder / "topic"), kind, found)
    both = logged(EventLog(folder / "both"), kind, [each for each in found if each.arrived >= boundary])
    load(both, kind, folder, random.sample(found, len(found)), form, boundary)

    assert compared(both.read("accounts")).equals(compared(by_topic.read("accounts")))
    wanted = [naive(kind, found, T0 + timedelta(minutes=minute)) for minute in minutes]
    assert trained(by_topic, kind, minutes) == trained(both, kind, minutes) == wanted
    assert look_ups(by_topic, kind) == look_ups(both, kind) == naive(kind, found, None)


def logged(log: EventLog, kind: str, found: Sequence[Version]) -> EventLog:
    """The versions as a worker logs them from the topic."""
    times = np.array([epoch_us(each.arrived) for each in found], np.int64)
    keys = [msgspec.json.encode({"id": each.row.id}) for each in found]
    values = [None if each.is_deleted else encode(each.row) for each in found]
    rows = judge_of(TABLES[kind]).rows(
        TOPIC.topic_id, 0, PartitionRecords(np.arange(len(found)), times, keys, values), 0
    )
    LogWriter(log, TABLES[kind]).append(rows, {TOPIC: None}, {TOPIC: len(found)})
    return log


def load(  # noqa: PLR0917 - one call site
    log: EventLog, kind: str, folder: Path, found: Sequence[Version], form: str, boundary: datetime
) -> None:
    """The versions as a file has them, up to the boundary."""
    rows = [
        {"id": r.id, "level": r.level, "at": r.at, "arrived": arrived, "gone": deleted or None}
        for r, arrived, deleted in found
    ]
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col("level").cast(pl.Int64),
        pl.col("gone").cast(pl.Boolean),
        pl.col("at", "arrived").dt.convert_time_zone("UTC"),
    )
    texts = frame.with_columns(pl.col("at", "arrived").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
    file = folder / f"accounts.{form}"
    write: dict[str, Any] = {"parquet": frame.write_parquet, "csv": texts.write_csv, "jsonl": texts.write_ndjson}
    write[form](file)
    options = ImportOptions(Availability.of(TABLES[kind], "arrived"), epoch_us(boundary), deleted="gone")
    HistoryImport(log, TABLES[kind], folder / "spool", options, _silent).run(find_files([str(file)]), 0)


@contextmanager
def _silent(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def compared(rows: pl.DataFrame) -> pl.DataFrame:
    """What the log says of the rows, but for their places."""
    own = ["__available_at", "__verdict", "__op", "id", "level", "at"]
    return rows.select(own).sort("__available_at")


def trained(log: EventLog, kind: str, minutes: Sequence[int]) -> list[list[list[Any]]]:
    """The features of a training set: at each time those of both keys, from what had arrived by then."""
    history = FeatureHistory([VIEWS[kind].spec], log)
    history.refresh()
    keys = pl.DataFrame({"id": [*KEYS] * len(minutes)})
    at = np.array([epoch_us(T0 + timedelta(minutes=minute)) for minute in minutes for _ in KEYS])
    rows = [list(row) for row in history.features(keys, at).iter_rows()]
    return [rows[place : place + len(KEYS)] for place in range(0, len(rows), len(KEYS))]


def look_ups(log: EventLog, kind: str) -> list[list[Any]]:
    """What a worker folds of the whole log, looked up at its end."""
    store = MemoryOnlineStore(clock=lambda: epoch_us(T0))
    publish_definitions(store, [VIEWS[kind]], [])
    rows = log.read("accounts")
    for source in {SourcePartition(*each) for each in rows.select("__partition", "__topic_id").iter_rows()}:
        own = log.read_from("accounts", source, 0)
        part = ViewPartition(VIEWS[kind].spec, source, store)
        part.acquire(source.topic_id, 1)
        assert all(store.write(part.fold(LoggedRows.from_rows(own.select(part.columns), part.event_time), own.height)))
    client = FeatureClient(store, clock=lambda: epoch_us(END), heartbeat_bound="30d")
    return client.get_views("account", [{"id": key} for key in KEYS], as_of=END).to_lists()


def naive(kind: str, found: Sequence[Version], at: datetime | None) -> list[list[Any]]:
    """A plain loop over the versions that had arrived by t minus the view's delay; None: over all of them."""
    newest: dict[int, tuple[datetime, Version]] = {}
    for each in found:
        if at is None or each.arrived <= at - timedelta(milliseconds=1):
            made = each.arrived if kind == "upserts" or each.is_deleted else each.row.at
            if each.row.id not in newest or made > newest[each.row.id][0]:
                newest[each.row.id] = made, each
    values = []
    for key in KEYS:
        known = newest.get(key)
        level = None if known is None or known[1].is_deleted else known[1].row.level
        values.append([level, None if level is None else level + 1])
    return values
