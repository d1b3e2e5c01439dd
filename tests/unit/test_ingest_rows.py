"""Rows of databases without one: how far they may be read, what is remembered of them, and records that are refused."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headrace.bus.formats.json_format import Json
from headrace.errors import BusUnavailableError, DataFolderInUseError, RefusedError, SettingsError
from headrace.streams.ingest.event_sender import EventSender
from headrace.streams.ingest.postgres_source import WatermarkPosition
from headrace.streams.ingest.read_bounds import ReadBounds, Running
from headrace.streams.ingest.source_state import SourceState, rejected_entry
from tests.support.payments_stream import payments
from tests.support.recording_producer import RecordingProducer

if TYPE_CHECKING:
    from pathlib import Path

POSITION = WatermarkPosition(of="t by u, id", watermark="2026-03-02 09:00:00+00", key=["7"])


def running(*open_now: str, prepared: tuple[str, ...] = ()) -> Running:
    return Running(frozenset(open_now), frozenset(prepared))


def test_the_newest_bound_that_waits_for_nothing_is_read() -> None:
    bounds = ReadBounds(lag_s=2.0, longest_s=60.0)
    bounds.add("1", 0.0, running("a"))
    bounds.add("2", 1.0, running("a", "b"))
    bounds.add("3", 2.0, running("c"))
    assert bounds.usable(3.0, running("b", "c")) == "1"
    bounds.was_read()
    assert bounds.usable(3.5, running("c")) == "2"
    assert bounds.usable(3.6, running("c")) == "2"  # until it was read
    bounds.was_read()
    assert bounds.usable(9.0, running("c")) is None
    assert bounds.usable(9.0, running("d")) == "3"
    assert not bounds.was_given_up


def test_a_bound_is_left_alone_for_the_lag_and_given_up_after_the_longest_wait() -> None:
    bounds = ReadBounds(lag_s=2.0, longest_s=60.0)
    bounds.add("1", 0.0, running())
    assert bounds.usable(1.9, running()) is None
    assert bounds.usable(2.0, running("a")) == "1"
    bounds.was_read()
    bounds.add("1", 3.0, running())  # nothing is new
    assert bounds.usable(9.0, running()) is None
    bounds.add("2", 10.0, running("a"))
    assert bounds.usable(69.9, running("a")) is None
    assert bounds.usable(70.0, running("a")) == "2"
    assert bounds.was_given_up


def test_an_open_transaction_that_becomes_a_prepared_one_is_waited_for() -> None:
    bounds = ReadBounds(lag_s=0.0, longest_s=60.0)
    bounds.add("1", 0.0, running("a"))
    assert bounds.usable(1.0, running(prepared=("p",))) is None
    assert bounds.usable(2.0, running("b", prepared=("p", "q"))) is None
    assert bounds.usable(3.0, running("b", prepared=("q",))) == "1"  # q began later


def test_a_long_transaction_lets_no_more_than_a_hundred_bounds_wait() -> None:
    bounds = ReadBounds(lag_s=0.0, longest_s=1e9)
    for number in range(1000):
        bounds.add(str(number), float(number), running("a"))
    assert bounds.usable(2000.0, running()) == "99"


def test_a_position_is_replaced_as_a_whole_and_read_again(tmp_path: Path) -> None:
    state = SourceState(tmp_path / "shop")
    assert state.position(WatermarkPosition) is None
    state.keep(POSITION)
    state.keep(msgspec.structs.replace(POSITION, key=["8"]))
    with pytest.raises(DataFolderInUseError, match="another `headrace ingest` runs the source 'shop'"):
        SourceState(tmp_path / "shop")
    state.close()
    again = SourceState(tmp_path / "shop")
    found = again.position(WatermarkPosition)
    assert found is not None
    assert found.key == ["8"]
    (tmp_path / "shop" / "position.json").write_text("{")
    with pytest.raises(SettingsError, match=r"position\.json cannot be read.*Remove .* to read everything again"):
        again.position(WatermarkPosition)
    again.close()


def test_rejected_rows_keep_their_bytes_and_a_line_that_was_cut_short_stays_alone(tmp_path: Path) -> None:
    state = SourceState(tmp_path)
    state.reject([])
    assert not state.rejected.exists()
    state.reject([rejected_entry("1", "no", b"{"), rejected_entry("2", "no", b"\xff")])
    with state.rejected.open("ab") as opened:
        opened.write(b'{"at":"3"')
    state.reject([rejected_entry("4", "no", b"x")])
    lines = state.rejected.read_bytes().splitlines()
    assert [json.loads(lines[place]) for place in (0, 1, 3)] == [
        {"at": "1", "reason": "no", "row": "{"},
        {"at": "2", "reason": "no", "row_base64": "/w=="},
        {"at": "4", "reason": "no", "row": "x"},
    ]
    state.close()


def sender() -> tuple[EventSender, RecordingProducer]:
    producer: Any = RecordingProducer()
    return EventSender(payments(Json()), producer), producer


def event(card: str) -> Any:
    return SimpleNamespace(card=card)


def test_one_record_of_a_refused_batch_that_is_refused_alone_is_rejected() -> None:
    own, producer = sender()
    producer.refused = lambda each: each.card == "b"
    own.begin()
    assert [own.send(event(card)) for card in "abc"] == ["", "", ""]
    ((record, reason),) = own.flush()
    assert "'b'" in (record.value or b"").decode()
    assert "too large" in reason
    assert [each.card for each in producer.flushed] == ["a", "c"]


def test_the_rest_of_an_attempt_goes_first() -> None:
    own, producer = sender()
    own.begin()
    own.send(event("a"))
    producer.error = BusUnavailableError("away")
    with pytest.raises(BusUnavailableError):
        own.flush()
    producer.error = BusUnavailableError("still away")
    with pytest.raises(BusUnavailableError):
        own.begin()
    own.begin()
    assert [each.card for each in producer.flushed] == ["a"]
    assert own.flush() == []


def test_a_missing_right_is_no_fault_of_a_record() -> None:
    own, producer = sender()
    own.begin()
    own.send(event("a"))
    producer.error = RefusedError("Kafka's user lacks the right Write", [object()], lacks_right=True)
    with pytest.raises(RefusedError, match="lacks the right"):
        own.flush()
