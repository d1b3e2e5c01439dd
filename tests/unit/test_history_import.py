"""History from files into the event log: what enters it, twice, in pieces, unsorted, rejected, and undone."""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace import Epoch, Event, Places, Stream, after
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.source_partition import IMPORT_MARK, SourcePartition, import_partition
from headrace.errors import DefinitionError, SettingsError
from headrace.event_log.event_log import EventLog
from headrace.event_log.imports import Imports
from headrace.event_log.log_writer import LogWriter
from headrace.event_log.maintenance import CompactionSizes, compact
from headrace.streams.imports import file_pieces, history_import
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.boundary import first_in_log
from headrace.streams.imports.history_import import HistoryImport, ImportOptions, ImportOutcome, undo
from headrace.streams.imports.source_file import find_files
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np

T0 = datetime(2024, 3, 1, 12, tzinfo=UTC)
_NOW = epoch_us(T0)


class Purchase(Event):
    card: str
    amount: float | None
    items: int
    paid_at: datetime


purchases = Stream("purchases", Purchase, event_time="paid_at", key="card")
ROWS = pl.DataFrame(
    {
        "card": ["a", "b", "a"],
        "amount": [1.5, None, 3.0],
        "items": [1, 2, 3],
        "paid_at": [T0, T0 + timedelta(minutes=2), T0 + timedelta(minutes=1)],
        "arrived": [T0 + timedelta(seconds=5), T0 + timedelta(minutes=3), T0 + timedelta(minutes=2)],
    }
)


@contextmanager
def silent(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def load(
    tmp_path: Path,
    *names: str,
    stream: Stream = purchases,
    available_at: str | None = "arrived",
    until: datetime | None = None,
    zone: str | None = None,
    at_us: int = _NOW,
) -> ImportOutcome:
    options = ImportOptions(
        Availability.of(stream, available_at, zone), None if until is None else epoch_us(until), zone, "test"
    )
    run = HistoryImport(EventLog(tmp_path / "log"), stream, tmp_path / "spool", options, silent)
    return run.run(find_files([str(tmp_path / name) for name in names]), at_us)


def logged(tmp_path: Path, topic: str = "purchases") -> pl.DataFrame:
    return EventLog(tmp_path / "log").read(topic)


def write(tmp_path: Path, name: str, rows: pl.DataFrame = ROWS) -> None:
    texts = rows.with_columns(pl.col(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
    if name.endswith(".parquet"):
        rows.write_parquet(tmp_path / name)
    elif name.endswith(".csv"):
        texts.write_csv(tmp_path / name)
    elif name.endswith(".jsonl.gz"):
        (tmp_path / name).write_bytes(gzip.compress(texts.write_ndjson().encode()))
    elif name.endswith(".jsonl"):
        texts.write_ndjson(tmp_path / name)
    else:
        rows.write_delta(tmp_path / name)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.jsonl", "rows.jsonl.gz", "table"])
def test_rows_enter_the_log_in_order_of_when_they_were_available(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    done = load(tmp_path, name).record
    assert done is not None
    assert (done.state, done.rows, done.rejected) == ("complete", 3, {})
    rows = logged(tmp_path)
    assert rows["card"].to_list() == ["a", "a", "b"]
    assert rows["amount"].to_list() == [1.5, 3.0, None]
    assert rows["__available_at"].to_list() == sorted(ROWS["arrived"])
    assert rows["__record_timestamp"].equals(rows["__available_at"].alias("__record_timestamp"))
    assert rows["__offset"].to_list() == [0, 1, 2]
    assert rows["__topic_id"].unique().to_list() == [done.partition.topic_id]
    assert done.partition.is_import
    assert LogWriter(EventLog(tmp_path / "log"), purchases).position(done.partition) == 3
    assert not (tmp_path / "spool" / done.partition.topic_id.hex()).exists()


def test_a_second_import_of_the_same_bytes_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "rows.parquet")
    first = load(tmp_path, "rows.parquet").record
    (tmp_path / "rows.parquet").rename(tmp_path / "renamed.parquet")
    version = EventLog(tmp_path / "log").table("purchases").version()
    again = load(tmp_path, "renamed.parquet", available_at="event_time+5m")
    assert first is not None
    assert again.record is None
    assert again.known == {str(tmp_path / "renamed.parquet"): first.id}
    assert EventLog(tmp_path / "log").table("purchases").version() == version


def test_only_new_files_of_a_folder_are_imported(tmp_path: Path) -> None:
    (tmp_path / "days").mkdir()
    write(tmp_path, "days/1.parquet")
    load(tmp_path, "days")
    write(tmp_path, "days/2.parquet", ROWS.head(1).with_columns(items=9))
    write(tmp_path, "days/copy-of-1.parquet")
    done = load(tmp_path, "days")
    assert done.record is not None
    assert [file.name for file in done.record.files] == [str(tmp_path / "days/2.parquet")]
    assert len(done.known) == 2
    assert logged(tmp_path)["items"].sort().to_list() == [1, 2, 3, 9]


def test_pieces_of_many_files_are_merged_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_pieces, "PIECE_ROWS", 7)
    monkeypatch.setattr(history_import, "FILE_ROWS", 10)
    times = [T0 + timedelta(seconds=(7 * n) % 40) for n in range(60)]
    rows = pl.DataFrame({"card": "a", "amount": 1.0, "items": range(60), "paid_at": times, "arrived": times})
    for number in range(3):
        write(tmp_path, f"{number}.parquet", rows[number * 20 : number * 20 + 20])
    load(tmp_path, "*.parquet")
    found = logged(tmp_path)
    assert found["__offset"].to_list() == list(range(60))
    assert found.select("items", "paid_at").equals(rows.sort("paid_at", maintain_order=True).select("items", "paid_at"))
    assert len(EventLog(tmp_path / "log").table("purchases").file_uris()) == 6


def test_an_interrupted_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_pieces, "PIECE_ROWS", 1)
    monkeypatch.setattr(history_import, "FILE_ROWS", 1)
    write(tmp_path, "rows.parquet")
    seen: list[str] = []

    def stop(name: str) -> None:
        seen.append(name)
        if len(seen) in {2, 6}:
            raise KeyboardInterrupt

    monkeypatch.setattr(history_import, "failpoint", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            load(tmp_path, "rows.parquet")
        assert logged(tmp_path).is_empty() if EventLog(tmp_path / "log").exists("purchases") else True
        assert [each for each in Imports(EventLog(tmp_path / "log")).all() if each.state == "complete"] == []
    done = load(tmp_path, "rows.parquet").record
    assert done is not None
    assert logged(tmp_path)["items"].to_list() == [1, 3, 2]


BAD = b"""{"card": "a", "amount": 1, "items": 1, "paid_at": "2024-03-01T12:00:00Z", "arrived": "2024-03-01T12:00:01Z"}
not json
{"card": "b", "amount": 1, "items": "many", "paid_at": "2024-03-01T12:00:02Z", "arrived": "2024-03-01T12:00:02Z"}
{"card": "c", "amount": 1, "items": 1, "paid_at": "2024-03-01T12:30:00Z", "arrived": "2024-03-01T12:00:03Z"}
{"card": "d", "amount": 1, "items": 1, "paid_at": "2024-03-01T12:00:00Z"}
{"card": "e", "amount": 1, "items": 1, "arrived": "2024-03-01T12:00:00Z"}
"""


def test_rejected_rows_keep_their_bytes_and_a_reason(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(BAD)
    done = load(tmp_path, "rows.jsonl").record
    assert done is not None
    assert (done.rows, done.rejected) == (6, {"decode": 4, "future": 1})
    rejected = logged(tmp_path).filter(pl.col("__verdict") == "rejected")
    assert sorted(rejected["__value"]) == sorted(BAD.splitlines()[1:])
    by_value = dict(zip(rejected["__value"], rejected["__error"], strict=True))
    said = [by_value[line] for line in BAD.splitlines()[1:]]
    assert [any(word in text for word in words) for text, words in zip(said, _SAID, strict=True)] == [True] * 5, said
    assert logged(tmp_path)["__available_at"].is_sorted()


_SAID = (["malformed"], ["Expected `int`"], ["lies 1797.000 s after"], ["no time"], ["missing required field"])


def test_a_table_is_judged_in_the_words_of_the_bus(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {
            "card": ["a", None, "c", "d", "e"],
            "amount": ["1.5", "1", "", "NaN", "x"],
            "items": ["1", "2", "3.5", "4", "5"],
            "paid_at": ["2024-03-01T12:00:00Z"] * 5,
        }
    )
    rows.write_csv(tmp_path / "rows.csv", quote_style="never")
    with (tmp_path / "rows.csv").open("a") as opened:
        opened.write("too,few\n")
    load(tmp_path, "rows.csv", available_at="event_time+5m")
    found = logged(tmp_path)
    assert found.filter(pl.col("__verdict") == "accepted")["card"].to_list() == ["a", "d"]
    errors = " | ".join(found["__error"].drop_nulls())
    assert all(said in errors for said in ("`$.card`", "`$.items`", "another number of columns", "`$.amount`")), errors


class Kind(Enum):
    SALE = "sale"
    REFUND = "refund"


class Place(Event):
    city: str
    zip: str | None


class Order(Event, rename="camel"):
    order_kind: Kind
    channel: Literal["web", "shop"]
    place: Place
    tags: dict[str, int]
    parts: list[float]
    made_at: Annotated[datetime, Epoch("ms")]


def test_verdicts_and_fields_are_those_of_the_same_events_on_a_topic(tmp_path: Path) -> None:
    orders = Stream("orders", Order, event_time="made_at", available_at=after("5m"))
    made = [
        Order(Kind.SALE, "web", Place("Rome", None), {"x": 1}, [1.0], T0),
        Order(Kind.REFUND, "shop", Place("Oslo", "0150"), {}, [], T0 + timedelta(seconds=1)),
    ]
    table = pl.DataFrame(
        {
            "orderKind": ["sale", "refund", "gift"],
            "channel": ["web", "shop", "web"],
            "place": [{"city": "Rome", "zip": None}, {"city": "Oslo", "zip": "0150"}, {"city": "Rome", "zip": None}],
            "tags": [[{"key": "x", "value": 1}], [], []],
            "parts": [[1.0], [], []],
            "madeAt": [T0, T0 + timedelta(seconds=1), T0 + timedelta(seconds=2)],
        },
        schema_overrides={"tags": pl.List(pl.Struct({"key": pl.String, "value": pl.Int64}))},
    )
    table.write_parquet(tmp_path / "orders.parquet")
    load(tmp_path, "orders.parquet", stream=orders, available_at=None)
    found = logged(tmp_path, "orders")
    names = [field.name for field in orders.columns]
    good = found.filter(pl.col("__verdict") == "accepted").select(*names, "__available_at")
    assert good.equals(on_a_topic(orders, made).select(*names, "__available_at"))
    assert found["__reason"].to_list() == [None, None, "decode"]


def on_a_topic(stream: Stream, events: Sequence[Event]) -> pl.DataFrame:
    import numpy as np

    at = np.full(len(events), epoch_us(T0) + 600_000_000)
    values = [
        stream.format.writer(stream.topic, stream.event).write(written(stream, each), T0).value for each in events
    ]
    return RecordJudge(stream).rows(bytes(16), 0, PartitionRecords(np.arange(len(events)), at, [None], values), 0)


def written(stream: Stream, event: Event) -> object:
    from headrace.bus.written_events import written_events

    known = written_events(stream.event)
    return event if known is None else known.row(event)


def test_duplicates_are_found_within_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_import, "FILE_ROWS", 1)
    write(tmp_path, "1.parquet")
    write(tmp_path, "2.parquet", ROWS.with_columns(pl.col("arrived") + timedelta(minutes=1)))
    unique = replace(purchases, unique="items", within="1d")
    done = load(tmp_path, "*.parquet", stream=unique).record
    assert done is not None
    assert done.rejected == {"duplicate": 3}
    found = logged(tmp_path)["__verdict"].replace({"accepted": "first", "duplicate": "again"}).to_list()
    assert found == ["first", "again", "first", "first", "again", "again"]


def test_rows_from_the_boundary_on_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "rows.parquet")
    done = load(tmp_path, "rows.parquet", until=T0 + timedelta(minutes=2)).record
    assert done is not None
    assert (done.rows, done.left_out) == (1, 2)
    assert logged(tmp_path)["items"].to_list() == [1]


def test_the_boundary_is_the_first_row_that_came_by_the_topic(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    assert first_in_log(log, "purchases") is None
    write(tmp_path, "rows.parquet")
    load(tmp_path, "rows.parquet")
    assert first_in_log(log, "purchases") is None
    source, first = SourcePartition(0, b"k" * 16), epoch_us(T0) + 7
    values = [encode(Purchase("a", 1.0, 1, T0))]
    rows = RecordJudge(purchases).rows(
        source.topic_id, 0, PartitionRecords(_numbers([0]), _numbers([first]), [None], values), 0
    )
    LogWriter(log, purchases).append(rows, {source: None}, {source: 1})
    assert first_in_log(log, "purchases") == first


def _numbers(values: list[int]) -> np.ndarray:
    import numpy as np

    return np.array(values, np.int64)


def test_an_undone_import_is_gone_and_can_be_made_again(tmp_path: Path) -> None:
    write(tmp_path, "rows.parquet")
    first = load(tmp_path, "rows.parquet").record
    assert first is not None
    log = EventLog(tmp_path / "log")
    for _ in range(2):
        assert undo(log, "purchases", first.id, _NOW).state == "undone"
        assert logged(tmp_path).is_empty()
    again = load(tmp_path, "rows.parquet", at_us=_NOW + 1).record
    assert again is not None
    assert again.partition != first.partition
    assert [each.state for each in Imports(log).all()] == ["undone", "complete"]
    assert logged(tmp_path).height == 3
    with pytest.raises(SettingsError, match="has no import 'nothing'"):
        undo(log, "purchases", "nothing", _NOW)


def test_an_undo_leaves_the_rows_of_the_topic(tmp_path: Path) -> None:
    write(tmp_path, "rows.parquet")
    done = load(tmp_path, "rows.parquet").record
    assert done is not None
    log, source = EventLog(tmp_path / "log"), SourcePartition(0, b"k" * 16)
    writer = LogWriter(log, purchases)
    own = logged(tmp_path).with_columns(
        pl.lit(source.topic_id).alias("__topic_id"), pl.lit(0, pl.Int32).alias("__partition")
    )
    writer.append(own, {source: None}, {source: 3})
    undo(log, "purchases", done.id, _NOW)
    writer.append(own.with_columns(pl.col("__offset") + 3), {source: 3}, {source: 6})
    assert logged(tmp_path)["__offset"].to_list() == [0, 1, 2, 3, 4, 5]


def test_compaction_merges_files_of_imports_with_others_and_an_undo_still_finds_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_import, "FILE_ROWS", 1)
    write(tmp_path, "rows.parquet")
    done = load(tmp_path, "rows.parquet").record
    assert done is not None
    log, source = EventLog(tmp_path / "log"), SourcePartition(0, b"k" * 16)
    of_topic = {"__topic_id": pl.lit(source.topic_id), "__partition": pl.lit(0, pl.Int32)}
    LogWriter(log, purchases).append(logged(tmp_path).with_columns(**of_topic), {source: None}, {source: 3})
    before = logged(tmp_path)
    assert sum(compact(log, "purchases", 1, CompactionSizes(least_files=2))) == 4
    assert len(log.table("purchases").file_uris()) == 1
    assert logged(tmp_path).equals(before)
    assert LogWriter(log, purchases).position(done.partition) == 3
    undo(log, "purchases", done.id, _NOW)
    assert logged(tmp_path)["__topic_id"].to_list() == [source.topic_id] * 3


@pytest.mark.parametrize(
    ("stream", "said", "error"),
    [
        (purchases, None, "say since when"),
        (replace(purchases, available_at="paid_at"), "arrived", "leave the option out"),
    ],
)
def test_a_rule_of_availability_that_is_missing_or_double_is_refused(
    stream: Stream, said: str | None, error: str
) -> None:
    with pytest.raises(SettingsError, match=error):
        Availability.of(stream, said)


def test_a_malformed_delay_is_refused() -> None:
    with pytest.raises(DefinitionError, match="not a duration"):
        Availability.of(purchases, "event_time+soon")


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (ROWS.drop("items"), "has no column 'items'"),
        (ROWS.drop("arrived"), "--available-at arrived: the files have no such column"),
        (ROWS.with_columns(pl.col("paid_at").dt.replace_time_zone(None)), "say which with --zone UTC"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_before_anything_is_written(
    tmp_path: Path, rows: pl.DataFrame, error: str
) -> None:
    write(tmp_path, "rows.parquet", rows)
    with pytest.raises(SettingsError, match=error):
        load(tmp_path, "rows.parquet")
    assert not EventLog(tmp_path / "log").exists("purchases")


def test_times_without_a_zone_are_in_the_zone_that_is_given(tmp_path: Path) -> None:
    write(tmp_path, "rows.parquet", ROWS.with_columns(pl.col("paid_at", "arrived").dt.replace_time_zone(None)))
    load(tmp_path, "rows.parquet", zone="Europe/Berlin")
    assert logged(tmp_path)["paid_at"][0] == T0 - timedelta(hours=1)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("nothing.parquet", None, "there is no such file"),
        ("rows.txt", b"x", "--format"),
        ("rows.parquet", b"x", "is no parquet file, or is damaged"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, error: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=error):
        load(tmp_path, name)


def test_a_partitioned_delta_table_has_the_columns_of_its_partitions(tmp_path: Path) -> None:
    ROWS.write_delta(tmp_path / "table", delta_write_options={"partition_by": ["card", "items"]})
    load(tmp_path, "table")
    assert sorted(logged(tmp_path).select("card", "items").rows()) == [("a", 1), ("a", 3), ("b", 2)]


def test_times_and_decimals_that_polars_cannot_read_stop_no_import(tmp_path: Path) -> None:
    class Wide(Event):
        at: datetime
        price: Annotated[Decimal, Places(2)]

    seconds = [_NOW // 1_000_000, 9_000_000_000_000, _NOW // 1_000_000]
    times = pa.array(seconds, pa.timestamp("s", "UTC"))
    arrived = pa.array([seconds[0], seconds[0], 9_000_000_000_000_000], pa.timestamp("s", "UTC"))
    prices = pa.array([Decimal("1.50")] * 3, pa.decimal256(50, 2))
    pq.write_table(pa.table({"at": times, "price": prices, "arrived": arrived}), tmp_path / "f.parquet")
    load(tmp_path, "f.parquet", stream=Stream("wide", Wide, event_time="at"))
    rows = logged(tmp_path, "wide")
    assert sorted(rows["__error"].to_list(), key=str) == [
        "Invalid RFC3339 encoded datetime - at `$.at`", None, "the row has no time at which it was available"
    ]  # fmt: skip
    (good,) = rows.filter(pl.col("__verdict") == "accepted").iter_rows(named=True)
    assert (good["at"], good["price"]) == (T0, Decimal("1.50"))


def test_a_binary_column_of_a_text_is_its_text(tmp_path: Path) -> None:
    rows = ROWS.with_columns(card=pl.Series([b"a", b"\xff", b"a"]))
    write(tmp_path, "rows.parquet", rows)
    load(tmp_path, "rows.parquet")
    found = logged(tmp_path)
    assert found["card"].to_list() == ["a", "a", None]
    assert found["__error"].to_list() == [None, None, "Expected `str`, got `array` - at `$.card`"]


def test_a_line_that_is_nested_too_deeply_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"a":' * 5000 + b"1" + b"}" * 5000)
    load(tmp_path, "rows.jsonl")
    assert logged(tmp_path)["__error"].to_list() == ["the JSON is nested too deeply"]


def test_two_columns_of_one_name_a_zone_and_a_delay_that_cannot_be_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("card,card,amount,items,paid_at,arrived\n")
    with pytest.raises(SettingsError, match=r"rows.csv has two columns of one name, \['card'\]: rename one"):
        load(tmp_path, "rows.csv")
    with pytest.raises(SettingsError, match="--zone Mars/Base: 'Mars/Base' is no time zone: write a name of the IANA"):
        load(tmp_path, "rows.csv", zone="Mars/Base")
    with pytest.raises(SettingsError, match="the delay is longer than 36500d"):
        load(tmp_path, "rows.csv", available_at="event_time+99999999999999d")


def test_the_id_of_an_import_is_none_that_kafka_makes() -> None:
    source = import_partition(bytes(range(9)))
    assert source.topic_id.startswith(IMPORT_MARK)
    assert source.topic_id[6] >> 4 == 8, "a UUID of version 8: Kafka's are of version 4"
    assert SourcePartition.from_text(source.text) == source
    assert SourcePartition.from_field(source.field) == source
    assert 1 << 16 <= source.partition < 1 << 17
    assert not SourcePartition(0, b"k" * 16).is_import
