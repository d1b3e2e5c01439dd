"""A history of one's own: events from files and from the event log, in the order in which they were known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest

from headrace import Avro, Event, Label, Stream, col
from headrace.app.demo.given_history import (
    GivenHistory,
    StreamHistory,
    check_streams,
    history_of_files,
    history_of_log,
)
from headrace.app.demo.history import FirstDays
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.errors import DefinitionError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR_US = 3_600_000_000


class Asked(Event):
    id: int
    card: str
    asked_at: datetime


class Answered(Event):
    id: int
    fraud: bool
    answered_at: datetime


asked = Stream("asked", Asked, event_time="asked_at", key=["card", "id"], unique="id", within="1d")
answered = Stream("answered", Answered, event_time="answered_at")
STREAMS = [asked, answered]
REQUESTS = [Asked(n, "c7", NOON + MINUTE * n) for n in (3, 1, 2, 1)]
ANSWERS = [Answered(n, fraud=n == 1, answered_at=NOON + MINUTE * 2 * n) for n in (1, 2, 3)]


class Fraud:
    """What is read of a model."""

    name = "fraud"
    requests = asked
    label = Label(answered, value=col("fraud"), on="id", within="1d")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    lines = [*map(encode, REQUESTS), b'{"id": "x"}']
    (tmp_path / "asked.jsonl").write_bytes(b"\n".join(lines))
    pl.DataFrame([msgspec.structs.asdict(each) for each in ANSWERS]).write_parquet(tmp_path / "answered.parquet")
    return [f"asked={tmp_path / 'asked.jsonl'}", f"answered={tmp_path / 'answered.parquet'}"]


def read(history: GivenHistory) -> list[tuple[int, str, bytes, Any]]:
    return [(at, topic, key, msgspec.json.decode(value)["id"]) for at, topic, key, value in history.records()]


def minute(number: int) -> int:
    return epoch_us(NOON + MINUTE * number) // 1_000


def test_events_of_files_come_in_the_order_in_which_they_were_known(files: list[str]) -> None:
    found = history_of_files(STREAMS, files, {"answered": "event_time+30s"}, None)
    history = GivenHistory(found)
    half = 30_000
    assert read(history) == [
        (minute(1), "asked", b"c7|1", 1),
        (minute(2), "asked", b"c7|2", 2),
        (minute(2) + half, "answered", b"", 1),
        (minute(3), "asked", b"c7|3", 3),
        (minute(4) + half, "answered", b"", 2),
        (minute(6) + half, "answered", b"", 3),
    ]
    assert read(history) == read(history)
    assert history.counts == {"asked": 3, "answered": 3}
    assert (found["asked"].left_out, found["answered"].left_out) == (2, 0)  # one does not decode, one is a duplicate
    assert (history.from_us % HOUR_US, history.to_us - history.from_us) == (0, HOUR_US)


def test_the_first_days_of_a_given_history_count_their_own_events(files: list[str]) -> None:
    late = [Answered(9, fraud=False, answered_at=NOON + timedelta(days=3))]
    more = history_of_files(STREAMS, files, {}, None)
    later = GivenHistory({**more, "later": stream_of(late)})
    assert FirstDays(later, 1).counts == {"asked": 3, "answered": 3}
    assert (later.to_us - later.from_us) // HOUR_US == 73


def stream_of(events: list[Answered]) -> Any:
    times = [epoch_us(each.answered_at) // 1_000 for each in events]
    return StreamHistory(times, [None] * len(events), [encode(each) for each in events])


def test_the_event_log_gives_the_same_events(files: list[str], tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    events: list[tuple[Stream, list[Any]]] = [(asked, REQUESTS), (answered, ANSWERS)]
    for number, (stream, own) in enumerate(events):
        ordered = sorted(own, key=lambda each: getattr(each, stream.event_time))
        stamps = np.array([epoch_us(getattr(each, stream.event_time)) for each in ordered])
        records = PartitionRecords(np.arange(len(own)), stamps, [None] * len(own), [encode(each) for each in ordered])
        source = SourcePartition(0, bytes([number]) * 16)
        rows = RecordJudge(stream).rows(source.topic_id, 0, records, NO_CLOCK)
        first_of_each = rows.unique("id", keep="first", maintain_order=True)
        LogWriter(log, stream).append(first_of_each, {source: None}, {source: len(own)})
    of_log = GivenHistory(history_of_log(log, STREAMS))
    assert read(of_log) == read(GivenHistory(history_of_files(STREAMS, files, {}, None)))


def test_an_error_says_what_cannot_be_replayed(tmp_path: Path) -> None:
    model: Any = Fraud
    with pytest.raises(DefinitionError, match=r"model 'fraud' needs its labels: give --from answered=FILE"):
        check_streams(model, STREAMS, ["asked"])
    in_avro = Stream("asked", Asked, event_time="asked_at", format=Avro())
    with pytest.raises(DefinitionError, match=r"'asked' has the format Avro.*JSON records of streams alone"):
        check_streams(model, [in_avro, answered], ["asked", "answered"])
    (tmp_path / "a.jsonl").write_bytes(b"{}")
    with pytest.raises(DefinitionError, match="there are no events to replay"):
        GivenHistory(history_of_files(STREAMS, [f"asked={tmp_path / 'a.jsonl'}"], {}, None))
    with pytest.raises(DefinitionError, match=r"several streams; say which one it is: asked=FILE, answered=FILE"):
        history_of_files(STREAMS, [str(tmp_path / "a.jsonl")], {}, None)
