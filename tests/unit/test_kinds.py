"""Features that are texts, times and dates: their specs, their bytes, and how a look-up gives them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest

from headrace import (
    Entity,
    Event,
    FeatureClient,
    FeatureService,
    FeatureView,
    First,
    Last,
    LastN,
    Lifetime,
    Places,
    Role,
    Stream,
    Sum,
    col,
)
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.errors import CodecError, DefinitionError, TerminalError
from headrace.features.definitions.spec import read_spec, to_document
from headrace.features.definitions.view_spec import ViewSpec
from headrace.features.kernel.field import FieldLayout, unpack
from headrace.features.kernel.python_values import python_list
from headrace.features.kernel.text_sketch import MOST_TEXT
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.vector_values import vector_columns
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory
from headrace.features.online.entity_key import serializer
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.features.online.value_columns import lists_of
from headrace.models.predictions import ServedVector, logged_values
from headrace.serving.http.feast_columns import FeastRows
from headrace.serving.http.messages import response_of
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions

START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = 1_767_225_600_000_000
SOURCE = SourcePartition(0, b"t" * 16)


class Paid(Event):
    """A card pays."""

    card: str
    merchant: str | None
    order: int
    due: date
    at: datetime


paid = Stream("paid", Paid, event_time="at")
card = Entity("card", str)
FEATURES: dict[str, Any] = {
    "merchant": Last("merchant"), "first": First("merchant"), "order": Last("order"), "due": Last("due"),
    "at": First("at"),
}  # fmt: skip


def view(**more: Any) -> FeatureView:
    return FeatureView("card", card, paid, **{"windows": [Lifetime()], "features": FEATURES, **more})


def log(*payments: tuple[str, str | None], stream: Stream = paid, events: list[Event] | None = None) -> pl.DataFrame:
    """The log's rows of payments, one a second."""
    made = events or [
        Paid(card=of, merchant=merchant, order=2**53 + 1 + number, due=date(1969, 12, 30) + timedelta(days=number),
             at=START + timedelta(seconds=number))
        for number, (of, merchant) in enumerate(payments)
    ]  # fmt: skip
    stamps = START_US + 1_000_000 * np.arange(len(made))
    records = PartitionRecords(np.arange(len(made)), stamps, [None] * len(made), [encode(event) for event in made])
    return RecordJudge(stream).rows(SOURCE.topic_id, 0, records, NO_CLOCK)


def served(of: FeatureView, rows: pl.DataFrame, service: FeatureService | None = None) -> MemoryOnlineStore:
    """A store with the rows folded."""
    store = MemoryOnlineStore(lambda: 0)
    publish_definitions(store, [of], [] if service is None else [service])
    owned = ViewPartition(of.spec, SOURCE, store)
    owned.acquire(bytes(16), 1)
    assert all(store.write(owned.fold(LoggedRows.from_rows(rows, "at"), rows.height)))
    return store


def looked_up(of: FeatureView, rows: pl.DataFrame, *cards: str) -> Any:
    client = FeatureClient(served(of, rows))
    return client.get_views(of.spec.versioned_name, [{"card": each} for each in cards], as_of=START + timedelta(days=1))


def from_log(of: FeatureView, rows: pl.DataFrame, key: str) -> list[Any]:
    history = ViewHistory(of.spec, rows)
    ends = np.array([[rows.height] * len(history.sources)])
    at_us = np.array([START_US + 86_400_000_000])
    found = history.values(PointInTimeQueries(pl.DataFrame({"card": [key]}), at_us, ends, history.sources))
    return [python_list(values)[0] if there[0] else None for values, there in found]


def test_a_spec_names_a_kind_that_is_no_number_so_that_an_older_release_refuses_it() -> None:
    of = view()
    kinds = [feature.get("kind") for feature in to_document(of.spec)["features"]]
    assert kinds == ["str", "str", None, "date", "datetime"]
    assert [*of.spec.column_kinds.values()] == ["str", "str", "int", "date", "datetime"]
    assert of.version == "d354ccf2f8af9a55"
    document = to_document(of.spec)
    assert read_spec(document, ViewSpec, "the view").version == of.version
    document["features"][0]["kind"] = "picture"
    with pytest.raises(DefinitionError, match=r"the view has a spec that this release cannot read: .*picture.*upgrade"):
        read_spec(document, ViewSpec, "the view")


def test_a_field_with_texts_has_these_bytes_and_a_format_of_its_own() -> None:
    of = view(features={"merchant": Last("merchant")})
    store = served(of, log(("a", "grocery"), ("b", "a text of some more than twenty bytes")))
    client = store.look_up([(of.spec.versioned_name, store_keys(of, "a", "b"))])
    (short,), (long,) = ([*fields.values()] for fields in client[0].fields)
    assert short.hex() == (
        "03" "00" "0100" "00000000"
        "0200000000000000" "40822f4648470600" "0040204648470600" "01000000" "00000000"
        "0000000000000000" "01000000"
        "0040204648470600" "0000000000000000" "0700" "0000" "67726f63657279" "00000000000000000000000000"
    )  # fmt: skip
    assert long.hex() == (
        "03" "00" "0100" "00000000"
        "0200000000000000" "40822f4648470600" "40822f4648470600" "01000000" "00000000"
        "0000000000000000" "02000000"
        "40822f4648470600" "0100000000000000" "2500" "0000" "612074657874206f6620736f6d65206d6f726520"
        "40822f4648470600" "0100000000000000" "2500" "0100" "7468616e207477656e7479206279746573" "000000"
    )  # fmt: skip
    layout = kernel(of.spec).layout
    assert (layout.form, len(unpack(short, layout)[1])) == (3, 1)
    older = FieldLayout(kernel(of.spec).tile, 1, (np.dtype("<i8"),))
    with pytest.raises(CodecError, match="the view's format is 2"):
        unpack(short, older)


def store_keys(of: FeatureView, *cards: str) -> list[bytes]:

    serialize = serializer([(key.name, key.kind) for key in of.spec.entity.keys])
    return [serialize((each,)) for each in cards]


def test_a_look_up_gives_each_kind_as_python_has_it() -> None:
    rows = log(("a", "grocery"), ("a", None), ("b", None))
    found = looked_up(view(), rows, "a", "b", "nobody")
    assert found.to_lists() == [
        ["grocery", "grocery", 2**53 + 2, date(1969, 12, 31), START],
        [None, None, 2**53 + 3, date(1970, 1, 1), START + timedelta(seconds=2)],
        [None] * 5,
    ]
    assert [str(found.statuses(row)["card"]) for row in range(3)] == ["present", "present", "missing"]
    assert [from_log(view(), rows, key) for key in ("a", "b", "nobody")] == found.to_lists()


def test_a_table_of_pandas_has_texts_as_objects_and_times_as_times() -> None:
    found = looked_up(view(), log(("a", "grocery")), "a", "nobody").to_pandas()
    assert found.dtypes.astype(str).to_dict() == {
        "card__merchant_lifetime": "object", "card__first_lifetime": "object", "card__order_lifetime": "float64",
        "card__due_lifetime": "datetime64[ms]", "card__at_lifetime": "datetime64[us, UTC]",
    }  # fmt: skip
    assert found["card__merchant_lifetime"].tolist() == ["grocery", None]
    assert found["card__due_lifetime"].tolist() == [pd.Timestamp(1969, 12, 30), pd.NaT]
    assert found["card__at_lifetime"][0] == pd.Timestamp(START)
    assert found["card__at_lifetime"].isna().tolist() == [False, True]


def test_a_matrix_of_texts_is_refused() -> None:
    with pytest.raises(TerminalError, match=r"'card__merchant_lifetime'.* are none: use to_pandas\(\)"):
        looked_up(view(), log(("a", "grocery")), "a").to_numpy()


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
def test_a_long_text_is_cut_to_the_whole_characters_that_fit(character: str) -> None:
    long = "-" + character * 400
    wanted = long.encode()[:MOST_TEXT].decode(errors="ignore")
    of, rows = view(features={"merchant": Last("merchant")}), log(("a", long), ("b", wanted), ("b", ""))
    assert looked_up(of, rows, "a", "b").to_lists() == [[wanted], [""]]
    assert from_log(of, rows, "a") == [wanted]


def test_the_newest_texts_have_a_column_each() -> None:
    of = view(features={"newest": LastN("merchant", 3)}, windows=["2d"])
    rows = log(("a", "first of the texts, long"), ("a", None), ("a", "second"))
    assert of.spec.columns == ["card__newest_1_2d", "card__newest_2_2d", "card__newest_3_2d"]
    assert from_log(of, rows, "a") == ["second", "first of the texts, long", None]


def test_the_newest_values_are_one_feature_as_a_list() -> None:
    of = view(
        features={
            "merchants": LastN("merchant", 2, as_list=True), "orders": LastN("order", 9, as_list=True),
            "due": LastN("due", 1, as_list=True), "times": LastN("at", 2, as_list=True),
        }
    )  # fmt: skip
    rows = log(("a", "first of the texts, long"), ("a", None), ("a", "second"), ("a", "third"), ("b", None))
    assert [*of.spec.column_kinds.values()] == ["list(str)", "list(int)", "list(date)", "list(datetime)"]
    found = looked_up(of, rows, "a", "b", "nobody")
    first = [
        ["third", "second"], [2**53 + 4, 2**53 + 3, 2**53 + 2, 2**53 + 1], [date(1970, 1, 2)],
        [START + timedelta(seconds=3), START + timedelta(seconds=2)],
    ]  # fmt: skip
    assert found.to_lists() == [
        first, [[], [2**53 + 5], [date(1970, 1, 3)], [START + timedelta(seconds=4)]], [[], [], [], []],
    ]  # fmt: skip
    assert [from_log(of, rows, key) for key in ("a", "b", "nobody")] == found.to_lists()
    assert found.to_pandas()["card__orders_lifetime"].tolist() == [first[1], [2**53 + 5], []]
    with pytest.raises(TerminalError, match="use to_pandas"):
        found.to_numpy()
    body = msgspec.json.decode(msgspec.json.encode(response_of(found, offsets=False)))
    assert body["rows"][0][2:] == [["1970-01-02"], ["2026-01-01T00:00:03Z", "2026-01-01T00:00:02Z"]]
    answer, vectors = found.views[0], FeastRows.of_view(found, found.views[0])
    columns = [msgspec.structs.asdict(vectors.vector(lists_of(answer.values, place)))["values"] for place in range(4)]
    assert columns[2] == [[86_400], [172_800], []]
    assert columns[0] == [["third", "second"], [], []]


def test_an_expression_on_demand_reads_a_list() -> None:
    of = view(features={"merchants": LastN("merchant", 3, as_list=True), "orders": LastN("order", 3, as_list=True)})
    merchants, orders = col("card__merchants_lifetime").list, col("card__orders_lifetime").list
    service = FeatureService(
        "fraud", [of], request={"merchant": str},
        on_demand={
            "is_known": merchants.contains(col("merchant")), "n": merchants.len(), "newest": orders.get(0),
            "largest": orders.max(),
        },
    )  # fmt: skip
    client = FeatureClient(served(of, log(("a", "grocery"), ("a", "bookshop"), ("b", None)), service))
    at = START + timedelta(days=1)
    rows = client.get("fraud", [{"card": each} for each in "abc"], as_of=at, request={"merchant": "grocery"})
    assert [row[-4:] for row in rows.to_lists()] == [
        [True, 2, 2**53 + 2, 2**53 + 2], [False, 0, 2**53 + 3, 2**53 + 3], [False, 0, None, None],
    ]  # fmt: skip


def test_a_list_keeps_what_the_columns_keep_and_an_older_release_refuses_its_spec() -> None:
    single, listed = (view(features={"x": LastN("order", 3, as_list=as_list)}) for as_list in (False, True))
    assert kernel(single.spec).tile == kernel(listed.spec).tile
    (feature,) = to_document(single.spec)["features"]
    assert "as_list" not in feature
    assert to_document(listed.spec)["features"] == [{**feature, "as_list": True}]
    document = {**to_document(listed.spec), "features": [{**feature, "as_set": True}]}
    with pytest.raises(DefinitionError, match=r"cannot read: .*unknown field `as_set`.*: upgrade headrace"):
        read_spec(document, ViewSpec, "the view")


def test_a_list_of_decimals_has_doubles_and_its_places() -> None:
    priced = Stream("priced", Priced, event_time="at")
    of = FeatureView("card", card, priced, [Lifetime()], {"prices": LastN("price", 2, as_list=True)})
    rows = log(stream=priced, events=[Priced(card="a", price=Decimal(each), at=START) for each in ("0.10", "2.25")])
    assert of.spec.column_kinds == {"card__prices_lifetime": "list(float)"}
    assert looked_up(of, rows, "a").to_lists() == [[[2.25, 0.1]]]


class Priced(Event):
    """A payment with a price."""

    card: str
    price: Annotated[Decimal, Places(2)]
    at: datetime


class Sent(Event):
    """A card sends to another one, or to itself."""

    sender: str
    receiver: str
    sender_city: str
    receiver_city: str
    at: datetime


def test_a_record_that_has_an_entity_in_two_roles_gives_it_the_text_of_the_last_one() -> None:
    sent = Stream("sent", Sent, event_time="at")
    of = FeatureView(
        "card", card,
        [Role(sent, card="sender", city="sender_city"), Role(sent, card="receiver", city="receiver_city")],
        windows=[Lifetime()], features={"last": Last("city"), "first": First("city"), "newest": LastN("city", 2)},
    )  # fmt: skip
    cities = ["a city whose name has many letters", "another city with as many of them"]
    event = Sent(sender="a", receiver="a", sender_city=cities[0], receiver_city=cities[1], at=START)
    rows = log(stream=sent, events=[event])
    assert looked_up(of, rows, "a").to_lists() == [[cities[1], cities[0], cities[1], cities[0]]]


def test_an_expression_on_demand_compares_a_text_and_a_time_with_the_request() -> None:
    of = view()
    service = FeatureService(
        "fraud", [of], request={"merchant": str, "now": datetime},
        on_demand={
            "is_same": col("merchant") == col("card__merchant_lifetime"),
            "is_later": col("now") > col("card__at_lifetime"),
            "year": col("card__due_lifetime").year(),
        },
    )  # fmt: skip
    client = FeatureClient(served(of, log(("a", "grocery")), service))
    found = client.get(
        "fraud", [{"card": "a"}, {"card": "b"}], as_of=START, request={"merchant": "grocery", "now": START}
    )
    assert [row[-3:] for row in found.to_lists()] == [[True, False, 1969], [None, None, None]]


def test_an_answer_over_http_has_times_as_text_and_feasts_has_them_in_seconds() -> None:
    found = looked_up(view(), log(("a", "grocery")), "a", "nobody")
    body = msgspec.json.decode(msgspec.json.encode(response_of(found, offsets=False)))
    assert body["rows"] == [
        ["grocery", "grocery", 2**53 + 1, "1969-12-30", "2026-01-01T00:00:00Z"],
        [None, None, None, None, None],
    ]
    (answer,) = found.views
    rows = FeastRows.of_view(found, answer)
    columns = [rows.vector(lists_of(answer.values, place)) for place in range(5)]
    values = [msgspec.structs.asdict(column)["values"] for column in columns]
    at = START_US // 10**6
    assert values == [["grocery", None], ["grocery", None], [2**53 + 1, None], [-172_800, None], [at, None]]


def test_a_sum_of_texts_is_still_refused() -> None:
    with pytest.raises(DefinitionError, match=r"is a sum of str; it takes \['bool', 'float', 'int'\]"):
        view(features={"merchants": Sum("merchant")})


def test_a_logged_vector_of_numbers_is_as_ever_and_another_one_has_its_texts() -> None:
    fields: dict[str, Any] = {
        "vector_id": "a", "model": "m", "key": "k", "requested_at": START, "served_at": START, "service": "s",
        "statuses": "{}", "offsets": "{}", "request": "{}",
    }  # fmt: skip
    times = b'"requested_at":"2026-01-01T00:00:00Z","served_at":"2026-01-01T00:00:00Z"'
    front = b'{"vector_id":"a","model":"m","key":"k",' + times + b',"service":"s",'
    rest = b'"statuses":"{}","offsets":"{}","request":"{}","record":null'
    numbers, texts = logged_values([3, None, True]), logged_values([3, None, "a", START, date(2026, 1, 31)])
    assert encode(ServedVector(**fields, **numbers)) == front + b'"values":[3.0,null,1.0],' + rest + b"}"
    assert encode(ServedVector(**fields, **texts)) == (
        front + b'"values":[3.0,null,null,null,null],' + rest
        + b',"texts":[null,null,"a","2026-01-01T00:00:00Z","2026-01-31"]}'
    )  # fmt: skip


def test_texts_of_a_log_are_read_as_their_kinds_and_nonsense_is_null() -> None:
    kinds = {"n": "float", "text": "str", "at": "datetime", "day": "date"}
    rows = [
        [None, "a", "2026-01-01T00:00:00.000001Z", "2026-01-31"], [None, None, "soon", "31 January"], [None, "b"], None,
    ]  # fmt: skip
    vectors = pl.DataFrame(
        {"values": [[1.0, None, None, None]] * 4, "texts": pl.Series(rows, dtype=pl.List(pl.String))}
    )
    found = vector_columns(vectors, kinds)
    assert found.rows() == [
        (1.0, "a", START + timedelta(microseconds=1), date(2026, 1, 31)),
        (1.0, None, None, None), (1.0, "b", None, None), (1.0, None, None, None),
    ]  # fmt: skip
    assert vector_columns(vectors.drop("texts"), kinds).schema == found.schema
