"""Formats whose records name a schema in a schema registry: Avro, JSON Schema, Protobuf."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any

import fastavro
import msgspec
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import given
from hypothesis import strategies as st

from headrace import Avro, Debezium, Epoch, Event, JsonSchema, Places, Protobuf, Stream, field
from headrace.bus.codec import Decoder
from headrace.bus.event_reader import EventReader
from headrace.bus.formats.registry_record import head_of
from headrace.bus.producer import _record
from headrace.bus.schemas.avro_schema import avro_schema
from headrace.bus.schemas.confluent_schema_registry import ConfluentSchemaRegistry
from headrace.bus.schemas.message_names import index_bytes, indexes, message_names
from headrace.bus.schemas.registry_access import SchemaRegistryAccess
from headrace.bus.schemas.schema_store import SchemaStore
from headrace.errors import CodecError, DefinitionError, SchemaRegistryUnavailableError, SettingsError
from tests.support.payment_messages import TEXT, LineMessage, PaymentMessage, RefundMessage
from tests.support.payments_stream import NOON, PAYMENT, ROW, Payment, payments
from tests.support.schema_registries import HttpSchemaRegistry, MemorySchemaRegistry, http_schema_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.bus.formats.record_format import RecordFormat

CONTEXT = SerializationContext("payments", MessageField.VALUE)
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Payment",
    "namespace": "shop",
    "fields": [
        {"name": "card", "type": "string"},
        {"name": "amount", "type": "double"},
        {"name": "at", "type": MILLIS},
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}
CONTENT = {"card": "c7", "amount": 12.5, "at": NOON, "note": "tea"}


@pytest.fixture
def registry() -> MemorySchemaRegistry:
    return MemorySchemaRegistry()


@pytest.fixture
def schemas(registry: MemorySchemaRegistry) -> SchemaStore:
    return SchemaStore(registry)


@pytest.fixture
def server() -> Iterator[HttpSchemaRegistry]:
    with http_schema_registry() as found:
        yield found


def avro(content: Any, schema: Any, number: int) -> bytes:
    target = BytesIO()
    fastavro.schemaless_writer(target, fastavro.parse_schema(schema), content)
    return head_of(number) + target.getvalue()


def reader(written: RecordFormat, schemas: SchemaStore, event: type[Event] = Payment) -> EventReader:
    return EventReader(Stream("payments", event, event_time="at", format=written), schemas)


def with_field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": name, "type": kind, **more}]}


# -- the same bytes as confluent-kafka's serializers, both ways -------------------------------------------------------


def of_confluent(of: str, server: HttpSchemaRegistry) -> tuple[RecordFormat, Any, Any, Any]:
    """A format, its serializer and deserializer, and what these take for a payment."""
    client = SchemaRegistryClient({"url": server.url})
    if of == "avro":
        return Avro(), AvroSerializer(client, json.dumps(SCHEMA)), AvroDeserializer(client), CONTENT
    if of == "jsonschema":
        text = json.dumps({"title": "Payment", "type": "object", "properties": {"card": {"type": "string"}}})
        return JsonSchema(), JSONSerializer(text, client, lambda row, _: row), JSONDeserializer(text), ROW
    message = PaymentMessage(card="c7", amount=12.5, note="tea", channel=1)
    message.at.FromDatetime(NOON)
    return (
        Protobuf(PaymentMessage),
        ProtobufSerializer(PaymentMessage, client),
        ProtobufDeserializer(PaymentMessage),
        message,
    )


@pytest.mark.parametrize("of", ["avro", "jsonschema", "protobuf"])
def test_a_record_of_the_serializer_of_confluent_is_read(of: str, server: HttpSchemaRegistry) -> None:
    written, serializer, _, content = of_confluent(of, server)
    schemas = SchemaStore(ConfluentSchemaRegistry(SchemaRegistryAccess(server.url)))
    value = serializer(content, CONTEXT)
    assert reader(written, schemas).read(value) == PAYMENT
    assert reader(written, schemas).rows([value, value]) == [PAYMENT, PAYMENT]


@pytest.mark.parametrize("of", ["avro", "jsonschema", "protobuf"])
def test_a_record_of_a_producer_is_read_by_the_deserializer_of_confluent(of: str, server: HttpSchemaRegistry) -> None:
    written, _, deserializer, content = of_confluent(of, server)
    schemas = SchemaStore(ConfluentSchemaRegistry(SchemaRegistryAccess(server.url)))
    stream = payments(written)
    value = _record(stream, PAYMENT, None, written.writer("payments", Payment, schemas)).value
    found = deserializer(value, CONTEXT)
    if of == "protobuf":
        content.channel = 0  # the event has none
    if of == "jsonschema":
        content = {**content, "at": "2023-11-14T12:00:00Z"}
    assert found == content
    assert list(server.subjects) == ["payments-value"]
    assert reader(written, schemas).read(value) == PAYMENT


def test_a_record_is_keyed_and_named_as_one_in_json() -> None:
    schemas = SchemaStore(MemorySchemaRegistry())
    record = _record(payments(Avro()), PAYMENT, None, Avro(subject="own").writer("payments", Payment, schemas))
    assert (record.topic, record.key, record.more) == ("payments", b"c7", {})
    assert schemas.registry.latest("own") is not None


# -- Avro -------------------------------------------------------------------------------------------------------------


class Line(Event):
    name: str
    cents: int = 0


class Rich(Event):
    at: datetime
    price: float
    exact: Annotated[Decimal, Places(2)]
    day: date
    raw: bytes
    line: Line
    lines: list[Line | None]
    counts: dict[str, int]
    paid_by: uuid.UUID
    ref: str
    micros: datetime
    size: int = 0
    tags: list[str] = msgspec.field(default_factory=list)
    card: str = "none"


def test_logical_types_are_the_kinds_of_the_event(registry: MemorySchemaRegistry, schemas: SchemaStore) -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}
    line = {"type": "record", "name": "L", "fields": [{"name": "name", "type": "string"}]}
    kinds = {
        "at": MILLIS,
        "price": decimal,
        "exact": decimal,
        "raw": {"type": "fixed", "name": "Two", "size": 2},
        "line": line,
        "lines": {"type": "array", "items": ["null", "L"]},
        "counts": {"type": "map", "values": "long"},
        "paid_by": {"type": "string", "logicalType": "uuid"},
        "ref": ["null", {"type": "string", "logicalType": "uuid"}],
        "micros": {"type": "long", "logicalType": "timestamp-micros"},
        "size": "int",
        "tags": {"type": "array", "items": "string"},
        "day": {"type": "int", "logicalType": "date"},
    }
    schema = {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in kinds.items()]}
    one = uuid.UUID(int=7)
    micros = datetime(2023, 11, 14, 12, 0, 0, 123_456, tzinfo=UTC)
    content = {
        "at": NOON, "price": Decimal("12.34"), "paid_by": str(one), "ref": str(one), "micros": micros, "size": 3,
        "tags": ["a"], "day": date(2023, 11, 14), "exact": Decimal("0.10"), "raw": b"ab", "line": {"name": "a"},
        "lines": [None, {"name": "b"}], "counts": {"a": 1},
    }  # fmt: skip
    rest = Decimal("0.10"), date(2023, 11, 14), b"ab", Line("a"), [None, Line("b")], {"a": 1}
    found = reader(Avro(), schemas, Rich).read(avro(content, schema, registry.add(schema)))
    assert found == Rich(NOON, 12.34, *rest, one, str(one), micros, 3, ["a"])


def test_an_event_of_all_kinds_is_read_as_it_was_produced(schemas: SchemaStore) -> None:
    event = Rich(
        NOON, 0.5, Decimal("12.30"), date(2023, 11, 14), b"ab", Line("a", 7), [Line("b"), None], {"a": 1},
        uuid.UUID(int=7), "ref", NOON, 3, ["a"],
    )  # fmt: skip
    stream = Stream("rich", Rich, event_time="at", format=Avro())
    value = _record(stream, event, None, Avro().writer("rich", Rich, schemas)).value
    assert reader(Avro(), schemas, Rich).read(value) == event
    wrong = msgspec.structs.replace(event, exact=Decimal("12.345"))
    with pytest.raises(CodecError, match="cannot be written in Avro"):
        _record(stream, wrong, None, Avro().writer("rich", Rich, schemas))


def test_a_field_at_another_place_is_not_written_in_avro() -> None:
    class Deep(Event):
        at: datetime
        card: str = field(path="data.card")

    with pytest.raises(DefinitionError, match=r"card stands at data\.card in the record"):
        avro_schema(Deep)


def test_a_number_since_1970_without_a_logical_type_is_a_time_by_its_unit(
    registry: MemorySchemaRegistry, schemas: SchemaStore
) -> None:
    class Plain(Event):
        at: Annotated[datetime, Epoch("ms")]

    schema = {"type": "record", "name": "P", "fields": [{"name": "at", "type": "long"}]}
    found = reader(Avro(), schemas, Plain).read(avro({"at": 1_699_963_200_000}, schema, registry.add(schema)))
    assert found == Plain(NOON)
    value = _record(Stream("p", Plain, event_time="at"), Plain(NOON), None, Avro().writer("p", Plain, schemas)).value
    assert value == head_of(2) + avro({"at": 1_699_963_200_000}, schema, 1)[5:]


def test_records_of_several_schemas_are_one_stream(registry: MemorySchemaRegistry, schemas: SchemaStore) -> None:
    """Fields come, go, get wider, and get another name with the old one as an alias."""
    old = registry.add(SCHEMA)
    wide = {
        **SCHEMA,
        "fields": [{**each, "type": "float"} if each["name"] == "amount" else each for each in SCHEMA["fields"]],
    }
    less = {**SCHEMA, "fields": SCHEMA["fields"][:3]}
    renamed = {**SCHEMA, "fields": [{"name": "card_id", "type": "string", "aliases": ["card"]}, *SCHEMA["fields"][1:]]}
    more = with_field("shop", "string")
    reads = reader(Avro(), schemas)

    class Noted(Payment, kw_only=True):
        note: str | None = None

    values = [
        avro(CONTENT, SCHEMA, old),
        avro({**CONTENT, "shop": "s"}, more, registry.add(more)),
        avro(CONTENT, wide, registry.add(wide)),
        avro({**CONTENT, "card_id": "c7"}, renamed, registry.add(renamed)),
    ]
    assert reads.rows(values) == [PAYMENT] * 4
    assert reads.read(avro(CONTENT, less, registry.add(less))) == msgspec.structs.replace(PAYMENT, note=None)
    assert registry.asked == [1, 2, 3, 4, 5], "each schema is asked for once"


@pytest.mark.parametrize(
    ("schema", "content", "says"),
    [
        ({**SCHEMA, "fields": SCHEMA["fields"][1:]}, CONTENT, r"missing required field `card` \(schema id 1\)"),
        (
            {**SCHEMA, "fields": [{"name": "card", "type": "long"}, *SCHEMA["fields"][1:]]},
            {**CONTENT, "card": 7},
            r"Expected `str`, got `int` - at `\$.card` \(schema id 1\)",
        ),
        ("string", "text", r"Expected `object`, got `str` \(schema id 1\)"),
    ],
)
def test_a_schema_that_does_not_fit_the_event_is_named(
    registry: MemorySchemaRegistry, schemas: SchemaStore, schema: Any, content: Any, says: str
) -> None:
    value = avro(content, schema, registry.add(json.dumps(schema)))
    with pytest.raises(CodecError, match=says):
        reader(Avro(), schemas).read(value)
    assert reader(Avro(), schemas).rows([value]) is None


def test_a_schema_may_use_others(registry: MemorySchemaRegistry, server: HttpSchemaRegistry) -> None:
    from confluent_kafka.schema_registry import Schema, SchemaReference

    note = {"type": "enum", "name": "Note", "namespace": "shop", "symbols": ["tea", "milk"]}
    main = {**SCHEMA, "fields": [*SCHEMA["fields"][:3], {"name": "note", "type": ["null", "shop.Note"]}]}
    client = SchemaRegistryClient({"url": server.url})
    client.register_schema("note", Schema(json.dumps(note), "AVRO"))
    number = client.register_schema(
        "payments-value", Schema(json.dumps(main), "AVRO", [SchemaReference("shop.Note", "note", 1)])
    )
    body = avro(CONTENT, SCHEMA, number)[:-5] + b"\x02\x00"  # the first symbol in place of the text
    schemas = SchemaStore(ConfluentSchemaRegistry(SchemaRegistryAccess(server.url)))
    assert reader(Avro(), schemas).read(body) == PAYMENT


@given(st.integers(0, 60))
def test_avro_that_is_cut_short_is_told(kept: int) -> None:
    registry = MemorySchemaRegistry()
    whole = avro(CONTENT, SCHEMA, registry.add(SCHEMA))
    reads = reader(Avro(), SchemaStore(registry))
    if kept >= len(whole):
        assert reads.read(whole) == PAYMENT
        return
    with pytest.raises(CodecError, match=r"cut short.*\(schema id 1\)" if kept >= 5 else "does not begin with"):
        reads.read(whole[:kept])


def test_bytes_after_the_record_are_told(registry: MemorySchemaRegistry, schemas: SchemaStore) -> None:
    value = avro(CONTENT, SCHEMA, registry.add(SCHEMA)) + b"ab"
    with pytest.raises(CodecError, match="2 bytes are left over"):
        reader(Avro(), schemas).read(value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_a_dead_letter(
    number: float, registry: MemorySchemaRegistry, schemas: SchemaStore
) -> None:
    """In a tile it would hide all other numbers of the window."""
    value = avro({**CONTENT, "amount": number}, SCHEMA, registry.add(SCHEMA))
    with pytest.raises(CodecError, match=r"The number is NaN or infinite.* - at `\$\.amount`"):
        reader(Avro(), schemas).read(value)
    assert reader(Avro(), schemas).rows([value]) is None
    registry.add(TEXT, "PROTOBUF")
    message = PaymentMessage(card="c7", amount=number)
    message.at.FromDatetime(NOON)
    with pytest.raises(CodecError, match=r"The number is NaN or infinite.* - at `\$\.amount`"):
        reader(Protobuf(PaymentMessage), schemas).read(protobuf(message, (1,), 2))


def test_a_time_that_is_nan_is_a_dead_letter_also_among_others(
    registry: MemorySchemaRegistry, schemas: SchemaStore
) -> None:
    class Timed(Event):
        at: Annotated[datetime, Epoch("ms")]

    schema = {"type": "record", "name": "T", "fields": [{"name": "at", "type": "double"}]}
    number = registry.add(schema)
    good, wrong = (avro({"at": at}, schema, number) for at in (1_699_963_200_000.0, float("nan")))
    decoder = Decoder(Stream("timed", Timed, event_time="at", format=Avro()), schemas)
    for values, kept in (([good, wrong], [0]), ([wrong, good], [1]), ([wrong], [])):
        rows, positions, errors = decoder.decode(values)
        assert positions.tolist() == kept
        assert list(errors.values()) == ["nan is no time - at `$.at`"]
        assert decoder.columns(rows).height == len(kept)


def test_a_decimal_is_exact_also_beyond_the_digits_of_its_schema_and_a_long_one_is_refused(
    registry: MemorySchemaRegistry, schemas: SchemaStore
) -> None:
    class Priced(Event):
        at: datetime
        price: Annotated[Decimal, Places(2)]

    price = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
    members = [{"name": "at", "type": MILLIS}, {"name": "price", "type": price}, {"name": "other", "type": price}]
    schema: dict[str, Any] = {"type": "record", "name": "P", "fields": members}
    start = avro({"at": NOON, "price": Decimal(0), "other": Decimal(0)}, schema, registry.add(schema))[:-4]
    value = start + b"\x06" + (1_234_567).to_bytes(3, "big") + b"\x02\x00"
    assert reader(Avro(), schemas, Priced).read(value) == Priced(NOON, Decimal("12345.67"))
    long = start + b"\x02\x00" + b"\x80\x80\x28" + b"\x7f" * 327_680
    with pytest.raises(CodecError, match="A decimal of the record has 327680 bytes; at most 400 are read"):
        reader(Avro(), schemas, Priced).read(long)


def record(name: str, *kinds: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": f"f{n}", "type": kind} for n, kind in enumerate(kinds)]}


def doubled(depth: int) -> Any:
    """A record of two records, of two records each, and so on, down to nulls."""
    found: Any = "null"
    for number in range(depth):
        found = record(f"R{number}", found, f"R{number - 1}" if number else "null")
    return found


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        ({"type": "array", "items": "null"}, b"\x80\x80\x80\x80\x80\x80\x80\x80\x01\x00", "take no bytes"),
        ({"type": "array", "items": record("Empty")}, b"\x80\x80\x80\x80\x80\x80\x80\x80\x01\x00", "take no bytes"),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, b"\x00", "take no bytes"),
        (record("Node", ["null", "Node"]), b"\x02" * 900_000 + b"\x00", "Node' may be in itself"),
        (record("Tree", {"type": "array", "items": "Tree"}), b"\x02" * 900_000, "Tree' may be in itself"),
        (record("Map", {"type": "map", "values": "Map"}), b"\x00", "Map' may be in itself"),
        (record("Loop", "Loop"), b"", "Loop' may be in itself"),
        (doubled(60), b"", "most take none"),
    ],
)
def test_a_schema_by_which_a_few_bytes_are_more_than_a_process_has_is_refused(
    kind: Any, content: bytes, says: str, registry: MemorySchemaRegistry, schemas: SchemaStore
) -> None:
    schema = with_field("more", kind)
    value = avro(CONTENT, SCHEMA, registry.add(schema)) + content
    with pytest.raises(CodecError, match=rf"the schema cannot be used: .*{says}.*\(schema id 1\)"):
        reader(Avro(), schemas).read(value)
    assert reader(Avro(), schemas).read(avro(CONTENT, SCHEMA, registry.add(SCHEMA))) == PAYMENT


def test_a_large_schema_of_usual_types_is_read(registry: MemorySchemaRegistry, schemas: SchemaStore) -> None:
    many = record("Many", *[["null", "string"]] * 500, "null", record("Sub", ["null", record("Sub2", "null", "int")]))
    schema = with_field("many", {"type": "array", "items": ["null", many]})
    one = {f"f{n}": None for n in range(501)} | {"f501": {"f0": {"f0": None, "f1": 5}}}
    value = avro({**CONTENT, "many": [one, None]}, schema, registry.add(schema))
    assert reader(Avro(), schemas).read(value) == PAYMENT


def test_changes_of_a_database_may_be_in_avro(registry: MemorySchemaRegistry, schemas: SchemaStore) -> None:
    envelope = {
        "type": "record",
        "name": "Envelope",
        "fields": [
            {"name": "before", "type": ["null", SCHEMA], "default": None},
            {"name": "after", "type": ["null", "shop.Payment"], "default": None},
            {"name": "op", "type": "string"},
        ],
    }
    number = registry.add(envelope)
    written = Debezium(Avro())
    assert (written.spec, written.uses_schemas) == ("debezium:avro", True)
    reads = reader(written, schemas)
    assert reads.read(avro({"after": CONTENT, "op": "c"}, envelope, number)) == PAYMENT
    assert reads.rows([avro({"after": CONTENT, "op": "u"}, envelope, number)]) == [PAYMENT]
    with pytest.raises(CodecError, match=r"a delete \(op `d`\)"):
        reads.read(avro({"before": CONTENT, "op": "d"}, envelope, number))
    registry.is_away = True
    awaited = reads.awaited([head_of(9) + b"x"])
    assert awaited is not None
    assert (awaited.position, awaited.schema_id) == (0, 9)


# -- Protobuf ---------------------------------------------------------------------------------------------------------


def protobuf(message: Any, place: tuple[int, ...], number: int = 1) -> bytes:
    body: bytes = message.SerializeToString()
    return head_of(number) + index_bytes(place) + body


class Basket(Event):
    at: datetime
    channel: str
    card: str = "none"


def test_a_message_is_read_by_its_place_in_the_text_of_the_schema(
    registry: MemorySchemaRegistry, schemas: SchemaStore
) -> None:
    registry.add(TEXT, "PROTOBUF")
    message = PaymentMessage(card="c7", amount=12.5, channel=1)
    message.at.FromDatetime(NOON)
    written = Protobuf(PaymentMessage)
    assert reader(written, schemas).read(protobuf(message, (1,))) == msgspec.structs.replace(PAYMENT, note=None)
    assert reader(written, schemas, Basket).read(protobuf(message, (1,))) == Basket(NOON, "WEB", "c7")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (protobuf(RefundMessage(card="c"), (0,)), r"is the message shop\.Refund, not shop\.Payment \(schema id 1\)"),
        (protobuf(LineMessage(), (1, 0)), r"is the message shop\.Payment\.Line, not"),
        (protobuf(RefundMessage(), (9,)), r"is the message \[9\], not"),
        (protobuf(PaymentMessage(card="c"), (1,)), r"got `null` - at `\$.at`"),
        (head_of(1) + b"\x02\x02\x0a\xff", "Error parsing message"),
        (head_of(1) + b"\x02", "ends within its message indexes"),
        (head_of(1) + b"\xfe\xff\xff\x0f", "message indexes"),
        (head_of(1) + b"\xff" * 900_000, "message index of the record has more than 10 bytes"),
    ],
)
def test_another_message_is_a_dead_letter_that_names_it(
    registry: MemorySchemaRegistry, schemas: SchemaStore, value: bytes, says: str
) -> None:
    registry.add(TEXT, "PROTOBUF")
    with pytest.raises(CodecError, match=says):
        reader(Protobuf(PaymentMessage), schemas).read(value)


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=5).map(tuple), st.binary(max_size=4))
def test_the_place_of_a_message_is_read_as_it_was_written(place: tuple[int, ...], after: bytes) -> None:
    written = index_bytes(place)
    assert indexes(b"12345" + written + after, 5) == (place, 5 + len(written))


def test_names_of_messages_are_the_same_from_the_text_and_from_its_bytes() -> None:
    from base64 import b64encode

    packed = b64encode(PaymentMessage.DESCRIPTOR.file.serialized_pb).decode()
    assert message_names(TEXT) == message_names(packed)
    assert message_names(TEXT) == {(0,): "shop.Refund", (1,): "shop.Payment", (1, 0): "shop.Payment.Line"}


def test_a_group_is_a_message_too() -> None:
    buyer = "message Buyer { oneof x { int32 a = 1; } }"
    text = f"message Order {{ repeated group Line = 1 {{ optional int64 cents = 2; }} {buyer} }}"
    assert message_names(text) == {(0,): "Order", (0, 0): "Order.Line", (0, 1): "Order.Buyer"}


def test_an_event_that_the_message_cannot_hold_is_told_to_the_producer(schemas: SchemaStore) -> None:
    wrong = msgspec.structs.replace(PAYMENT, amount="much")
    with pytest.raises(CodecError, match="the event cannot be written in Protobuf"):
        _record(payments(Protobuf(PaymentMessage)), wrong, None, Protobuf(PaymentMessage).writer("p", Payment, schemas))


def test_a_message_without_a_field_of_the_event_is_refused_to_producers(schemas: SchemaStore) -> None:
    with pytest.raises(DefinitionError, match=r"shop\.Refund has no field for amount, at, note of Payment"):
        Protobuf(RefundMessage).writer("payments", Payment, schemas)
    with pytest.raises(DefinitionError, match="give the class of a message"):
        Protobuf("Payment")


# -- all of them ------------------------------------------------------------------------------------------------------

FORMATS = [Avro(), JsonSchema(), Protobuf(PaymentMessage)]


@pytest.mark.parametrize("written", FORMATS, ids=lambda each: each.spec)
def test_a_record_without_a_schema_is_told(written: RecordFormat, schemas: SchemaStore) -> None:
    for value, says in [
        (msgspec.json.encode(ROW), "does not begin with a zero byte and the id of a schema, but with 7b 22"),
        (b"\x01\0\0\0\x01abc", "but with 01 00 00 00 01"),
        (b"\0\0", "but with 00 00"),
        (b"", "but with none"),
    ]:
        with pytest.raises(CodecError, match=says):
            reader(written, schemas).read(value)
    with pytest.raises(CodecError, match="a tombstone"):
        reader(written, schemas).read(None)


@pytest.mark.parametrize("written", FORMATS, ids=lambda each: each.spec)
def test_an_id_that_the_registry_does_not_know_is_a_dead_letter_and_is_asked_for_once(
    written: RecordFormat, registry: MemorySchemaRegistry, schemas: SchemaStore
) -> None:
    reads = reader(written, schemas)
    for _ in range(3):
        with pytest.raises(CodecError, match="The schema registry http://schemas has no schema with the id 77"):
            reads.read(head_of(77) + b"abc")
    assert reads.awaited([head_of(77) + b"abc"]) is None
    assert registry.asked == [77]


@pytest.mark.parametrize("written", FORMATS, ids=lambda each: each.spec)
def test_a_record_without_content_waits_for_its_schema_as_others_do(
    written: RecordFormat, registry: MemorySchemaRegistry, schemas: SchemaStore
) -> None:
    registry.is_away = True
    awaited = reader(written, schemas).awaited([b"\0\0\0\0", head_of(7)])
    assert awaited is not None
    assert (awaited.position, awaited.schema_id) == (1, 7)
    with pytest.raises(SchemaRegistryUnavailableError, match="waiting for the schema with the id 7"):
        reader(written, schemas).read(head_of(7))


def test_a_record_of_a_schema_that_was_unknown_a_minute_ago_is_judged_only_with_the_registry(
    registry: MemorySchemaRegistry,
) -> None:
    now, value = [0.0], avro(CONTENT, SCHEMA, 1)
    reads = reader(Avro(), SchemaStore(registry, monotonic=lambda: now[0]))
    with pytest.raises(CodecError, match="no schema with the id 1"):
        reads.read(value)
    now[0], registry.is_away = 61.0, True
    with pytest.raises(SchemaRegistryUnavailableError):
        reads.read(value)
    with pytest.raises(CodecError, match="no schema with the id 1"):
        reads.row(value)  # who has asked what is awaited does not wait twice
    registry.is_away = False
    registry.add(SCHEMA)
    assert reads.read(value) == PAYMENT


@pytest.mark.parametrize("written", FORMATS, ids=lambda each: each.spec)
def test_a_schema_of_another_kind_is_told(
    written: RecordFormat, registry: MemorySchemaRegistry, schemas: SchemaStore
) -> None:
    other = registry.add("{}", "JSON" if written == Avro() else "AVRO")
    with pytest.raises(CodecError, match=rf"schema id {other} is of the kind (JSON|AVRO), not"):
        reader(written, schemas).read(head_of(other) + b"{}")


def test_a_schema_that_is_none_is_told(registry: MemorySchemaRegistry, schemas: SchemaStore) -> None:
    registry.add("no schema")
    for _ in range(2):
        with pytest.raises(CodecError, match=r"the schema cannot be used: .*\(schema id 1\)"):
            reader(Avro(), schemas).read(head_of(1) + b"abc")


@pytest.mark.parametrize("written", FORMATS, ids=lambda each: each.spec)
def test_a_format_with_schemas_says_that_it_needs_a_registry(written: RecordFormat) -> None:
    with pytest.raises(SettingsError, match=r"needs a schema registry: set url in \[schema_registry\]"):
        EventReader(payments(written))
    with pytest.raises(SettingsError, match="HEADRACE_SCHEMA_REGISTRY__URL"):
        written.writer("payments", Payment)
