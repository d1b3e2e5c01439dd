"""Event classes that are proposed from a sample of records, or from a registered schema: their text runs and reads."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from headrace import Debezium, Event, Stream
from headrace.bus.event import fields, leaves
from headrace.bus.event_reader import EventReader
from headrace.bus.formats.cloud_events import CloudEvents
from headrace.bus.formats.json_schema import json_schema
from headrace.bus.schemas.avro_schema import avro_schema
from headrace.bus.schemas.proposed_event import ProposedEvent, source
from headrace.bus.schemas.pulled_event import pulled_event
from headrace.bus.schemas.schema_registry import RegisteredSchema
from headrace.bus.schemas.topic_proposal import proposal
from headrace.bus.written_events import written_events
from headrace.errors import TerminalError

HINTS = ("card", "amount", "createdAt", "paid_at", "orderId", "class", "ts", "is-web", "Tags", "note", "items")


def message(value: Any, key: bytes | None = None, headers: Any = None) -> Message:
    data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return Message(topic="shop.payments", partition=0, offset=0, key=key, value=data, headers=headers)


def proposed(rows: list[Any], keys: list[bytes | None] | None = None) -> dict[str, Any]:
    """What the proposed text defines."""
    found = keys or [None] * len(rows)
    return run(proposal("shop.payments", [message(row, key) for row, key in zip(rows, found, strict=True)]))


def run(text: str) -> dict[str, Any]:
    world: dict[str, Any] = {"__name__": "proposed"}
    exec(compile(text, "proposal", "exec", dont_inherit=True), world)
    return {"text": text, **world}


ROWS = [
    {
        "cardId": "c7" if number % 2 else "c8",
        "amount": 12.5 if number % 3 else 7,
        "paidAt": 1_699_963_200_000 + number,
        "channel": ["web", "shop", "phone"][number % 3],
        "bookedOn": "2023-11-14",
        "price": "12.50",
        "ref": str(UUID(int=number)),
        "seenAt": "2023-11-14T12:00:00Z",
        "localTime": "2023-11-14 12:00:00",
        "isNew": True,
        "card": {"country": "DE", "limit": None if number else 5},
        "lines": [{"sku": "a", "count": 1}],
        "tags": ["a"] if number else [],
        "count": number,
        "nothing": None,
        "mixed": "a" if number else 1,
        **({"note": f"n{number} "} if number % 2 else {}),
    }
    for number in range(60)
]


def test_a_sample_gives_types_units_nulls_and_the_few_values_of_a_text() -> None:
    found = proposed(ROWS, [str(row["cardId"]).encode() for row in ROWS])
    (stream,) = [each for each in found.values() if isinstance(each, Stream)]
    assert {each.name: each.kind for each in leaves(fields(stream.event))} == {
        "card_id": "str", "amount": "float", "paid_at": "datetime", "channel": "str", "booked_on": "date",
        "price": "decimal", "ref": "str", "seen_at": "datetime", "local_time": "datetime", "is_new": "bool",
        "card.country": "str", "card.limit": "int", "lines": "event", "tags": "str", "count": "int", "note": "str",
    }  # fmt: skip
    assert (stream.topic, stream.event_time, stream.key_fields) == ("shop.payments", "paid_at", ("card_id",))
    assert 'class Payments(Event, rename="camel"):' in found["text"]
    assert 'Literal["phone", "shop", "web"]' in found["text"]
    assert 'paid_at: Annotated[datetime, Epoch("ms")]' in found["text"]
    assert "note: str | None = None" in found["text"]
    assert "# mixed: of several types (int, str): left out" in found["text"]
    assert "# nothing: always null: left out" in found["text"]
    event: Any = EventReader(stream).read(json.dumps(ROWS[1]).encode())
    assert event.paid_at == datetime(2023, 11, 14, 12, 0, 0, 1_000, tzinfo=UTC)
    assert (event.price, event.booked_on, event.card.country, event.lines[0].sku) == (
        Decimal("12.50"), date(2023, 11, 14), "DE", "a",
    )  # fmt: skip


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(1_600_000_000_000, 1_700_000_000_000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["a", "b", "", '"', "2023-11-14", "2023-11-14T12:00:00Z", "1.5", "-7.25", "2023-11-14 12:00:00"]),
    st.uuids().map(str),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(HINTS), inner, max_size=3),
    max_leaves=6,
)
samples = st.lists(st.dictionaries(st.sampled_from(HINTS), values, max_size=5), min_size=1, max_size=25)


@given(samples)
def test_a_proposed_class_reads_every_record_that_it_was_proposed_from(rows: list[dict[str, Any]]) -> None:
    found = proposed(rows)
    event = found["Payments"]
    assert issubclass(event, Event)
    if event.__struct_fields__:
        fields(event)  # each of them is a column
    written = written_events(event)
    for row in rows:
        msgspec.json.decode(json.dumps(row), type=event if written is None else written.written)


def test_names_that_python_does_not_take_are_renamed() -> None:
    found = proposed(
        [{"class": "a", "2nd": 1, "card.id": "b", "cardId": "c", "card_id": "d", "at": "2023-11-14T12:00:00Z"}]
    )
    event = found["Payments"]
    assert event.__struct_encode_fields__ == ("class", "2nd", "card.id", "cardId", "card_id", "at")
    assert len(set(event.__struct_fields__)) == 6


def test_a_field_with_the_name_of_a_type_hides_it_from_no_other() -> None:
    rest = {
        "at": "2023-11-14T12:00:00Z",
        "bytes": 5,
        "date": "2023-11-14",
        "day": "2023-11-14",
        "str": "a b",
        "text": "c d",
    }
    event = proposed([rest, {"at": "2023-11-14T12:00:00Z"}])["Payments"]
    assert event.__struct_encode_fields__ == ("at", "bytes", "date", "day", "str", "text")
    assert [each.kind for each in fields(event)] == ["datetime", "int", "date", "date", "str", "str"]
    assert [each.nullable for each in fields(event)] == [False, True, True, True, True, True]


@pytest.mark.parametrize(
    ("records", "written"),
    [
        ([message({"op": "c", "after": {"at": "2023-11-14T12:00:00Z"}})], Debezium()),
        ([message({"schema": {}, "payload": {"op": "u", "after": {"at": "2023-11-14T12:00:00Z"}}})], Debezium()),
        ([message({"specversion": "1.0", "data": {"at": "2023-11-14T12:00:00Z"}})], CloudEvents()),
        ([message({"at": "2023-11-14T12:00:00Z"}, headers=[("ce_specversion", b"1.0")])], CloudEvents()),
    ],
)
def test_envelopes_are_found_out(records: list[Message], written: Any) -> None:
    found = run(proposal("shop.payments", records))
    assert found["shop_payments"].format == written
    assert found["Payments"].__struct_fields__ == ("at",)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([], "no record with a value"),
        ([message(None)], "no record with a value"),
        ([message(b"\0\0\0\0\x07abc")], "`headrace schema pull shop.payments-value`"),
        ([message(b"a,b")], r"no record of shop.payments is a JSON object.*b'a,b'"),
        ([message([1])], "is a JSON object"),
    ],
)
def test_a_topic_of_which_nothing_can_be_proposed_is_told(records: list[Message], says: str) -> None:
    with pytest.raises(TerminalError, match=says):
        proposal("shop.payments", records)


def test_a_topic_without_a_time_has_a_class_and_no_stream() -> None:
    found = proposed([{"a": 1}])
    assert "no stream of shop.payments yet" in found["text"]


# -- from a registered schema -----------------------------------------------------------------------------------------

AVRO = {
    "type": "record",
    "name": "Payment",
    "namespace": "shop",
    "fields": [
        {"name": "cardId", "type": "string"},
        {"name": "paidAt", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "huge", "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}},
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
        {"name": "ref", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["WEB", "SHOP"]}},
        {"name": "other", "type": ["null", "Channel"]},
        {"name": "line", "type": {"type": "record", "name": "Line", "fields": [{"name": "sku", "type": "int"}]}},
        {"name": "lines", "type": {"type": "array", "items": ["null", "shop.Line"]}},
        {"name": "counts", "type": {"type": "map", "values": "long"}},
        {"name": "raw", "type": {"type": "fixed", "name": "Two", "size": 2}},
        {"name": "either", "type": ["int", "string"]},
        {"name": "later", "type": {"type": "int", "logicalType": "time-millis"}},
    ],
}


def pulled(kind: Any, document: Any) -> ProposedEvent:
    return pulled_event(RegisteredSchema(7, kind, json.dumps(document)))


def test_an_avro_schema_gives_the_class_of_its_records() -> None:
    event = pulled("AVRO", AVRO)
    found = run(source(event, {"event_time": '"paid_at"', "format": "Avro()"}, "shop.payments"))
    kinds = {each.name: (each.kind, each.nullable, each.many, each.keyed) for each in fields(found["Payment"])}
    assert kinds == {
        "card_id": ("str", False, False, False), "paid_at": ("datetime", False, False, False),
        "amount": ("decimal", False, False, False), "huge": ("float", False, False, False),
        "ref": ("str", False, False, False), "channel": ("str", False, False, False),
        "other": ("str", True, False, False), "line": ("event", False, False, False),
        "lines": ("event", False, True, False), "counts": ("int", False, False, True),
        "raw": ("bytes", False, False, False), "day": ("date", True, False, False),
    }  # fmt: skip
    assert "# either: a union of several types: left out" in found["text"]
    assert "# later: a time-millis: left out" in found["text"]
    assert found["shop_payments"].spec.format == "avro"


class Line(Event):
    sku: str
    count: int = 0


class Order(Event, rename="camel"):
    order_id: int
    at: datetime
    amount: float
    line: Line
    lines: list[Line]
    tags: dict[str, str]
    day: date | None = None
    is_new: bool | None = None


@pytest.mark.parametrize(("kind", "schema"), [("AVRO", avro_schema(Order)), ("JSON", json_schema(Order))])
def test_the_schema_of_an_event_class_gives_the_class_again(kind: Any, schema: Any) -> None:
    found = run(source(pulled(kind, schema), {}, "orders"))
    again = {each.name: (each.kind, each.nullable, each.many, each.keyed) for each in fields(found["Order"])}
    assert again == {each.name: (each.kind, each.nullable, each.many, each.keyed) for each in fields(Order)}
    assert 'class Order(Event, rename="camel"):' in found["text"]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_words_of_a_schema_are_remarks_and_never_code(end: str) -> None:
    kind = f"none{end}raise SystemExit{end}"
    at = {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}
    logical = {"type": "int", "logicalType": kind}
    members = [at, {"name": "a", "type": kind}, {"name": "b", "type": logical}]
    found = run(source(pulled("AVRO", {"type": "record", "name": "Order", "fields": members}), {}, "orders"))
    assert "# a: of the type none raise SystemExit: left out" in found["text"]
    found = run(
        source(pulled("JSON", {"title": kind, "properties": {"a": {"type": kind}, "b": {"enum": [kind]}}}), {}, "o")
    )
    assert "# a: of the type none raise SystemExit: left out" in found["text"]


def test_a_schema_that_holds_itself_is_told() -> None:
    loop = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    with pytest.raises(TerminalError, match="schema id 7 holds itself"):
        pulled("AVRO", loop)


def test_a_schema_without_fields_is_told() -> None:
    with pytest.raises(TerminalError, match='is "string", not a record'):
        pulled("AVRO", "string")
    with pytest.raises(TerminalError, match="make the message's class with protoc"):
        pulled_event(RegisteredSchema(7, "PROTOBUF", 'syntax = "proto3";'))
