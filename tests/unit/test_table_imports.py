"""Files of a table: which rows are deleted, and what is said of a column that does not say it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from headrace import Debezium, Event, Stream, Table
from headrace.errors import SettingsError
from headrace.event_log.event_log import EventLog
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.history_import import HistoryImport, ImportOptions
from headrace.streams.imports.source_file import find_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Customer(Event):
    id: int
    plan: str
    at: datetime


CUSTOMERS = Table("customers", Customer, key="id", format=Debezium())
AT = "2026-01-01T00:00:0{0}Z"


@contextmanager
def silent(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def imported(folder: Path, stream: Stream = CUSTOMERS, **options: Any) -> list[tuple[Any, ...]]:
    """What the log has of the files of the folder."""
    log = EventLog(folder / "log")
    own = ImportOptions(Availability.of(stream, options.pop("available", "at")), **options)
    HistoryImport(log, stream, folder / "spool", own, silent).run(find_files([str(folder / "files")]), 0)
    return list(log.read("customers").select("__verdict", "__op", "id", "plan").iter_rows())


def put(folder: Path, name: str, text: str) -> None:
    (folder / "files").mkdir(exist_ok=True)
    (folder / "files" / name).write_text(text)


LINES = f"""{{"id": 1, "plan": "gold", "at": "{AT.format(1)}"}}
{{"id": 2, "plan": "free", "at": "{AT.format(2)}", "gone": true}}
{{"id": 3, "at": "{AT.format(3)}", "gone": true}}
{{"id": 4, "plan": "free", "at": "{AT.format(4)}", "gone": null}}
{{
"""


def test_a_row_is_there_unless_the_column_says_that_it_is_deleted(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", LINES)
    assert imported(tmp_path, deleted="gone") == [
        ("accepted", "upsert", 1, "gold"),
        ("accepted", "delete", 2, None),
        ("rejected", "delete", None, None),  # its row is not whole
        ("accepted", "upsert", 4, "free"),
        ("rejected", "upsert", None, None),
    ]


def test_without_the_option_all_rows_are_there(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", LINES)
    assert [op for _, op, *_ in imported(tmp_path)] == ["upsert"] * 5


def test_a_column_of_csv_is_true_in_any_letters(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", f"id,plan,at,gone\n1,gold,{AT.format(1)},\n2,free,{AT.format(2)},TRUE\n")
    assert imported(tmp_path, deleted="gone") == [
        ("accepted", "upsert", 1, "gold"), ("accepted", "delete", 2, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("no", "--deleted no: the files have no such column"),
        ("plan", "--deleted plan: the column has 'gold'; write true, false or nothing"),
    ],
)
def test_a_column_that_does_not_say_it_is_an_error(tmp_path: Path, column: str, said: str) -> None:
    put(tmp_path, "a.csv", f"id,plan,at\n1,gold,{AT.format(1)}\n")
    with pytest.raises(SettingsError, match=said):
        imported(tmp_path, deleted=column)


def test_a_number_is_neither_true_nor_false(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    frame = pl.DataFrame({"id": [1], "plan": ["gold"], "at": [datetime(2026, 1, 1, tzinfo=UTC)], "gone": [1]})
    frame.write_parquet(tmp_path / "files" / "a.parquet")
    with pytest.raises(SettingsError, match="--deleted gone: the column is Int64; it has to be true or false"):
        imported(tmp_path, deleted="gone")
    put(tmp_path, "a.jsonl", LINES.replace('"gone": true', '"gone": 1'))
    (tmp_path / "files" / "a.parquet").unlink()
    with pytest.raises(SettingsError, match="--deleted gone: a line has no true or false there"):
        imported(tmp_path, deleted="gone")


def test_only_a_table_has_deletes_and_only_an_event_time_has_a_delay(tmp_path: Path) -> None:
    put(tmp_path, "a.jsonl", LINES)
    events = Stream("customers", Customer, event_time="at", key="id")
    with pytest.raises(SettingsError, match="--deleted gone: 'customers' is no table, and its events stay"):
        imported(tmp_path, events, deleted="gone")
    with pytest.raises(SettingsError, match="the table 'customers' has no event time; name a column of the files"):
        imported(tmp_path, available="event_time+5m")
