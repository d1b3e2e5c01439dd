"""Compaction and vacuum of the event log: no row is lost or there twice, whoever reads and writes meanwhile."""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deltalake
import polars as pl
import pyarrow.parquet as pq
import pytest

from headrace.base.times import SettableClock, utc_datetime
from headrace.errors import FencedError, SettingsError, TerminalError
from headrace.event_log import maintenance
from headrace.event_log.columns import log_schema
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.event_log.maintenance import COMPACTED, CompactionSizes, compact, table_shape, vacuum
from headrace.models import artifact, manifest
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.model_events import Published
from headrace.streams.upkeep import LogUpkeep, UpkeepSchedule
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.reproduce import Reproducer
from tests.support.orders_model import LIVE_FROM, Shop, day, model, request
from tests.support.ping_log import ONE, REBORN, ZERO, append, offsets, pings, rows, stream_with
from tests.support.waiting import until

if TYPE_CHECKING:
    from headrace.bus.source_partition import SourcePartition

ALL = CompactionSizes(least_files=2)
WEEK = timedelta(days=7)
DAY_S = 86_400


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "events")


def fill(log: EventLog, commits: int = 6) -> LogWriter:
    writer = LogWriter(log, pings)
    for end in range(1, commits + 1):
        for source in (ZERO, ONE, REBORN):
            append(writer, source, end * 7)
    return writer


def in_order(log: EventLog) -> pl.DataFrame:
    return log.read("pings")


def test_small_files_become_one_and_no_row_changes(log: EventLog) -> None:
    fill(log)
    before = in_order(log)
    assert (table_shape(log, "pings").files, table_shape(log, "pings").compacted_s) == (18, None)
    assert list(compact(log, "pings", 77, ALL)) == [18]
    found = table_shape(log, "pings")
    assert (found.files, found.small_files, found.rows, found.compacted_s, found.vacuumed_s) == (1, 1, 126, 77, None)
    assert found.version == 19
    assert in_order(log).equals(before)
    for source in (ZERO, ONE, REBORN):
        assert log.read_from("pings", source, 5, 30).equals(rows(source, 0, 42)[5:30])
        assert LogWriter(log, pings).position(source) == 42
    assert list(compact(log, "pings", 78, ALL)) == []  # one is as few as it gets


def test_pieces_are_bounded_and_few_or_large_files_are_left_alone(log: EventLog) -> None:
    fill(log)
    before = in_order(log)
    assert list(compact(log, "pings", 1, CompactionSizes(least_files=19))) == []
    assert list(compact(log, "pings", 1, CompactionSizes(small_bytes=100, least_files=2))) == []
    assert list(compact(log, "pings", 1, CompactionSizes(rows=49, least_files=2))) == [7, 7, 4]
    assert table_shape(log, "pings").files == 3
    assert list(compact(log, "pings", 2, CompactionSizes(rows=49, least_files=2))) == []  # none is small any more
    assert in_order(log).equals(before)


def test_files_that_overlap_a_large_one_lose_nothing(log: EventLog) -> None:
    """The offsets that small files cover may lie in others too: these rows move along."""
    writer = LogWriter(log, pings)
    append(writer, ZERO, 3)
    append(writer, ZERO, 2_000)
    append(writer, ZERO, 2_003)
    before = in_order(log)
    small = table_shape(log, "pings", CompactionSizes(small_bytes=16_000))
    assert (small.files, small.small_files) == (3, 2)
    assert list(compact(log, "pings", 1, CompactionSizes(small_bytes=16_000, least_files=2))) == [2]
    assert in_order(log).equals(before)
    assert log.table("pings").to_pyarrow_dataset().count_rows() == 2_003


def stale(log: EventLog, monkeypatch: pytest.MonkeyPatch, meanwhile: Any) -> None:
    """Compact, and just before the commit let something else happen."""
    commit = deltalake.write_deltalake

    def late(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(maintenance, "write_deltalake", commit)
        meanwhile()
        commit(*args, **options)

    monkeypatch.setattr(maintenance, "write_deltalake", late)
    list(compact(log, "pings", 5, ALL))


def test_one_of_two_concurrent_compactions_is_refused(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(log)
    before = in_order(log)
    with pytest.raises(FencedError, match="something else replaced these rows"):
        stale(log, monkeypatch, lambda: list(compact(log, "pings", 6, ALL)))
    assert log.table("pings").to_pyarrow_dataset().count_rows() == before.height
    assert in_order(log).equals(before)
    assert log.table("pings").transaction_version(COMPACTED) == 6


def test_rows_appended_during_a_compaction_stay(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = fill(log)

    def more() -> None:
        for source in (ZERO, ONE, REBORN):
            append(writer, source, 50)

    stale(log, monkeypatch, more)
    assert table_shape(log, "pings").files == 4
    for source in (ZERO, ONE, REBORN):
        assert log.read_from("pings", source, 0).equals(rows(source, 0, 50))


def test_a_compaction_goes_on_if_the_file_of_a_writer_spans_partitions(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partitions are not equally far: the file of both has offsets from 43 to 60, and partition 0 is replaced to 52."""
    writer = fill(log)
    append(writer, ZERO, 53)

    def both() -> None:
        new = pl.concat([rows(ZERO, 53, 60), rows(ONE, 42, 50)])
        writer.append(new, {ZERO: 53, ONE: 42}, {ZERO: 60, ONE: 50})

    stale(log, monkeypatch, both)
    assert table_shape(log, "pings").files == 2
    for source, end in ((ZERO, 60), (ONE, 50), (REBORN, 42)):
        assert log.read_from("pings", source, 0).equals(rows(source, 0, end))


def test_a_writer_goes_on_after_compaction_and_a_zombie_stays_fenced(log: EventLog) -> None:
    writer, zombie = fill(log), LogWriter(log, pings)
    list(compact(log, "pings", 1, ALL))
    append(writer, ZERO, 50)
    with pytest.raises(FencedError):
        append(zombie, ZERO, 49)
    append(zombie, ONE, 49)
    assert offsets(in_order(log)) == list(range(50))


def write_all(log: EventLog, source: SourcePartition, end: int) -> None:
    """Append in small commits as a flusher does: after a conflict the offsets say whose turn it is."""
    chance, writer = random.Random(source.partition), LogWriter(log, pings)
    while (position := writer.position(source) or 0) < end:
        try:
            append(writer, source, min(position + chance.randrange(1, 30), end))
        except FencedError:
            writer.reopen()
            assert writer.position(source) == position


def compact_until(log: EventLog, done: threading.Event) -> int:
    """How many pieces were put together."""
    pieces = 0
    while not done.is_set():
        with contextlib.suppress(FencedError):
            pieces += len(list(compact(log, "pings", 1, ALL)))
    return pieces


def test_changing_a_note_is_a_fence_though_the_position_stays(log: EventLog) -> None:
    fill(log)
    mine, operator = LogWriter(log, pings), LogWriter(log, pings)
    operator.note(ZERO, 42, 42, cut=42, why={"test": "accepted"})
    with pytest.raises(FencedError):
        mine.note(ZERO, 42, 42, cut=-14, why={"test": "found"})
    assert LogWriter(log, pings).cut(ZERO) == 42


def test_a_reader_writers_and_compactions_at_once(log: EventLog) -> None:
    fill(log, 1)
    done, reader, parts = threading.Event(), log.reader("pings"), []
    with ThreadPoolExecutor(4) as pool:
        tidied = [pool.submit(compact_until, log, done) for _ in range(2)]
        written = [pool.submit(write_all, log, source, 400) for source in (ZERO, ONE)]
        while not all(each.done() for each in written):
            parts.append(reader.read())
        done.set()
        assert [each.result() for each in written] == [None, None]
        assert sum(each.result() for each in tidied) > 2
    parts.append(reader.read())
    for source in (ZERO, ONE):
        assert [offset for part in parts for offset in offsets(part, source)] == list(range(400))
        assert log.read_from("pings", source, 0).equals(rows(source, 0, 400))
        assert log.table("pings").transaction_version(source.text) == 400
    assert log.table("pings").to_pyarrow_dataset().count_rows() == 7 + 800


def test_columns_that_came_later_keep_their_defaults(log: EventLog) -> None:
    append(LogWriter(log, pings), ZERO, 10)
    later = stream_with(more=("str", "new"))
    append(LogWriter(log, later), ZERO, 13)
    before = in_order(log)
    list(compact(log, "pings", 1, ALL))
    assert in_order(log).equals(before)
    assert before["more"].to_list()[:2] == ["new", "new"]
    assert dict(log.read("pings").schema) == log_schema(later)


def test_compaction_reports_rows_that_changed(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(log)
    commit = deltalake.write_deltalake
    monkeypatch.setattr(maintenance, "write_deltalake", lambda t, rows, **o: commit(t, rows.slice(1), **o))
    with pytest.raises(TerminalError, match="125 rows at version 19 where version 18 has 126"):
        list(compact(log, "pings", 1, ALL))


# -- vacuum -----------------------------------------------------------------------------------------------------------


def age(log: EventLog, topic: str, days: int) -> None:
    """As if all that was replaced had been so some days ago."""
    folder = Path(log.path(topic))
    earlier = days * DAY_S
    for path in (folder / "_delta_log").glob("*.json"):
        aged = re.sub(r'(?<="deletionTimestamp":)\d+', lambda m: str(int(m[0]) - earlier * 1_000), path.read_text())
        path.write_text(aged)
    for path in folder.glob("*.parquet"):
        os.utime(path, (time.time() - earlier,) * 2)


def parquets(log: EventLog) -> int:
    return len(list(Path(log.path("pings")).glob("*.parquet")))


def test_vacuum_deletes_what_was_replaced_seven_days_ago(log: EventLog) -> None:
    fill(log)
    list(compact(log, "pings", 1, ALL))
    before = in_order(log)
    assert parquets(log) == 19
    assert vacuum(log, "pings", 2, WEEK) == 0
    age(log, "pings", 6)
    assert vacuum(log, "pings", 2, WEEK) == 0
    age(log, "pings", 2)
    gone = vacuum(log, "pings", 3, WEEK, dry_run=True)
    assert (parquets(log), gone) == (19, 18)
    assert vacuum(log, "pings", 3, timedelta(days=9)) == 0
    assert vacuum(log, "pings", 4, WEEK) == gone
    assert parquets(log) == 1
    assert table_shape(log, "pings").vacuumed_s == 4
    assert in_order(log).equals(before)
    for name in log.table("pings").file_uris():
        pq.read_metadata(name)


def test_a_retention_of_less_than_seven_days_is_refused(log: EventLog) -> None:
    fill(log)
    with pytest.raises(SettingsError, match="log_retention: 6 days, 23:00:00 is too short"):
        vacuum(log, "pings", 1, WEEK - timedelta(hours=1))
    with pytest.raises(SettingsError):
        UpkeepSchedule(retention=WEEK - timedelta(hours=1))


# -- on a schedule ----------------------------------------------------------------------------------------------------


def test_the_worker_that_leads_a_topic_looks_after_its_log(log: EventLog) -> None:
    fill(log)
    clock, leading = SettableClock(utc_datetime(50_000_000)), {"other"}
    schedule = UpkeepSchedule(compact=timedelta(days=99), vacuum=timedelta(seconds=10), sizes=ALL)
    upkeep = LogUpkeep(log, ["gone", "pings"], leading.__contains__, schedule, clock)
    upkeep.step()
    assert table_shape(log, "pings").files == 18
    leading |= {"pings", "gone"}  # one without a table holds up nothing
    upkeep.step()
    found = table_shape(log, "pings")
    assert (found.files, found.compacted_s, found.vacuumed_s) == (1, 50, None)
    age(log, "pings", 8)
    for now_s, wanted in ((59, (19, None)), (60, (1, 60))):
        clock.now = utc_datetime(now_s * 1_000_000)
        upkeep.step()
        assert (parquets(log), table_shape(log, "pings").vacuumed_s) == wanted


def test_upkeep_runs_in_a_thread_and_ends_with_its_context(log: EventLog) -> None:
    fill(log)
    schedule = UpkeepSchedule(compact=timedelta(milliseconds=10), sizes=ALL)
    with LogUpkeep(log, ["pings"], lambda _: True, schedule, SettableClock(utc_datetime(1_000_000))):
        until(lambda: table_shape(log, "pings").files == 1, 10)
    assert not [thread for thread in threading.enumerate() if thread.name == "headrace-upkeep"]


def test_a_version_is_made_again_after_compaction_and_vacuum(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert shop.runner().run(request("one", day(LIVE_FROM))).version == 1
    shop.serve(1, until=40)
    event = shop.state.published(1)
    assert event is not None
    assert isinstance(event.data, Published)
    kept = manifest.decode(artifact.fetch(event.data.manifest.uri))
    wanted = ExampleBuilder(model, shop.log).build(day(50)).content_hash()
    for pin in kept.streams:
        list(compact(shop.log, pin.topic, 1, ALL))
        age(shop.log, pin.topic, 8)
        vacuum(shop.log, pin.topic, 2, WEEK)
    again = Reproducer(tmp_path / "log", InlineFits(), places=ArtifactPlaces([tmp_path])).reproduce(
        model, event.data, kept, event.at_us
    )
    assert (again.identical, again.differences, again.rows) == (True, [], kept.rows)
    assert ExampleBuilder(model, shop.log).build(day(50)).content_hash() == wanted
