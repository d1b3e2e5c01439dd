"""The verdict on a record depends on the record and the stream's spec alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from headrace.base.times import epoch_us
from headrace.bus.event import Event
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream, after
from headrace.event_log.columns import log_schema
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.plane.rejected_copies import copies_of
from headrace.streams.views.logged_rows import LoggedRows

if TYPE_CHECKING:
    import polars as pl

START = datetime(2013, 1, 1, tzinfo=UTC)
START_US = epoch_us(START)
TOPIC_ID = bytes(range(16))


class Sale(Event):
    """One field of each kind that a payload may get wrong."""

    shop: str | None
    at: datetime
    pieces: int = 0
    amount: float | None = None
    till: int | None = None
    tags: list[str] | None = None
    codes: list[int] | None = None
    times: list[datetime] | None = None
    seen: datetime | None = None


sales = Stream("sales", Sale, event_time="at", key="shop", tolerance="10m")
GOOD = b'{"shop":"a","at":"2013-01-01T00:00:00Z","pieces":2}'


def records(*values: bytes | None, seconds: int = 0, first: int = 100) -> PartitionRecords:
    """Consecutive records with keys k0, k1, …, a second apart."""
    count = len(values)
    times = START_US + (np.arange(count) + seconds) * 1_000_000
    return PartitionRecords(np.arange(first, first + count), times, [b"k%d" % n for n in range(count)], values)


def judged(*values: bytes | None, stream: Stream = sales, clock_us: int = NO_CLOCK) -> pl.DataFrame:
    """Their rows."""
    return RecordJudge(stream).rows(TOPIC_ID, 3, records(*values), clock_us)


def sale(**changes: Any) -> bytes:
    """A payload of plain JSON fragments by field name."""
    fields = {"shop": '"a"', "at": '"2013-01-01T00:00:00Z"'} | changes
    return ("{" + ",".join(f'"{name}":{text}' for name, text in fields.items() if text is not None) + "}").encode()


BAD = {
    "nothing": b"",
    "blank": b"  ",
    "no json": b"hello",
    "no object": b"[]",
    "null": b"null",
    "half": GOOD[:20],
    "other half": GOOD[20:],
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "two objects": GOOD + GOOD,
    "two objects, two lines": GOOD + b"\n" + GOOD,
    "an object and half a one": GOOD + b"\n" + GOOD[:20],
    "half in a string": b'{"shop":"}',
    "begin in a string": b'{"}',
    "trailing comma": GOOD[:-1] + b",}",
    "wrong type": sale(pieces='"two"'),
    "float for int": sale(pieces="1.5"),
    "missing field": sale(at=None),
    "invalid utf-8": sale().replace(b'"a"', b'"\xff\xfe"'),
    "surrogate in utf-8": sale().replace(b'"a"', b'"\xed\xa0\x80"'),
    "lone surrogate": sale(shop='"\\ud800"'),
    "line end in a string": sale(shop='"a\nb"'),
    "beyond int64": sale(pieces=str(2**63)),
    "below int64": sale(pieces=str(-(2**63) - 1)),
    "nullable beyond int64": sale(till="1" + "0" * 30),
    "list beyond int64": sale(codes=f"[1,{2**63}]"),
    "digits without end": sale(pieces="1" * 10_000),
    "beyond float64": sale(amount="1e400"),
    "not a number": sale(amount="NaN"),
    "naive time": sale(at='"2013-01-01T00:00:00"'),
    "naive time in a list": sale(times='["2013-01-01T00:00:00Z","2013-01-01T00:00:00"]'),
    "naive nullable time": sale(seen='"2013-01-01T00:00:00"'),
    "date for a time": sale(at='"2013-01-01"'),
    "leap second": sale(at='"2012-12-31T23:59:60Z"'),
    "nested without end": sale(more="[" * 100_000 + "]" * 100_000),
}
FINE = {
    "plain": GOOD,
    "blanks around": b" " + GOOD + b"\t\r\n",
    "pretty": b'{\n "shop": "a",\n "at": "2013-01-01T00:00:00Z"\n}',
    "unknown field": sale(more='{"x":{"y":["}{"]}}'),
    "unknown invalid utf-8": sale(more='"?"').replace(b"?", b"\xff"),
    "int64 bounds": sale(pieces=str(2**63 - 1), till=str(-(2**63))),
    "line end escaped": sale(shop='"a\\nb"'),
    "nul and astral": sale(shop='"\\u0000\\ud83d\\ude00"'),
    "offset": sale(at='"2013-01-01T02:00:00+02:00"', seen='"2013-01-01T02:00:00+02:00"'),
    "first moment of all": sale(at='"0001-01-01T00:00:00+14:00"'),
    "lists": sale(tags='["x","}\\n{"]', codes=f"[{2**63 - 1},{-(2**63)}]", times='["2013-01-01T02:00:00+02:00"]'),
}


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD)
def test_an_undecodable_record_is_rejected_with_its_bytes(payload: bytes) -> None:
    rows = judged(GOOD, payload, GOOD)
    assert rows["__verdict"].to_list() == ["accepted", "rejected", "accepted"]
    assert rows["__reason"].to_list() == [None, "decode", None]
    assert rows["__error"][1]
    assert rows["__key"].to_list() == [None, b"k1", None]
    assert rows["__value"].to_list() == [None, payload, None]
    assert rows.select(name for name in rows.columns if not name.startswith("__")).row(1) == (None,) * 9


@pytest.mark.parametrize("payload", FINE.values(), ids=FINE)
def test_a_decodable_record_is_accepted(payload: bytes) -> None:
    rows = judged(payload, GOOD)
    assert rows["__verdict"].to_list() == ["accepted", "accepted"]
    assert rows["__value"].to_list() == [None, None]


def test_judged_rows_have_the_columns_of_the_log() -> None:
    assert dict(judged(GOOD).schema) == log_schema(sales)
    assert dict(judged(b"").schema) == log_schema(sales)
    rows = judged(GOOD, None)
    assert rows["__offset"].to_list() == [100, 101]
    assert rows["__topic_id"].to_list() == [TOPIC_ID] * 2
    assert rows["__partition"].to_list() == [3, 3]
    assert rows["__record_timestamp"].to_list() == [START, START + timedelta(seconds=1)]
    assert rows["pieces"].to_list() == [2, None]


def test_a_tombstone_is_rejected_without_bytes() -> None:
    rows = judged(None)
    assert rows.select("__reason", "__key", "__value").row(0) == ("decode", b"k0", None)
    assert "tombstone" in rows["__error"][0]


def test_a_key_field_without_value_is_rejected() -> None:
    rows = judged(sale(shop="null"), GOOD)
    assert rows["__reason"].to_list() == ["missing_key", None]
    assert rows["__error"][0] == "key field 'shop' is null"
    assert rows["__value"][0] == sale(shop="null")


@pytest.mark.parametrize(("at", "reason"), [("2013-01-01T00:10:00Z", None), ("2013-01-01T00:10:00.000001Z", "future")])
def test_an_event_time_may_lie_after_the_record_by_the_tolerance(at: str, reason: str | None) -> None:
    rows = judged(sale(at=f'"{at}"'))
    assert rows["__reason"].to_list() == [reason]


def test_the_first_reason_of_a_rejection_stays() -> None:
    rows = judged(sale(shop="null", at='"9999-12-31T23:59:59-14:00"'))
    assert rows["__reason"].to_list() == ["missing_key"]


def test_times_are_exact_microseconds_whatever_their_neighbours() -> None:
    exact = sale(seen='"2299-12-31T23:59:59.999999Z"')
    for values in ([exact], [exact, None], [exact, b"", sale(seen="null")]):
        assert judged(*values)["seen"][0] == datetime(2299, 12, 31, 23, 59, 59, 999_999, UTC)


# -- available_at -----------------------------------------------------------------------------------------------------


def available(rows: pl.DataFrame) -> list[float]:
    """Seconds after the start."""
    return [(moment - START).total_seconds() for moment in rows["__available_at"]]


def test_available_at_is_the_running_maximum_of_record_timestamps() -> None:
    times = START_US + np.array([5, 3, 9, 2]) * 1_000_000
    given = PartitionRecords(np.arange(4), times, [None] * 4, [GOOD, b"", GOOD, GOOD])
    assert available(RecordJudge(sales).rows(TOPIC_ID, 0, given, NO_CLOCK)) == [5, 5, 9, 9]
    assert available(RecordJudge(sales).rows(TOPIC_ID, 0, given, START_US + 7_000_000)) == [7, 7, 9, 9]


def test_available_at_of_history_is_event_time_and_a_delay() -> None:
    bulk = Stream("sales", Sale, event_time="at", available_at=after("5m"))
    rows = judged(sale(at='"2013-01-01T00:00:02Z"'), b"", GOOD, stream=bulk, clock_us=START_US)
    assert available(rows) == [302, 302, 302]


class Loaded(Event):
    """An event that says itself when it could be known."""

    at: datetime
    known: datetime


loaded = Stream("loaded", Loaded, event_time="at", available_at="known", tolerance="10m")


def load(at: str, known: str) -> bytes:
    return f'{{"at":"2013-01-01T{at}Z","known":"2013-01-01T{known}Z"}}'.encode()


def test_available_at_may_be_a_field_that_may_not_lie_in_the_future_either() -> None:
    rows = judged(
        load("00:00:00", "00:00:09"), load("00:00:00", "00:10:02"), load("00:00:00", "00:00:01"), stream=loaded
    )
    assert rows["__reason"].to_list() == [None, "future", None]
    assert "'known'" in rows["__error"][1]
    assert available(rows) == [9, 9, 9]


def test_an_event_may_not_lie_beyond_what_makes_it_available_by_more_than_the_tolerance() -> None:
    rows = judged(
        load("00:00:09", "00:00:09"), load("00:00:00", "00:00:01"), load("00:10:01", "00:00:01"),
        load("00:10:02", "00:00:01"), stream=loaded,
    )  # fmt: skip
    assert rows["__reason"].to_list() == [None, None, None, "future"]
    assert rows["__error"][3] == "'at' lies 601.000 s after 'known', since when it is available"


def test_a_rejected_row_moves_no_clock_by_what_it_says() -> None:
    rows = judged(load("23:00:00", "00:00:09"), load("00:00:00", "00:00:01"), stream=loaded, clock_us=START_US)
    assert rows["__reason"].to_list() == ["future", None]
    assert available(rows) == [0, 1]


def test_an_event_is_late_when_its_partition_is_further_on_than_the_streams_lateness() -> None:
    stream = Stream("sales", Sale, event_time="at", tolerance="10m", lateness="10s")
    times = START_US + np.array([9, 10, 11, 0, 5]) * 1_000_000
    late, on_time = sale(at='"2012-12-31T23:59:59Z"'), sale(at='"2013-01-01T00:00:01Z"')
    given = PartitionRecords(np.arange(5), times, [None] * 5, [late, late, on_time, on_time, b"?"])
    logged = LoggedRows.from_rows(RecordJudge(stream).rows(TOPIC_ID, 0, given, NO_CLOCK), "at")
    assert logged.late(stream.spec.lateness_us).tolist() == [0]
    further = LoggedRows.from_rows(RecordJudge(stream).rows(TOPIC_ID, 0, given, START_US + 11_000_001), "at")
    assert further.late(stream.spec.lateness_us).tolist() == [0] * 4
    assert LoggedRows.from_rows(further.rows.clear(), "at").late(stream.spec.lateness_us).tolist() == []


class Strict(Event):
    """An event class of a user that shows all bytes in its error."""

    shop: str
    at: datetime

    def __post_init__(self) -> None:
        raise ValueError(f"not a shop: {self.shop}")


def test_the_text_of_an_error_is_short_however_large_the_record_is() -> None:
    shop = "x" * 1_000_000
    rows = judged(sale(shop=f'"{shop}"'), stream=Stream("strict", Strict, event_time="at"))
    error = rows.get_column("__error").item()
    assert error.startswith("not a shop: xxx")
    assert "characters are left out" in error
    (copy,) = copies_of("strict", SourcePartition(3, TOPIC_ID), rows)
    assert sum(map(len, copy.headers.values())) < 5_000, "a copy may be little larger than its record"
    assert copy.value == sale(shop=f'"{shop}"')
