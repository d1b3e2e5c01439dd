"""Events in events: structs in the event log, names with dots everywhere else."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import polars as pl
import pytest

from headrace import Epoch, Event, Places, Stream, field
from headrace.bus.codec import Decoder, schema
from headrace.bus.event_reader import EventReader
from headrace.bus.producer import _record
from headrace.errors import CodecError, DefinitionError, NotInLogYetError
from headrace.event_log import event_log, readable_log
from headrace.event_log.event_log import EventLog
from headrace.event_log.maintenance import CompactionSizes, compact
from tests.support.paid_orders import COLUMNS, CONTENT, SOURCE, Item, Paid, append, judged, paid, payload

if TYPE_CHECKING:
    from pathlib import Path


def test_the_spec_has_the_fields_of_nested_events_by_names_with_dots() -> None:
    assert paid.spec.kinds == {
        "card.card_id": "int", "card.country": "str", "card.issuer.name": "str", "card.issuer.since": "datetime",
        "card.valid_until": "date", "header.at": "datetime", "amount": "decimal(2)", "buyer.card_id": "int",
        "buyer.country": "str", "buyer.issuer.name": "str", "buyer.issuer.since": "datetime",
        "buyer.valid_until": "date", "tags": "dict(float)", "items": "list(event)", "proof": "bytes",
        "city": "str",
    }  # fmt: skip
    assert {"card.issuer.name", "buyer.card_id", "city"} <= paid.spec.nullable
    assert "card.card_id" not in paid.spec.nullable


def test_a_record_becomes_columns_with_structs_decimals_and_lists() -> None:
    rows, _, errors = Decoder(paid).decode([payload(), payload(buyer=CONTENT["card"], data={}), payload(data=None)])
    assert errors == {}
    found = Decoder(paid).columns(rows)
    assert found.schema == schema(paid)
    assert found.to_dicts() == [
        COLUMNS,
        COLUMNS | {"buyer": COLUMNS["card"], "city": None},
        COLUMNS | {"city": None},
    ]


def test_a_produced_record_is_keyed_by_nested_fields_and_read_as_the_same_event() -> None:
    event = EventReader(paid).read(payload())
    assert isinstance(event, Paid)
    assert (event.card.card_id, event.header.at, event.city) == (7, NOON, "Lyon")
    record = _record(paid, event, None)
    assert record.key == b"7|Lyon"
    assert record.value is not None
    assert msgspec.json.decode(record.value)["data"] == {"ship-to": {"city": "Lyon"}}
    assert EventReader(paid).read(record.value) == event


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"card": {"cardId": 7, "country": 3}}, r"Expected `str \| null`, got `int` - at `\$\.card\.country`"),
        ({"card": {"cardId": 2**63, "country": "FR"}}, r"does not fit into 64 bits - at `\$\.card\.card_id`"),
        ({"card": None}, r"Expected `object`, got `null` - at `\$\.card`"),
        (
            {"buyer": {"cardId": 7, "country": None, "issuer": {"name": "b", "since": "2020-01-01T00:00:00"}}},
            r"The time has no zone.* - at `\$\.buyer\.issuer\.since`",
        ),
        ({"header": {"at": 5}}, r"5 ms lies in 1970.* - at `\$\.header\.at`"),
        ({"header": {}}, r"missing required field `at` - at `\$\.header`"),
        ({"amount": "12.505"}, r"12\.505 has more than 2 places after the point - at `\$\.amount`"),
        ({"amount": "1e16"}, r"1E\+16 is too large: Places\(2\) leaves 16 digits before the point"),
        ({"amount": "1e999999999"}, "is too large"),
        ({"amount": "NaN"}, "NaN is no number"),
        ({"amount": [1]}, r"\$\.amount"),
        (
            {"items": [{"name": "a", "price": 1}, {"name": "b", "price": 0.001}]},
            r"0\.001 has more.*`\$\.items\[\.\.\.\]\.price`",
        ),
        ({"tags": {"k": "x"}}, r"Expected `float`, got `str` - at `\$\.tags\[\.\.\.\]`"),
        ({"proof": "?"}, r"Invalid base64 encoded string - at `\$\.proof`"),
        ({"data": {"ship-to": {"city": 5}}}, r"got `int` - at `\$\.data\.ship-to\.city`"),
        ({"data": 5}, r"got `int` - at `\$\.data`"),
    ],
)
def test_a_wrong_value_inside_is_a_dead_letter_that_names_its_place(changed: dict[str, Any], says: str) -> None:
    wrong = payload(**changed)
    with pytest.raises(CodecError, match=says):
        EventReader(paid).read(wrong)
    rows = judged(paid, [payload(), wrong, payload()])
    assert rows.get_column("__verdict").to_list() == ["accepted", "rejected", "accepted"]
    assert rows.get_column("__value").to_list() == [None, wrong, None]
    assert rows.get_column("card").to_list() == [COLUMNS["card"], None, COLUMNS["card"]]


def test_records_that_are_nested_ten_thousand_deep_or_have_ten_megabytes_hold_up_no_other() -> None:
    deep = b'{"card":' * 10_000 + b"1" + b"}" * 10_000
    unknown = payload()[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    digits = payload(amount="1" * 10_000_000)
    zeros = payload(amount="1." + "0" * 10_000_000)
    text = payload(data={"ship-to": {"city": "x" * 10_000_000}})
    rows = judged(paid, [payload(), deep, unknown, digits, zeros, text, payload()])
    verdicts = rows.get_column("__verdict").to_list()
    assert verdicts == ["accepted", "rejected", "rejected", "rejected", "accepted", "accepted", "accepted"]
    errors = rows.get_column("__error").to_list()
    assert errors[1] is not None
    assert errors[2] == "the JSON is nested too deeply"
    assert "is too large" in errors[3]
    assert len(errors[3]) < 200
    assert rows.get_column("amount").to_list()[4] == 1


def test_the_log_has_structs_that_any_tool_reads_and_gives_their_fields_by_name(log: EventLog) -> None:
    append(log, paid, [payload(), payload(card=5), payload(buyer=CONTENT["card"])])
    append(log, paid, [payload(amount="-3")])
    whole = log.read("paid").filter(pl.col("__verdict") == "accepted")
    assert whole.select(*COLUMNS).to_dicts() == [
        COLUMNS, COLUMNS | {"buyer": COLUMNS["card"]}, COLUMNS | {"amount": Decimal(-3)},
    ]  # fmt: skip
    names = ["buyer.card_id", "header.at", "card.issuer.name"]
    wanted = {"buyer.card_id": [None, None, 7, None], "card.issuer.name": ["bank", None, "bank", "bank"]}
    pieces = [
        log.read_from("paid", SOURCE, 0, None, names),
        log.select("paid", None, names),
        log.reader("paid", names).read(),
        pl.concat(log.scan("paid", names)).sort("__offset"),
    ]
    for found in pieces:
        assert found.select(*wanted).to_dict(as_series=False) == wanted
        assert found.get_column("header.at").to_list() == [NOON, None, NOON, NOON]
    with pytest.raises(NotInLogYetError, match=r"no column 'card\.colour' yet"):
        log.select("paid", None, ["card.colour"])


NOON = datetime(2023, 11, 14, 12, tzinfo=UTC)


def on_this_machine(_: Any) -> None:
    """Reads a table of this machine as one in remote storage."""


@pytest.fixture(params=["local", "remote"])
def log(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EventLog:
    """A log whose files are read as those on this machine are, and as those of an object store."""
    if request.param == "remote":
        monkeypatch.setattr(event_log, "local_folder", on_this_machine)
        monkeypatch.setattr(readable_log, "local_folder", on_this_machine)
    return EventLog(tmp_path)


class First(Event):
    name: str


class FirstOrder(Event):
    at: datetime
    by: First
    also: First | None = None


class Deep(Event):
    level: int = 3


class Later(Event):
    country: str | None
    name: str
    city: str = "Oslo"
    deep: Deep = msgspec.field(default_factory=Deep)


class LaterOrder(Event):
    also: Later | None
    by: Later
    at: datetime


class WrongType(Event):
    name: int


class WrongOrder(Event):
    at: datetime
    by: WrongType


class WithoutDefault(Event):
    name: str
    age: int


class RefusedOrder(Event):
    at: datetime
    by: WithoutDefault


def orders(event: type[Event]) -> Stream:
    return Stream("orders", event, event_time="at")


def test_a_nested_event_may_get_fields_that_earlier_rows_have_by_default(log: EventLog) -> None:
    old = {"at": NOON, "by": {"name": "a"}, "also": {"name": "b"}}
    new: dict[str, Any] = {
        "at": NOON,
        "by": {"name": "c", "country": "NO", "city": "Bergen", "deep": {"level": 9}},
        "also": None,
    }
    append(log, orders(FirstOrder), [msgspec.json.encode(old), b"", msgspec.json.encode(old | {"also": None})])
    append(log, orders(LaterOrder), [msgspec.json.encode(new)])
    append(log, orders(FirstOrder), [msgspec.json.encode(old)])  # an older worker goes on
    rows: dict[str, Any] = {"country": None, "city": "Oslo", "deep": {"level": 3}}
    by: list[Any] = [{"name": "a"} | rows, None, {"name": "a"} | rows, new["by"], {"name": "a"} | rows]
    also = [{"name": "b"} | rows, None, None, None, {"name": "b"} | rows]
    for found in (log.read("orders"), log.read_from("orders", SOURCE, 0), log.select("orders", None)):
        assert found.get_column("by").to_list() == by
        assert found.get_column("also").to_list() == also
    names = ["by.city", "also.deep.level"]
    flat = log.read_from("orders", SOURCE, 0, None, names)
    assert flat.get_column("by.city").to_list() == ["Oslo", None, "Oslo", "Bergen", "Oslo"]
    assert flat.get_column("also.deep.level").to_list() == [3, None, None, None, 3]
    assert log.select("orders", None, names).select(names).equals(flat)
    assert sum(compact(log, "orders", now_s=1, sizes=CompactionSizes(least_files=2))) == 3
    assert log.read("orders").get_column("by").to_list() == by
    assert log.read("orders").get_column("also").to_list() == also
    assert log.read_from("orders", SOURCE, 0, None, names).equals(flat)


class GrownOrder(Event):
    at: datetime
    by: First
    deep: Deep = msgspec.field(default_factory=lambda: Deep(5))
    price: Annotated[Decimal, Places(2)] = Decimal("1.50")
    day: date = date(2020, 1, 2)
    raw: bytes = b"\xff"
    tags: dict[str, int] = msgspec.field(default_factory=lambda: {"k": 1})
    parts: list[Item] = msgspec.field(default_factory=lambda: [Item("pen", Decimal("0.10"))])


def test_a_new_column_of_any_type_has_its_default_in_earlier_rows(log: EventLog) -> None:
    append(log, orders(FirstOrder), [msgspec.json.encode({"at": NOON, "by": {"name": "a"}}), b""])
    append(log, orders(GrownOrder), [msgspec.json.encode({"at": NOON, "by": {"name": "a"}})])
    wanted = {
        "deep": {"level": 5}, "price": Decimal("1.50"), "day": date(2020, 1, 2), "raw": b"\xff",
        "tags": [{"key": "k", "value": 1}], "parts": [{"name": "pen", "price": Decimal("0.10")}],
    }  # fmt: skip
    for found in (log.read("orders"), log.read_from("orders", SOURCE, 0), log.select("orders", None)):
        assert found.select(*wanted).to_dicts() == [wanted, dict.fromkeys(wanted), wanted]
    assert log.read_from("orders", SOURCE, 0, None, ["deep.level"]).to_series().to_list() == [5, None, 5]


class OtherNames(Event, rename="camel"):
    shop_name: str = "none"
    opened_at: Annotated[datetime, Epoch("ms")] = datetime(2020, 1, 2, tzinfo=UTC)
    city: str = field(path="address.city", default="Lyon")


class RenamedOrder(Event):
    at: datetime
    by: First
    shop: OtherNames = msgspec.field(default_factory=lambda: OtherNames("kiosk"))
    shops: list[OtherNames] = msgspec.field(default_factory=lambda: [OtherNames("stall")])


def test_the_default_of_a_new_nested_event_is_known_by_its_columns_not_by_its_names_in_json(log: EventLog) -> None:
    append(log, orders(FirstOrder), [msgspec.json.encode({"at": NOON, "by": {"name": "a"}})])
    append(log, orders(RenamedOrder), [msgspec.json.encode({"at": NOON, "by": {"name": "a"}})])
    rest = {"opened_at": datetime(2020, 1, 2, tzinfo=UTC), "city": "Lyon"}
    wanted: dict[str, Any] = {"shop": {"shop_name": "kiosk", **rest}, "shops": [{"shop_name": "stall", **rest}]}
    assert log.read("orders").select(*wanted).to_dicts() == [wanted, wanted]


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (WrongOrder, r"field 'by\.name' of WrongOrder is Int64, but String in the event log"),
        (RefusedOrder, r"field 'by\.age' of RefusedOrder is new, and the event log has events without it"),
    ],
)
def test_a_nested_field_keeps_its_type_and_a_new_one_needs_a_default(
    event: type[Event], says: str, tmp_path: Path
) -> None:
    log = EventLog(tmp_path)
    log.create(orders(FirstOrder))
    with pytest.raises(DefinitionError, match=says):
        log.create(orders(event))


class PricedOrder(Event):
    at: datetime
    price: Annotated[Decimal, Places(2)]
    parts: list[First]
    tags: dict[str, int]
    day: date


class OtherPlaces(Event):
    at: datetime
    price: Annotated[Decimal, Places(3)]


class OtherParts(Event):
    at: datetime
    parts: list[WithoutDefault]


class OtherTags(Event):
    at: datetime
    tags: dict[str, float]


class OtherDay(Event):
    at: datetime
    day: datetime


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (OtherPlaces, r"'price' of OtherPlaces is Decimal\(.*scale=3\), but Decimal\(.*scale=2\) in the event log"),
        (
            OtherParts,
            r"'parts' of OtherParts is List\(.*'age'.*, but List\(Struct\({'name': String}\)\) in the event log",
        ),
        (OtherTags, r"'tags' of OtherTags is List\(.*Float64.*, but List\(.*Int64.* in the event log"),
        (OtherDay, "'day' of OtherDay is Datetime.*, but Date in the event log"),
    ],
)
def test_a_field_of_any_type_keeps_its_type(event: type[Event], says: str, tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.create(orders(PricedOrder))
    with pytest.raises(DefinitionError, match=says):
        log.create(orders(event))


class Empty(Event):
    """It has no fields."""


class WithEmpty(Event):
    at: datetime
    nothing: Empty


class Loop(Event):
    at: datetime
    again: Loop | None = None


class PlainDecimal(Event):
    at: datetime
    amount: Decimal


class PlacedText(Event):
    at: datetime
    amount: Annotated[str, Places(2)]


class KeyedByNumber(Event):
    at: datetime
    tags: dict[int, float]


class TwoInOnePlace(Event):
    at: datetime
    data: str
    b: int = field(path="data.x")


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (WithEmpty, r"WithEmpty\.nothing: Empty has no fields"),
        (Loop, "events are nested at most 10 deep"),
        (PlainDecimal, r"PlainDecimal\.amount: write a Decimal with its places.*Places\(2\)"),
        (PlacedText, r"PlacedText\.amount: write a Decimal with its places"),
        (KeyedByNumber, r"KeyedByNumber\.tags is declared as dict\[int, float\]"),
        (TwoInOnePlace, r"TwoInOnePlace: two fields stand at 'data' in JSON"),
    ],
)
def test_types_that_no_column_can_hold_are_refused(event: type[Event], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        EventReader(Stream("wrong", event, event_time="at"))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: field(path="data..id"), "write the names with a dot between them"),
        (lambda: Places(19), "give a whole number from 0 to 18"),
        (lambda: Places(True), "give a whole number from 0 to 18"),
        (
            lambda: Stream("paid", Paid, event_time="header"),
            r"'header' is not a required datetime field of Paid; it has",
        ),
        (lambda: Stream("paid", Paid, event_time="buyer.issuer.since"), r"it has \['header\.at'\]"),
        (lambda: Stream("paid", Paid, event_time="header.at", key="tags"), "key field 'tags' is a dict of float"),
        (
            lambda: Stream("paid", Paid, event_time="header.at", key="card"),
            "has no field 'card'; it has .*'card.card_id'",
        ),
    ],
)
def test_wrong_names_and_arguments_are_refused(make: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        make()
