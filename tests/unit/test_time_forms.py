"""Times that are not RFC 3339 text in the records of a topic: numbers since 1970, and text in a form of one's own."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import Epoch, Event, Stream, TimeText
from headrace.bus.codec import Decoder
from headrace.bus.event_reader import EventReader
from headrace.bus.producer import _record
from headrace.bus.stream_spec import FieldSpec
from headrace.errors import CodecError, DefinitionError
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

NOON = datetime(2023, 11, 14, 12, tzinfo=UTC)
moments = st.datetimes(datetime(1971, 1, 1), datetime(9990, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


class Payment(Event, rename="camel"):
    card_id: str
    paid_at: Annotated[datetime, Epoch("ms")]
    booked_on: Annotated[datetime, TimeText("%d.%m.%Y %H:%M", zone="Europe/Berlin")] | None = None
    seen_at: datetime | None = None


payments = Stream("payments", Payment, event_time="paid_at", key="card_id")


def written(**content: Any) -> bytes:
    return msgspec.json.encode({"cardId": "c", **content})


@given(moments, st.none() | moments, st.none() | moments)
def test_a_record_that_was_produced_is_read_as_the_same_event(
    paid: datetime, booked: datetime | None, seen: datetime | None
) -> None:
    event = Payment("c", paid, booked, seen)
    value = _record(payments, event, None).value
    found = EventReader(payments).read(value)
    assert isinstance(found, Payment)
    assert found.paid_at == paid - timedelta(microseconds=paid.microsecond % 1_000)
    assert found.seen_at == seen
    assert (found.booked_on is None) == (booked is None)
    if booked is not None and found.booked_on is not None:
        assert timedelta() <= booked - found.booked_on < timedelta(minutes=1) or booked.utcoffset() is None
    columns = Decoder(payments).columns(Decoder(payments).decode([value, value])[0])
    assert columns.to_dicts() == [msgspec.structs.asdict(found)] * 2


@given(st.sampled_from(["s", "ms", "us"]), moments)
def test_a_number_since_1970_is_the_time_to_the_unit(unit: Any, moment: datetime) -> None:
    form = Epoch(unit)
    step = {"s": timedelta(seconds=1), "ms": timedelta(milliseconds=1), "us": timedelta(microseconds=1)}[unit]
    assert timedelta() <= moment - form.read(form.write(moment)) < step


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("s", 1_699_963_200, NOON),
        ("s", 1_699_963_200.25, NOON + timedelta(milliseconds=250)),
        ("ms", 1_699_963_200_001, NOON + timedelta(milliseconds=1)),
        ("ns", 1_699_963_200_000_001_999, NOON + timedelta(microseconds=1)),
        ("s", -1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_numbers_are_these_times(unit: Any, value: float, expected: datetime) -> None:
    assert Epoch(unit).read(value) == expected


def test_json_has_the_numbers_and_the_texts() -> None:
    value = _record(payments, Payment("c", NOON, NOON), None).value
    assert value is not None
    assert msgspec.json.decode(value) == {
        "cardId": "c", "paidAt": 1_699_963_200_000, "bookedOn": "14.11.2023 13:00", "seenAt": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"paidAt": 1_699_963_200}, r"lies in 1970, or before.*Epoch\(unit='ms'\).*\$\.paid_at"),
        ({"paidAt": 0}, "lies in 1970"),
        ({"paidAt": 1_699_963_200_000_000}, r"53,870 years from 1970.*\$\.paid_at"),
        ({"paidAt": msgspec.Raw(b"1e400")}, "out of range"),
        ({"paidAt": msgspec.Raw(b"1" * 400)}, r"^1{30} … 340 characters are left out … 1{30} ms is .* years from 1970"),
        ({"paidAt": "2023-11-14T12:00:00Z"}, "Expected `int | float`, got `str`"),
        ({"paidAt": None}, "got `null`"),
        ({"paidAt": 1_699_963_200_000, "bookedOn": "2023-11-14"}, r"'2023-11-14' is no time in the form.*booked_on"),
        ({}, "missing required field `paidAt`"),
    ],
)
def test_wrong_times_are_told_with_the_value_the_form_and_the_place(content: dict[str, Any], says: str) -> None:
    payload = written(**content)
    with pytest.raises(CodecError, match=says):
        EventReader(payments).read(payload)
    assert EventReader(payments).rows([written(paidAt=1_699_963_200_000), payload]) is None


def test_nanoseconds_beyond_64_bits_are_times_too() -> None:
    class Planned(Event):
        at: Annotated[datetime, Epoch("ns")]

    decoder = Decoder(Stream("planned", Planned, event_time="at"))
    rows, _, errors = decoder.decode([b'{"at":10000000000000001999}', b'{"at":1699963200000001999}'])
    assert errors == {}
    assert decoder.columns(rows).get_column("at").to_list() == [
        datetime(2286, 11, 20, 17, 46, 40, 1, tzinfo=UTC), NOON + timedelta(microseconds=1),
    ]  # fmt: skip


@given(
    st.lists(st.sampled_from([0.0, 1.7e12, float("nan"), float("inf"), -float("inf"), 1_699_963_200_000]), max_size=4)
)
def test_numbers_fit_together_if_each_of_them_fits(values: list[float]) -> None:
    assert Epoch("ms").fits(values) == all(Epoch("ms").fits([value]) for value in values)
    assert Epoch("ms").fits(values) == all(map(math.isfinite, values))


def test_a_wrong_record_is_a_dead_letter_and_holds_up_no_other() -> None:
    import numpy as np

    values = [written(paidAt=1_699_963_200_000), written(paidAt=1_699_963_200), written(paidAt=1_699_963_200_500)]
    records = PartitionRecords(np.arange(3), np.full(3, 1_699_963_300_000_000), [None] * 3, values)
    rows = RecordJudge(payments).rows(b"t" * 16, 0, records, 0)
    assert rows.get_column("__verdict").to_list() == ["accepted", "rejected", "accepted"]
    assert rows.get_column("__value").to_list() == [None, values[1], None]
    assert rows.get_column("paid_at").to_list() == [NOON, None, NOON + timedelta(milliseconds=500)]


def test_the_form_is_in_the_spec_and_a_stream_without_one_has_the_bytes_that_it_had() -> None:
    assert [field.time_form for field in payments.spec.fields][1:3] == ["epoch:ms", "text:Europe/Berlin:%d.%m.%Y %H:%M"]
    plain = FieldSpec(name="a", kind="int", many=False, nullable=False)
    assert msgspec.json.encode(plain) == b'{"name":"a","kind":"int","many":false,"nullable":false}'


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Epoch("minutes"), "give 's', 'ms', 'us' or 'ns'"),  # type: ignore[arg-type]
        (lambda: TimeText("%H:%M"), "no day, month and year"),
        (lambda: TimeText("%d.%m.%Y", zone="Berlin"), "'Berlin' is no time zone"),
    ],
)
def test_wrong_forms_are_refused(make: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        make()


def test_a_form_is_only_for_a_datetime() -> None:
    class Wrong(Event):
        amount: Annotated[float, Epoch("ms")]

    with pytest.raises(DefinitionError, match=r"Wrong\.amount: Epoch\(unit='ms'\) is the form of a datetime"):
        _ = Stream("wrong", Wrong, event_time="amount").fields
