"""A folder as a source: which files are read and when, their rows, the rejected ones, and what is remembered."""

from __future__ import annotations

import gzip
import json
import threading
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from headrace.bus.formats.json_format import Json
from headrace.errors import (
    BusUnavailableError,
    DataFolderInUseError,
    OfflineStoreUnavailableError,
    RefusedError,
    SettingsError,
    TerminalError,
)
from headrace.streams.imports.source_file import SourceFile
from headrace.streams.ingest.file_rows import FileRows
from headrace.streams.ingest.folder_source import FolderOptions, FolderSource
from headrace.streams.ingest.produced_files import ProducedFile, ProducedFiles
from tests.support.payments_stream import Payment, payments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

AT = "2023-11-14T12:00:00Z"


def line(card: Any, amount: Any = 1.5, at: Any = AT) -> bytes:
    return json.dumps({"card": card, "amount": amount, "at": at}).encode()


class RecordingProducer:
    """Keeps what is sent. ``error`` is raised by the next flush."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.flushed: list[str] = []
        self.error: Exception | None = None
        self.after_send: Callable[[], None] = lambda: None

    def send(self, _: object, event: Payment) -> None:
        if event.card == "large":
            raise TerminalError("a message of 9 bytes cannot be produced: too large")
        self.sent.append(event.card)
        self.after_send()

    def flush(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.flushed = list(self.sent)


class Scene:
    """A folder, its source, and a clock that stands still until a test moves it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.inbox, self.state = folder / "inbox", folder / "state"
        self.inbox.mkdir(exist_ok=True)
        self.now_s = 0.0
        self.producer = RecordingProducer()
        producer: Any = self.producer
        self.produced = ProducedFiles(self.state)
        self.source = FolderSource(
            FolderOptions("shop", self.inbox, **options), payments(Json()), producer, self.produced,
            clock=lambda: self.now_s,
        )  # fmt: skip
        self.stopping = threading.Event()

    def put(self, name: str, *lines: bytes) -> Path:
        path = self.inbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\n".join(lines))
        return path

    def look(self) -> list[str]:
        """What is sent by a look at a folder that has not changed for long."""
        before = len(self.producer.sent)
        self.source.look(self.stopping)
        self.now_s += 10
        self.source.look(self.stopping)
        return self.producer.sent[before:]

    def rejected(self) -> list[dict[str, Any]]:
        files = sorted((self.state / "rejected").glob("*.jsonl"))
        return [json.loads(each) for file in files for each in file.read_text().splitlines()]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene(tmp_path)
    yield found
    found.produced.close()


def rows_of(path: Path, form: Any, zone: str | None = None) -> list[tuple[int, str | None, str]]:
    found = FileRows(payments(Json()), zone).of(SourceFile(str(path), form, path.stat().st_size))
    return [(row.line, None if row.event is None else row.event.card, row.reason) for row in found]  # type: ignore[attr-defined]


def test_each_line_of_json_is_an_event_or_rejected_with_its_number_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([line("a"), b"", line("b", "x"), b"{", line(None), b"\xff", line("c")]))
    rows = rows_of(path, "jsonl")
    assert [(number, card) for number, card, _ in rows] == [
        (1, "a"),
        (3, None),
        (4, None),
        (5, None),
        (6, None),
        (7, "c"),
    ]
    assert "$.amount" in rows[1][2]
    assert all(reason for _, card, reason in rows if card is None)


def test_rows_of_csv_and_parquet_are_events(tmp_path: Path) -> None:
    csv = tmp_path / "a.csv"
    csv.write_text(f"card,amount,at,more\na,1,{AT},\nb,2\nc,three,{AT},\nd,4,{AT},z\n")
    assert [(number, card) for number, card, _ in rows_of(csv, "csv")] == [(2, "a"), (4, None), (5, "d"), (3, None)]
    parquet = tmp_path / "a.parquet"
    frame = pl.DataFrame({"card": ["a", None], "amount": [1.0, 2.0], "at": ["2023-11-14 12:00:00"] * 2})
    frame.with_columns(pl.col("at").str.to_datetime()).write_parquet(parquet)
    assert [(number, card) for number, card, _ in rows_of(parquet, "parquet", "UTC")] == [(1, "a"), (2, None)]
    assert [card for _, card, _ in rows_of(parquet, "parquet")] == [None, None]  # a time without a zone


def test_a_file_that_is_damaged_or_lacks_a_column_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line("a") * 99)[:-9])
    (tmp_path / "b.csv").write_text("card,at\n")
    for name, form in (("a.jsonl.gz", "jsonl"), ("b.csv", "csv")):
        with pytest.raises(SettingsError, match=name):
            rows_of(tmp_path / name, form)


def test_new_files_are_produced_in_the_order_of_their_names_and_once(scene: Scene) -> None:
    scene.put("b.jsonl", line("b1"), line("b2"))
    scene.put("a.jsonl", line("a"))
    scene.put("below/c.jsonl", line("c"))
    for ignored in (".hidden.jsonl", "_half.jsonl", "a.txt", "a.jsonl.tmp"):
        scene.put(ignored, line("no"))
    assert scene.look() == ["a", "b1", "b2", "c"]
    assert scene.look() == []
    scene.put("d.jsonl", line("d"))
    scene.put("again.jsonl", line("a"))  # the content of a.jsonl
    assert scene.look() == ["d"]
    assert scene.producer.flushed == scene.producer.sent


def test_a_file_that_changes_waits_until_it_is_complete(scene: Scene) -> None:
    path = scene.put("a.jsonl", line("a"))
    scene.source.look(scene.stopping)
    scene.now_s += 1.9
    scene.source.look(scene.stopping)
    path.write_bytes(line("a") + b"\n" + line("b"))
    scene.now_s += 1.9
    scene.source.look(scene.stopping)
    assert scene.producer.sent == []
    assert scene.look() == ["a", "b"]


def test_a_produced_file_is_remembered_and_a_line_cut_short_is_taken_away(tmp_path: Path, scene: Scene) -> None:
    scene.put("a.jsonl", line("a"), b"{")
    scene.look()
    scene.produced.close()
    with (scene.state / "files.jsonl").open("ab") as opened:
        opened.write(b'{"sha256":"ab')
    again = Scene(tmp_path)
    assert again.look() == []
    again.put("b.jsonl", line("b"))
    assert again.look() == ["b"]
    again.produced.close()
    files = [json.loads(each) for each in (scene.state / "files.jsonl").read_bytes().splitlines()]
    assert [(each["file"], each["rows"], each["rejected"]) for each in files] == [("a.jsonl", 1, 1), ("b.jsonl", 1, 0)]


def test_a_file_is_remembered_only_after_the_flush(tmp_path: Path, scene: Scene) -> None:
    scene.put("a.jsonl", line("a"), b"{")
    scene.producer.error = BusUnavailableError("Kafka is away")
    with pytest.raises(BusUnavailableError):
        scene.look()
    assert scene.rejected() == []
    assert not (scene.state / "files.jsonl").exists()
    scene.producer.error = BusUnavailableError("Kafka is still away")
    with pytest.raises(BusUnavailableError):
        scene.look()
    assert scene.producer.sent == ["a"]  # while Kafka is away, nothing is added to what it has to take
    assert scene.look() == ["a"]
    assert len(scene.rejected()) == 1


def test_rejected_rows_are_kept_with_their_bytes_and_other_rows_go_on(scene: Scene) -> None:
    scene.put("a.jsonl", line("a"), b'{"card": 7}', line("large"), b"\xff\xfe", line("b"))
    assert scene.look() == ["a", "b"]
    found = scene.rejected()
    assert [(each["line"], each.get("row"), each.get("row_base64")) for each in found] == [
        (2, '{"card": 7}', None), (3, line("large").decode(), None), (4, None, "//4="),
    ]  # fmt: skip
    assert {each["file"] for each in found} == {str(scene.inbox / "a.jsonl")}
    assert all(each["reason"] for each in found)


def test_a_file_that_cannot_be_produced_holds_up_no_other(scene: Scene) -> None:
    scene.put("a.csv", b"card,at")
    (scene.inbox / "b.parquet").write_bytes(b"no")
    scene.put("c.jsonl", line("c"))
    assert scene.look() == ["c"]
    scene.put("a.csv", f"card,amount,at\na,1,{AT}\n".encode())
    assert scene.look() == ["a"]


def test_a_file_that_kafka_refuses_is_named_and_not_sent_again(scene: Scene) -> None:
    scene.put("a.jsonl", line("a"))
    scene.put("b.jsonl", line("b"))
    scene.producer.error = RefusedError("too large for the topic", [])
    with pytest.raises(RefusedError):
        scene.look()
    assert scene.producer.flushed == ["a", "b"]
    assert scene.look() == []
    assert [each.file for each in scene.produced.all] == ["b.jsonl"]


def test_a_stop_ends_a_file_where_it_is(scene: Scene) -> None:
    scene.put("a.jsonl", line("a"), line("b"))
    scene.source.look(scene.stopping)
    scene.now_s += 10
    scene.producer.after_send = scene.stopping.set
    scene.source.look(scene.stopping)
    assert scene.producer.sent == ["a"]
    assert scene.produced.all == []


def test_a_folder_that_is_gone_is_an_error_that_names_it(scene: Scene) -> None:
    scene.inbox.rmdir()
    with pytest.raises(OfflineStoreUnavailableError, match=r"'shop'.*is no folder"):
        scene.source.look(scene.stopping)


def test_two_processes_cannot_run_one_source(tmp_path: Path, scene: Scene) -> None:
    with pytest.raises(DataFolderInUseError, match="another `headrace ingest` runs the source 'state'"):
        ProducedFiles(tmp_path / "state")
    scene.produced.close()
    own = ProducedFiles(tmp_path / "state")
    own.add(ProducedFile(sha256="a", file="f", rows=1, rejected=0))
    own.close()
    (tmp_path / "state" / "files.jsonl").write_text("no\n")
    with pytest.raises(SettingsError, match=r"files\.jsonl cannot be read"):
        ProducedFiles(tmp_path / "state")
