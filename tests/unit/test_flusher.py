"""What one partition's fence refuses is no loss of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import OfflineStoreUnavailableError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.flusher import Flusher
from tests.support.logged_sales import SOURCES, rows, sales

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


FENCED = SOURCES[1]


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path)


@pytest.fixture
def flusher(log: EventLog) -> Iterator[Flusher]:
    flusher = Flusher(LogWriter(log, sales), lambda: 0.0)
    for source in SOURCES:
        flusher.open(source)
    yield flusher
    flusher.shutdown()


def test_a_flush_that_one_partition_refuses_commits_the_rows_of_the_others(log: EventLog, flusher: Flusher) -> None:
    LogWriter(log, sales).append(rows(FENCED, 0, 4), {FENCED: None}, {FENCED: 4})
    for source in SOURCES:
        flusher.add(source, rows(source, 0, 7), 7)
    result = flusher.flush()
    assert result.fenced == [FENCED]
    assert [commit.rows for commit in result.commits] == [14]
    assert flusher.pending == 0
    assert flusher.positions() == {source: 4 if source == FENCED else 7 for source in SOURCES}
    assert log.read("sales").get_column("__partition").value_counts().sort("__partition").rows() == [
        (0, 7),
        (1, 4),
        (2, 7),
    ]


def test_a_partition_that_was_fenced_goes_on_from_where_the_log_stands(log: EventLog, flusher: Flusher) -> None:
    LogWriter(log, sales).append(rows(FENCED, 0, 4), {FENCED: None}, {FENCED: 4})
    flusher.add(FENCED, rows(FENCED, 0, 7), 7)
    assert flusher.flush().fenced == [FENCED]
    with flusher.keeping(FENCED) as kept:
        assert kept == []
    flusher.add(FENCED, rows(FENCED, 4, 3), 7)
    assert flusher.flush().fenced == []
    assert log.read("sales").get_column("__offset").sort().to_list() == list(range(7))


def test_results_of_a_call_that_raises_are_returned_by_the_next_call(
    log: EventLog, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    LogWriter(log, sales).append(rows(FENCED, 0, 4), {FENCED: None}, {FENCED: 4})
    for source in SOURCES:
        flusher.add(source, rows(source, 0, 7), 7)
    append, calls = LogWriter.append, iter((True, False))

    def away_the_second_time(*args: Any) -> None:
        if not next(calls, True):
            raise OfflineStoreUnavailableError("away")
        append(*args)

    monkeypatch.setattr(LogWriter, "append", away_the_second_time)
    with pytest.raises(OfflineStoreUnavailableError):
        flusher.flush()
    result = flusher.flush()
    assert (result.fenced, [commit.rows for commit in result.commits]) == ([FENCED], [14])
