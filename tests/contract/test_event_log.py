"""The event log: positions with rows, a fence on each handle, and readers that see each row once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import numpy as np
import polars as pl
import pytest
from msgspec import field

from headrace.base.times import epoch_us
from headrace.bus.source_partition import NO_CLOCK
from headrace.errors import DefinitionError, FencedError, OfflineStoreUnavailableError
from headrace.event_log.columns import META, log_schema
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from tests.support.ping_log import ONE, REBORN, START, ZERO, append, offsets, pings, rows, stream_with

if TYPE_CHECKING:
    from headrace.bus.stream import Stream


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "events")


# -- appending --------------------------------------------------------------------------------------------------------


def test_a_new_log_has_its_columns_and_no_position(log: EventLog) -> None:
    writer = LogWriter(log, pings)
    assert writer.position(ZERO) is None
    assert log.read("pings").is_empty()
    assert dict(log.empty("pings").schema) == dict(log.read("pings").schema) == log_schema(pings)
    assert list(META) == list(log_schema(pings))[: len(META)]


def test_many_workers_may_create_a_log_at_once(tmp_path: Path) -> None:
    for attempt in range(5):
        log = EventLog(tmp_path / str(attempt))
        with ThreadPoolExecutor(8) as pool:
            writers = list(pool.map(lambda _: LogWriter(log, pings), range(8)))  # noqa: B023 - used within the turn
        append(writers[0], ZERO, 3)
        assert offsets(log.read("pings")) == [0, 1, 2]


def test_rows_and_position_are_appended_together(log: EventLog) -> None:
    writer = LogWriter(log, pings)
    append(writer, ZERO, 20)
    assert (writer.position(ZERO), writer.position(ONE)) == (20, None)
    assert log.read("pings").equals(rows(ZERO, 0, 20))
    later = LogWriter(log, pings)
    append(later, ZERO, 21)
    assert later.position(ZERO) == 21
    assert offsets(log.read("pings")) == list(range(21))


def test_partitions_share_a_commit(log: EventLog) -> None:
    writer = LogWriter(log, pings)
    both = pl.concat([rows(ONE, 0, 3), rows(ZERO, 0, 2)])
    writer.append(both, {ZERO: None, ONE: None}, {ZERO: 2, ONE: 3})
    assert (writer.position(ZERO), writer.position(ONE)) == (2, 3)
    assert log.table("pings").version() == 1


def test_a_stale_handle_is_fenced(log: EventLog) -> None:
    mine, other = LogWriter(log, pings), LogWriter(log, pings)
    append(other, ZERO, 5)
    with pytest.raises(FencedError, match="another worker owns it"):
        append(mine, ZERO, 7)
    assert offsets(log.read("pings")) == list(range(5))
    mine.reopen()
    assert mine.position(ZERO) == 5
    append(mine, ZERO, 7)
    assert offsets(log.read("pings")) == list(range(7))


def test_a_wrong_expectation_is_fenced_before_anything_is_written(log: EventLog) -> None:
    writer = LogWriter(log, pings)
    append(writer, ZERO, 5)
    for expected in (None, 4, 6):
        with pytest.raises(FencedError, match=f"stands at 5, expected {expected}"):
            writer.append(rows(ZERO, 5, 6), {ZERO: expected}, {ZERO: 6})
    assert log.table("pings").version() == 1


def test_another_partition_is_no_conflict(log: EventLog) -> None:
    mine, other = LogWriter(log, pings), LogWriter(log, pings)
    append(other, ONE, 5)
    append(mine, ZERO, 7)
    append(mine, ZERO, 8)
    append(other, ONE, 6)
    found = log.read("pings")
    assert (offsets(found, ZERO), offsets(found, ONE)) == (list(range(8)), list(range(6)))


def test_one_fenced_partition_takes_its_commit_along(log: EventLog) -> None:
    mine, other = LogWriter(log, pings), LogWriter(log, pings)
    append(other, ONE, 5)
    both = pl.concat([rows(ZERO, 0, 3), rows(ONE, 0, 3)])
    with pytest.raises(FencedError):
        mine.append(both, {ZERO: None, ONE: None}, {ZERO: 3, ONE: 3})
    mine.reopen()
    assert (mine.position(ZERO), mine.position(ONE)) == (None, 5)


def test_refresh_sees_what_others_committed(log: EventLog) -> None:
    mine, other = LogWriter(log, pings), LogWriter(log, pings)
    append(other, ZERO, 5)
    assert mine.position(ZERO) is None
    mine.refresh()
    assert mine.position(ZERO) == 5
    append(mine, ZERO, 6)


def test_a_recreated_topic_is_another_source(log: EventLog) -> None:
    writer = LogWriter(log, pings)
    append(writer, ZERO, 5)
    append(writer, REBORN, 3)
    assert (writer.position(ZERO), writer.position(REBORN)) == (5, 3)
    assert offsets(log.read_from("pings", REBORN, 0), REBORN) == [0, 1, 2]
    assert offsets(log.read_from("pings", ZERO, 4)) == [4]


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_reader_sees_each_row_once(log: EventLog) -> None:
    writer, reader = LogWriter(log, pings), log.reader("pings")
    assert reader.read().is_empty()
    append(writer, ZERO, 5)
    assert offsets(reader.read()) == [0, 1, 2, 3, 4]
    assert reader.read().is_empty()
    append(writer, ZERO, 7)
    append(writer, ONE, 2)
    fresh = reader.read()
    assert (offsets(fresh), offsets(fresh, ONE)) == ([5, 6], [0, 1])
    assert reader.positions() == {ZERO: 7, ONE: 2}


def test_a_reader_sees_each_row_once_after_compaction_too(log: EventLog) -> None:
    writer, reader = LogWriter(log, pings), log.reader("pings")
    for end in (3, 6, 9):
        append(writer, ZERO, end)
    assert offsets(reader.read()) == list(range(9))
    append(writer, ZERO, 12)
    log.table("pings").optimize.compact()
    assert offsets(reader.read()) == [9, 10, 11]
    assert reader.read().is_empty()
    assert offsets(log.read("pings")) == list(range(12))


def test_a_writer_goes_on_after_compaction(log: EventLog) -> None:
    writer = LogWriter(log, pings)
    append(writer, ZERO, 3)
    append(writer, ZERO, 6)
    log.table("pings").optimize.compact()
    append(writer, ZERO, 9)
    assert LogWriter(log, pings).position(ZERO) == 9
    assert offsets(log.read("pings")) == list(range(9))


def test_reading_a_partition_from_an_offset_is_in_order(log: EventLog) -> None:
    writer = LogWriter(log, pings)
    for end in (4, 8, 12):
        append(writer, ZERO, end)
        append(writer, ONE, end)
    assert log.read_from("pings", ZERO, 5).equals(rows(ZERO, 5, 12))
    assert log.read_from("pings", ONE, 11, columns=["__offset", "n"]).rows() == [(11, 11)]
    assert log.read_from("pings", ZERO, 3, 9).equals(rows(ZERO, 3, 9))
    nothing = log.read_from("pings", ZERO, 12)
    assert nothing.is_empty()
    assert dict(nothing.schema) == log_schema(pings)


def test_files_that_lie_outside_of_what_is_asked_for_are_not_opened(log: EventLog) -> None:
    writer = LogWriter(log, pings)
    for source, end in ((ZERO, 4), (ONE, 4), (ZERO, 8), (ZERO, 12)):
        append(writer, source, end)
    files = pl.DataFrame(log.table("pings").get_add_actions(flatten=True))
    needed = files.filter((pl.col("min.__partition") == 0) & (pl.col("min.__offset") == 4))["path"].item()
    for path in Path(log.path("pings")).glob("*.parquet"):
        if path.name != needed:
            path.unlink()
    assert log.read_from("pings", ZERO, 5, 8).equals(rows(ZERO, 5, 8))
    with pytest.raises(OfflineStoreUnavailableError):
        log.read_from("pings", ZERO, 5, 9)


def test_rejected_rows_keep_key_value_and_reason(log: EventLog) -> None:
    append(LogWriter(log, pings), ZERO, 10)
    row = log.read_from("pings", ZERO, 9).row(0, named=True)
    assert (row["__verdict"], row["__reason"], row["__value"], row["n"]) == ("rejected", "decode", b"?", None)


@pytest.mark.parametrize("local", ["file://", "none://"], ids=["directly", "by Delta's own client"])
def test_a_log_may_be_named_by_a_url(tmp_path: Path, local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.event_log.table._LOCAL", local)
    log = EventLog(f"file://{tmp_path}/with%20a%20blank", {"timeout": "30s"})
    writer = LogWriter(log, pings)
    append(writer, ZERO, 5)
    assert log.exists("pings")
    assert (tmp_path / "with a blank" / "pings").is_dir()
    assert log.read("pings").equals(rows(ZERO, 0, 5))
    assert log.read_from("pings", ZERO, 3).equals(rows(ZERO, 3, 5))


# -- when the event type changes --------------------------------------------------------------------------------------

PINGS_LATER: dict[str, tuple[str, Any, Any]] = {
    "nullable": ("int | None", None, None),
    "with a default": ("str", "new", "new"),
    "with a default of its own": ("list[float]", [], []),
    "with a time": ("datetime", START, START),
    "with times": ("list[datetime]", field(default_factory=lambda: [START]), [START]),
}


def judged(stream: Stream, start: int, *values: bytes) -> pl.DataFrame:
    offsets = np.arange(start, start + len(values))
    records = PartitionRecords(offsets, epoch_us(START) + offsets * 1_000_000, [None] * len(values), values)
    return RecordJudge(stream).rows(ZERO.topic_id, ZERO.partition, records, NO_CLOCK)


@pytest.mark.parametrize(("kind", "default", "then"), PINGS_LATER.values(), ids=PINGS_LATER)
def test_a_new_field_is_its_default_or_null_in_older_rows(log: EventLog, kind: str, default: Any, then: Any) -> None:
    older, early = LogWriter(log, pings), log.reader("pings")
    append(older, ZERO, 10)
    assert early.read().height == 10
    later = stream_with(more=(kind, default))
    writer = LogWriter(log, later)
    writer.append(judged(later, 10, b'{"n":10,"at":"2020-01-01T00:00:00Z"}'), {ZERO: 10}, {ZERO: 11})
    for found in (
        log.read("pings"),
        log.read_from("pings", ZERO, 0),
        log.read_from("pings", ZERO, 0, columns=["more"]),
    ):
        assert found["more"].to_list() == [*[then] * 9, None, then]  # the tenth was rejected
    assert dict(log.read("pings").schema) == log_schema(later)
    assert early.read().columns == list(log_schema(pings))  # as it began


def test_a_worker_with_the_old_event_type_goes_on_appending(log: EventLog) -> None:
    older = LogWriter(log, pings)
    append(older, ZERO, 3)
    LogWriter(log, stream_with(more=("str", "new")))
    append(older, ZERO, 6)
    append(LogWriter(log, pings), ZERO, 9)
    assert log.read("pings")["more"].to_list() == ["new"] * 9


def test_a_log_elsewhere_is_read_as_one_on_this_machine(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    append(LogWriter(log, pings), ZERO, 3)
    append(LogWriter(log, stream_with(more=("str", "new"))), ZERO, 6)
    here, part = log.read("pings"), log.read_from("pings", ZERO, 2, 5)
    assert part["__offset"].to_list() == [2, 3, 4]
    for module in ("event_log", "readable_log"):
        monkeypatch.setattr(f"headrace.event_log.{module}.local_folder", Mock(return_value=None))
    assert log.read("pings").equals(here)
    assert log.read_from("pings", ZERO, 2, 5).equals(part)
    assert log.read("pings").schema == here.schema


def test_many_workers_may_add_a_new_field_at_once(log: EventLog) -> None:
    append(LogWriter(log, pings), ZERO, 3)
    later = stream_with(more=("str", "new"), last=("int | None", None))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: LogWriter(log, later), range(8)))
    assert dict(log.empty("pings").schema) == log_schema(later)


def test_a_changed_type_or_a_new_field_without_default_is_refused(log: EventLog) -> None:
    LogWriter(log, pings)
    with pytest.raises(DefinitionError, match=r"'pings': field 'n' of Ping is String, but Int64.*pings.*new one"):
        LogWriter(log, stream_with(n=("str",)))
    with pytest.raises(DefinitionError, match=r"field 'more' of Ping is new.*default.*None = None"):
        LogWriter(log, stream_with(more=("int",)))
    assert dict(log.empty("pings").schema) == log_schema(pings)


# -- when the storage does not answer ---------------------------------------------------------------------------------


def test_a_log_that_is_not_there_is_a_typed_error(log: EventLog) -> None:
    with pytest.raises(OfflineStoreUnavailableError, match="'nothing'"):
        log.read("nothing")


def test_a_storage_that_is_gone_is_a_typed_error_and_nothing_is_lost(log: EventLog, tmp_path: Path) -> None:
    writer, reader = LogWriter(log, pings), log.reader("pings")
    append(writer, ZERO, 3)
    reader.read()
    table = tmp_path / "events" / "pings"
    table.rename(tmp_path / "away")
    table.write_text("a file where the folder was")
    with pytest.raises(OfflineStoreUnavailableError, match="'pings'"):
        EventLog("s3://", {"aws_region": "nowhere"}).exists("pings")
    for call in (lambda: append(writer, ZERO, 6), writer.refresh, reader.read, lambda: log.read_from("pings", ZERO, 0)):
        with pytest.raises(OfflineStoreUnavailableError, match="'pings'"):
            call()
    table.unlink()
    (tmp_path / "away").rename(table)
    append(writer, ZERO, 6)
    assert offsets(log.read("pings")) == list(range(6))
    assert offsets(reader.read()) == [3, 4, 5]


def test_a_reader_that_failed_reads_again(log: EventLog, tmp_path: Path) -> None:
    reader = log.reader("pings")
    append(LogWriter(log, pings), ZERO, 3)
    files = list(Path(log.path("pings")).glob("*.parquet"))
    for file in files:
        file.rename(tmp_path / file.name)
    with pytest.raises(OfflineStoreUnavailableError, match="'pings'"):
        reader.read()
    for file in files:
        (tmp_path / file.name).rename(file)
    assert offsets(reader.read()) == [0, 1, 2]
