"""Streams that have `unique=`: their definition, the rows of duplicates, and what `headrace doctor` says of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from msgspec import structs
from polars.testing import assert_frame_equal

from headrace import Settings, training_set
from headrace.app.doctor import duplicates
from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.event import Event, encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream
from headrace.bus.worker_report import PartitionReport, decode
from headrace.errors import DefinitionError
from headrace.event_log.columns import log_schema
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.streams.dead_letters.dead_letter import find_letters
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.plane.seen_ids import SeenIds, seen_before
from headrace.streams.views.logged_rows import LoggedRows
from headrace.trainers.data.model_log import ModelLog
from tests.support.control_topics import VECTORS
from tests.support.orders_model import Order, Return, day, model, orders, returns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import polars as pl


class Payment(Event):
    payment_id: str | None
    at: datetime
    shop: str = ""
    amount: float = 0.0
    tags: list[str] | None = None


AT = datetime(2020, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
SOURCES = [SourcePartition(number, bytes(16)) for number in range(2)]
payments = Stream("payments", Payment, event_time="at", unique="payment_id", within="1d")


def judged(partition: int, seen: SeenIds | None, *records: tuple[str | None, int], first: int = 0) -> pl.DataFrame:
    """The rows of payments with these ids, each so many microseconds after the start."""
    values = [msgspec.json.encode({"payment_id": name, "at": AT}) for name, _ in records]
    stamps = np.array([epoch_us(AT) + after for _, after in records])
    given = PartitionRecords(np.arange(first, first + len(values)), stamps, [None] * len(values), values)
    return RecordJudge(payments).rows(bytes(16), partition, given, NO_CLOCK, seen)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"unique": "payment_id"}, "unique='payment_id' and within=None: write both or neither"),
        ({"within": "1d"}, r"unique=\(\) and within='1d': write both or neither"),
        ({"unique": "id", "within": "1d"}, r"stream 'p' has no field 'id'; it has \['payment_id', 'at'"),
        ({"unique": "tags", "within": "1d"}, r"unique field 'tags' is list\(str\); it has to be a text"),
        ({"unique": ("payment_id", "amount"), "within": "1d"}, "unique field 'amount' is float"),
        ({"unique": 5, "within": "1d"}, "stream 'p': unique=5 is an int; write a field's name, or a list of them"),
        ({"unique": {"payment_id"}, "within": "1d"}, "unique=.* is a set; write a field's name"),
        ({"unique": ["payment_id", "payment_id"], "within": "1d"}, "names one twice; write each once"),
        ({"key": None}, "stream 'p': key=None is a NoneType; write a field's name"),
        ({"unique": "payment_id", "within": "99999999999999d"}, "up to 36500d, such as '1d'"),
        ({"unique": "payment_id", "within": "soon"}, "stream 'p': within"),
        ({"unique": "payment_id", "within": "0s"}, "within='0s': write a duration above 0s and up to 36500d"),
    ],
)
def test_a_wrong_unique_is_an_error_that_says_what_to_write(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        Stream("p", Payment, event_time="at", **changes)


def test_unique_is_in_the_spec_only_if_it_is_declared() -> None:
    plain = msgspec.to_builtins(Stream("p", Payment, event_time="at").spec)
    assert not {"unique", "within_us"} & plain.keys()
    assert msgspec.to_builtins(payments.spec) == {
        **plain, "topic": "payments", "unique": ("payment_id",), "within_us": DAY_US
    }  # fmt: skip


def test_a_duplicate_keeps_its_fields_and_has_no_bytes_and_no_error() -> None:
    rows = judged(0, SeenIds(DAY_US), ("a", 0), ("b", 1), ("a", DAY_US), (None, DAY_US), (None, DAY_US))
    assert rows["__verdict"].to_list() == ["accepted", "accepted", "duplicate", "accepted", "accepted"]
    assert dict(rows.schema) == log_schema(payments)
    found = rows.row(2, named=True)
    assert (found["payment_id"], found["at"], found["__reason"]) == ("a", AT, "duplicate")
    assert (found["__error"], found["__key"], found["__value"]) == (None, None, None)
    logged = LoggedRows.from_rows(rows, "at")
    assert logged.accepted["__row_offset"].to_list() == [0, 1, 3, 4]


def test_the_time_begins_anew_with_each_repetition() -> None:
    seen = SeenIds(DAY_US)
    ends = [("a", 0), ("a", DAY_US), ("a", 2 * DAY_US), ("a", 3 * DAY_US + 1), ("a", 3 * DAY_US + 2)]
    assert judged(0, seen, *ends)["__verdict"].to_list() == [
        "accepted", "duplicate", "duplicate", "accepted", "duplicate"
    ]  # fmt: skip


def test_a_record_without_memory_is_no_duplicate() -> None:
    assert judged(0, None, ("a", 0), ("a", 0))["__verdict"].to_list() == ["accepted"] * 2


def test_a_stream_without_unique_has_nothing_to_remember(tmp_path: Path) -> None:
    plain = Stream("plain", Payment, event_time="at")
    assert seen_before(EventLog(tmp_path), plain, SOURCES[0], 100, epoch_us(AT)) is None  # the log is not even read


def test_a_duplicate_is_no_dead_letter_and_doctor_counts_those_of_other_partitions_too(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    assert list(duplicates.examine(log, [payments])) == []
    writer = LogWriter(log, payments)
    assert list(duplicates.examine(log, [payments])) == []
    for source, names in zip(SOURCES, ["abac", "de"], strict=True):
        rows = judged(source.partition, SeenIds(DAY_US), *((name, DAY_US) for name in names))
        writer.append(rows, {source: None}, {source: rows.height})
    assert find_letters(log, [payments.topic]) == []
    (found,) = duplicates.examine(log, [payments, Stream("plain", Payment, event_time="at")])
    assert (found.severity, found.found) == ("ok", "1 of 6 records of the last 1d are duplicates")
    later = judged(1, None, ("c", DAY_US), ("a", DAY_US), (None, 2 * DAY_US), first=2)
    writer.append(later, {SOURCES[1]: 2}, {SOURCES[1]: 5})
    (found,) = duplicates.examine(log, [payments])
    assert (found.subject, found.severity) == ("stream payments", "warning")
    assert "1 of 9 records" in found.found
    assert "2 values of payment_id are accepted in more than one partition" in found.found
    assert "record key" in found.advice


def test_doctor_reads_the_unique_fields_of_the_last_time_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, source = EventLog(tmp_path), SOURCES[0]
    writer = LogWriter(log, payments)
    for place, day_of in enumerate([0, 5, 9]):
        rows = judged(0, SeenIds(DAY_US), ("a", day_of * DAY_US), ("b", day_of * DAY_US), first=2 * place)
        writer.append(rows, {source: 2 * place or None}, {source: 2 * place + 2})
    read: list[tuple[list[str], int]] = []
    scan = EventLog.scan

    def scanned(self: EventLog, topic: str, columns: list[str], *keep: Any) -> Iterator[pl.DataFrame]:
        for piece in scan(self, topic, columns, *keep):
            read.append((columns, piece.height))
            yield piece

    monkeypatch.setattr(EventLog, "scan", scanned)
    (found,) = duplicates.examine(log, [payments])
    assert found.found == "0 of 2 records of the last 1d are duplicates"
    assert read == [(["payment_id"], 2)]


def test_doctor_waits_for_a_worker_that_logs_a_new_unique_field(tmp_path: Path) -> None:
    class Older(Event):
        at: datetime

    log, source = EventLog(tmp_path), SOURCES[0]
    values = [b'{"at":"2020-01-01T00:00:00Z"}']
    given = PartitionRecords(np.arange(1), np.array([epoch_us(AT)]), [None], values)
    older = Stream("payments", Older, event_time="at")
    LogWriter(log, older).append(RecordJudge(older).rows(bytes(16), 0, given, NO_CLOCK), {source: None}, {source: 1})
    assert list(duplicates.examine(log, [payments])) == []
    LogWriter(log, payments)
    (found,) = duplicates.examine(log, [payments])
    assert found.found == "0 of 1 records of the last 1d are duplicates"
    assert len(seen_before(log, payments, source, 1, epoch_us(AT)) or ()) == 0


def test_a_report_names_duplicates_only_of_streams_that_look_for_them() -> None:
    plain = PartitionReport("t", "07-0", 1, 1, 1, 0, {})
    assert b"duplicates" not in msgspec.json.encode(plain)
    assert msgspec.json.decode(msgspec.json.encode(plain), type=PartitionReport) == plain
    counted = msgspec.structs.replace(plain, duplicates=3)
    report = b'{"type":"observation","worker":"w","observed_us":1,"partitions":[%b]}' % msgspec.json.encode(counted)
    assert decode(report).partitions == [counted]


# -- what nothing uses --------------------------------------------------------------------------------------------


def write_all(log: EventLog, stream: Stream, unique: str, rows: Sequence[Event]) -> None:
    """Log events of one partition, each available at its own time."""
    times = [epoch_us(getattr(row, stream.event_time)) for row in rows]
    records = PartitionRecords(np.arange(len(rows)), np.array(times), [None] * len(rows), list(map(encode, rows)))
    judge = RecordJudge(replace(stream, unique=unique, within="1d"))
    frame = judge.rows(SOURCES[0].topic_id, 0, records, NO_CLOCK, SeenIds(DAY_US))
    LogWriter(log, stream).append(frame, {SOURCES[0]: None}, {SOURCES[0]: len(rows)})


@pytest.mark.slow
def test_a_duplicate_is_no_request_no_label_and_in_no_feature(tmp_path: Path) -> None:
    bought = [Order(number, f"shop-{number % 3}", 1.0, utc_datetime(day(number / 10))) for number in range(40)]
    back = [Return(number, number % 2 == 0, utc_datetime(day(number / 10 + 0.5))) for number in range(40)]
    logs = [EventLog(tmp_path / "once"), EventLog(tmp_path / "twice")]
    other_orders = [structs.replace(row, amount=9.0) for row in bought]
    other_labels = [structs.replace(row, back=not row.back) for row in back]
    for log, each in zip(logs, (1, 2), strict=True):
        write_all(
            log, orders, "order_id", [row for pair in zip(bought, other_orders, strict=True) for row in pair[:each]]
        )
        write_all(
            log, returns, "order_id", [row for pair in zip(back, other_labels, strict=True) for row in pair[:each]]
        )
        log.create(VECTORS)
    assert (logs[1].read("orders")["__verdict"] == "duplicate").sum() == 40
    once, twice = (
        training_set(model, as_of=utc_datetime(day(30)), excluded=[], settings=Settings(event_log=log.url)).to_polars()
        for log in logs
    )
    assert once.height == 40
    assert_frame_equal(once, twice)
    found = [ModelLog(model, log).labelled(day(30)) for log in logs]
    assert found[0]["__label"].to_list() == found[1]["__label"].to_list() == [row.back for row in back]
