"""History from an object store, into an event log on it: found by name, folder and pattern, read, and committed."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import obstore
import polars as pl
import pytest

from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.errors import SettingsError
from headrace.event_log.event_log import EventLog
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.history_import import HistoryImport, ImportOptions, ImportOutcome, undo
from headrace.streams.imports.source_file import find_files
from tests.support.artifact_servers import BUCKET
from tests.support.s3_processes import s3_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
T0 = datetime(2024, 1, 1, tzinfo=UTC)


class Scan(Event):
    number: int
    at: datetime


scans = Stream("scans", Scan, event_time="at")


@pytest.fixture(autouse=True)
def _s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with s3_process() as address:
        for name, value in {**CREDENTIALS, "AWS_ALLOW_HTTP": "true", "AWS_ENDPOINT_URL": address}.items():
            monkeypatch.setenv(name, value)
        yield


@contextmanager
def _silent(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def put(folder: Path, name: str, numbers: range) -> None:
    rows = pl.DataFrame({"number": numbers, "at": [T0 + timedelta(seconds=number) for number in numbers]})
    file = folder / "file"
    if name.endswith("parquet"):
        rows.write_parquet(file)
    else:
        rows.with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(file)
    obstore.put(obstore.store.from_url(f"s3://{BUCKET}"), name, file.read_bytes())


def load(folder: Path, *names: str) -> ImportOutcome:
    options = ImportOptions(Availability.of(scans, "event_time+5m"))
    log = EventLog(f"s3://{BUCKET}/log")
    run = HistoryImport(log, scans, folder / "spool", options, _silent)
    return run.run(find_files([f"s3://{BUCKET}/{name}" for name in names]), 0)


def test_files_of_a_bucket_enter_a_log_in_it_once_and_leave_it_again(tmp_path: Path) -> None:
    put(tmp_path, "history/1.parquet", range(10, 20))
    put(tmp_path, "history/deep/2.csv", range(10))
    put(tmp_path, "history/notes.txt", range(1))
    names = [file.name.rpartition(f"{BUCKET}/")[2] for file in find_files([f"s3://{BUCKET}/history"])]
    assert names == ["history/1.parquet", "history/deep/2.csv"]
    assert [file.size > 0 for file in find_files([f"s3://{BUCKET}/history/*.parquet"])] == [True]
    done = load(tmp_path, "history")
    log = EventLog(f"s3://{BUCKET}/log")
    assert log.read("scans")["number"].to_list() == list(range(20))
    assert load(tmp_path, "history/1.parquet").record is None
    assert done.record is not None
    undo(log, "scans", done.record.id, 1)
    assert log.read("scans").is_empty()
    with pytest.raises(SettingsError, match="there is no such file"):
        find_files([f"s3://{BUCKET}/nothing.parquet"])
