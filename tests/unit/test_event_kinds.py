"""Fields whose values are one of a few, or a UUID: texts and integers for everything but Python."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal

import msgspec
import pytest

from headrace import Event, Stream
from headrace.bus.codec import Decoder, schema
from headrace.bus.event_reader import EventReader
from headrace.bus.producer import _record
from headrace.errors import CodecError, DefinitionError

NOON = datetime(2023, 11, 14, 12, tzinfo=UTC)


class Channel(StrEnum):
    SHOP = "shop"
    WEB = "web"


class Grade(Enum):
    GOOD = "a"
    POOR = "b"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Order(Event):
    order_id: uuid.UUID
    channel: Channel
    grade: Grade | None
    level: Level
    size: Literal["S", "M", "L"]
    ordered_at: datetime
    parts: list[Grade] = msgspec.field(default_factory=list)


orders = Stream("orders", Order, event_time="ordered_at", key=["grade", "order_id"])
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
ORDER = Order(ID, Channel.WEB, Grade.GOOD, Level.HIGH, "M", NOON, [Grade.POOR])
PLAIN = {
    "order_id": str(ID), "channel": "web", "grade": "a", "level": 2, "size": "M", "ordered_at": NOON, "parts": ["b"],
}  # fmt: skip


def test_columns_have_texts_and_integers() -> None:
    assert orders.spec.kinds == {
        "order_id": "str", "channel": "str", "grade": "str", "level": "int", "size": "str", "ordered_at": "datetime",
        "parts": "list(str)",
    }  # fmt: skip
    decoder = Decoder(orders)
    nothing = msgspec.structs.replace(ORDER, grade=None)
    rows, _, errors = decoder.decode([msgspec.json.encode(ORDER), msgspec.json.encode(nothing)])
    assert errors == {}
    found = decoder.columns(rows)
    assert found.schema == schema(orders)
    assert found.to_dicts() == [PLAIN, {**PLAIN, "grade": None}]


def test_a_record_is_keyed_by_what_stands_in_json() -> None:
    record = _record(orders, ORDER, None)
    assert record.key == f"a|{ID}".encode()
    assert EventReader(orders).read(record.value) == ORDER


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"channel": "phone"}, r"Invalid enum value 'phone' - at `\$\.channel`"),
        ({"level": 3}, r"Invalid enum value 3 - at `\$\.level`"),
        ({"size": "XL"}, r"Invalid enum value 'XL' - at `\$\.size`"),
        ({"order_id": "7"}, r"Invalid UUID - at `\$\.order_id`"),
    ],
)
def test_another_value_is_a_dead_letter_that_names_it(wrong: dict[str, Any], says: str) -> None:
    payload = msgspec.json.encode({**PLAIN, **wrong})
    with pytest.raises(CodecError, match=says):
        EventReader(orders).read(payload)
    _, positions, errors = Decoder(orders).decode([msgspec.json.encode(ORDER), payload])
    assert (positions.tolist(), list(errors)) == ([0], [1])


def test_values_of_several_kinds_are_no_field() -> None:
    class Wrong(Event):
        size: Literal["S", 1]
        at: datetime

    with pytest.raises(DefinitionError, match=r"Wrong\.size is declared as .*a Literal or an Enum of texts"):
        _ = Stream("wrong", Wrong, event_time="at")
