"""Views over nested events, decimals, dates and dicts: from batches and from the log, and with one record taken out."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from headrace import (
    Count,
    Entity,
    Event,
    FeatureService,
    FeatureView,
    Label,
    Last,
    LastN,
    Lifetime,
    Max,
    Mean,
    Min,
    Std,
    Sum,
    col,
)
from headrace.base.times import epoch_us
from headrace.errors import DefinitionError, RequestValueError
from headrace.event_log.event_log import EventLog
from headrace.features.kernel.field import unpack
from headrace.features.kernel.masked_column import MaskedColumn
from headrace.features.kernel.on_demand import expanded, on_demand
from headrace.features.kernel.on_demand_polars import on_demand_columns
from headrace.features.kernel.taking_out import fields_without
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.entity_rows import entity_rows
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory
from headrace.features.online.cursor import CursorState
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.streams.views.logged_rows import FOLDED, LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from headrace.trainers.data.label_values import label_value
from tests.support.paid_orders import CONTENT, NOON, RECORDED, SOURCE, append, judged, paid, payload

if TYPE_CHECKING:
    from pathlib import Path

card = FeatureView(
    "card",
    entity=Entity("card", keys={"card.card_id": int}),
    source=paid,
    windows=[Lifetime()],
    features={
        "n": Count(where=col("card.country") == "FR"),
        "spent": Sum("amount"),
        "left": Sum(col("amount") - col("amount") - col("amount")),
        "double": Sum(col("amount") * 2),
        "mean": Mean("amount"),
        "least": Min("amount"),
        "most": Max(-col("amount")),
        "newest": Last("amount"),
        "last": LastN("amount", n=2),
        "spread": Std("amount"),
        "weight": Sum(col("tags")["weight"]),
        "expires": Count(where=col("card.valid_until").year() == 2030),
        "dear": Count(where=col("amount") >= 12.5),
        "listed": Count(where=~col("items").is_null() & ~col("proof").is_null() & ~col("tags").is_null()),
    },
)
PAYLOADS = [
    payload(card={"cardId": 7, "country": "FR", "validUntil": "2030-05-01"}),
    payload(amount="0.1", tags={"weight": 1.5, "other": 9}),
    payload(amount="0.20", tags={}, card={"cardId": 7, "country": None}),
    payload(card={"cardId": 8, "country": "FR"}),
    payload(amount="1.001"),
]
VALUES: dict[str, Any] = {
    "n": 2, "spent": 12.8, "left": -12.8, "double": 25.6, "mean": 12.8 / 3, "least": 0.1, "most": -0.1, "newest": 0.2,
    "last_1": 0.2, "last_2": 0.1, "spread": float(np.std([12.5, 0.1, 0.2])), "weight": 4.0, "expires": 1, "dear": 1,
    "listed": 3,
}  # fmt: skip


def values(rows: pl.DataFrame) -> dict[str, Any]:
    history = ViewHistory(card.spec, rows)
    keys = pl.DataFrame({"card.card_id": [7]})
    queries = PointInTimeQueries(keys, np.array([epoch_us(NOON)]), np.array([[99]]), [SOURCE])
    found = history.values(queries)
    return {
        name.removeprefix("card__").removesuffix("_lifetime"): each.tolist()[0] if there[0] else None
        for name, (each, there) in zip(kernel(card.spec).columns, found, strict=True)
    }


def test_a_view_has_the_same_values_from_a_batch_from_the_whole_log_and_from_the_columns_that_it_uses(
    tmp_path: Path,
) -> None:
    log = EventLog(tmp_path)
    append(log, paid, PAYLOADS[:2])
    append(log, paid, PAYLOADS[2:])
    used = [*FOLDED, "__topic_id", *card.spec.fields_of(card.spec.stream.topic)]
    assert {"header.at", "card.card_id", "card.country", "tags"} <= set(used)
    for rows in (
        judged(paid, PAYLOADS),
        log.read("paid"),
        log.read_from("paid", SOURCE, 0, None, used),
        log.select("paid", None, used),
    ):
        assert values(rows) == pytest.approx(VALUES)
    exact = {name: VALUES[name] for name in ("spent", "left", "least", "most", "newest", "last_2", "weight")}
    assert {name: values(log.read("paid"))[name] for name in exact} == exact


def test_a_look_up_gives_doubles_of_the_values_that_a_worker_has_folded() -> None:
    store = MemoryOnlineStore()
    publish_definitions(store, [card], [])
    view = ViewPartition(card.spec, SOURCE, store)
    view.acquire(b"w" * 16, 1)
    for first in (0, 2):
        batch = PAYLOADS[first : first + 2] if first == 0 else PAYLOADS[first:]
        rows = LoggedRows.from_rows(judged(paid, batch, first), paid.event_time)
        for write in view.fold(rows, first + len(batch), CursorState.LIVE):
            assert store.write([write]) == [True]
            view.applied(write)
    entities = [{"card.card_id": 7}, {"card.card_id": 8}]
    found = FeatureClient(store).get_views(["card"], entities, as_of=RECORDED).to_dicts()
    assert {name: found[0][f"card__{name}_lifetime"] for name in VALUES} == pytest.approx(VALUES)
    assert (found[1]["card__spent_lifetime"], found[1]["card__last_2_lifetime"]) == (12.5, None)


def test_the_rows_behind_a_value_are_those_of_the_nested_key(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    append(log, paid, PAYLOADS)
    at_us = epoch_us(NOON)
    found = entity_rows(log, kernel(card.spec), {"card.card_id": 7}, {SOURCE.text: 99}, (at_us, at_us + 1))
    assert found.get_column("__offset").to_list() == [0, 1, 2]
    assert found.get_column("amount").to_list() == [Decimal("12.50"), Decimal("0.10"), Decimal("0.20")]


card_sums = FeatureView("card_sums", card.entity, paid, [Lifetime()], {"spent": Sum("amount"), "n": Count()})


def test_one_record_is_taken_out_of_sums_of_decimals() -> None:
    view = card_sums
    request = {"card.card_id": 7, "header.at": NOON, "amount": Decimal("0.10")}
    (field,) = fields_without(kernel(view.spec), [request])
    assert field is not None
    _, (tiles,) = unpack(field, kernel(view.spec).layout)
    assert [tiles[name].tolist() for name in ("c0", "c1", "c2")] == [[-10], [-10.0], [-1]]


tagged = FeatureView("tagged", card.entity, paid, [Lifetime()], {"weight": Sum(col("tags")["weight"])})


def test_one_record_is_taken_out_by_the_values_that_its_request_has_as_json() -> None:
    request = expanded({"card": {"card_id": 7}, "header.at": NOON, "amount": "0.10", "tags": {"weight": 2.5}})
    for view, taken in ((card_sums, -10), (tagged, -2.5)):
        (field,) = fields_without(kernel(view.spec), [request])
        assert field is not None
        _, (tiles,) = unpack(field, kernel(view.spec).layout)
        assert tiles["c0"].tolist() == [taken]
    with pytest.raises(RequestValueError, match="the request is not an event of 'paid'"):
        fields_without(kernel(card_sums.spec), [{**request, "amount": "much"}])


class Buyer(Event):
    country: str | None
    age: int
    city: str


def test_a_request_brings_the_fields_of_a_nested_event_to_on_demand_features() -> None:
    service = FeatureService(
        "near",
        [card_sums],
        on_demand={"abroad": col("buyer.country") != "FR", "dear": col("buyer.age") * col("card_sums__spent_lifetime")},
        request={"buyer": Buyer},
    )
    assert [each.name for each in service.request_fields] == ["buyer.country", "buyer.age"]
    made = on_demand(service.spec.on_demand)
    nested: list[dict[str, Any]] = [
        {"buyer": {"country": "DE", "age": 30}},
        {"buyer": {"country": None, "age": 40, "city": "Rome"}},
    ]
    flat: list[dict[str, Any]] = [{"buyer.country": "DE", "buyer.age": 30}, {"buyer.country": None, "buyer.age": 40}]
    spent = np.array([1.5, 2.0])
    for rows in (nested, flat):
        online = made.values({"card_sums__spent_lifetime": (spent, np.ones(2, bool))}, made.given(rows), 2)
        assert [MaskedColumn(*each).to_list() for each in online] == [[True, None], [45.0, 80.0]]
        found = on_demand_columns(made, pl.DataFrame({"card_sums__spent_lifetime": spent}), pl.DataFrame(rows))
        assert found.to_dict(as_series=False) == {"abroad": [True, None], "dear": [45.0, 80.0]}
    with pytest.raises(RequestValueError, match=r"Expected `int`, got `str` - at `\$\[0\]\.buyer\.age`"):
        made.given([{"buyer": {"country": "DE", "age": "x"}}])


def test_a_label_may_be_a_decimal_or_a_condition_on_a_nested_field() -> None:
    frame = pl.DataFrame({"amount": [Decimal("12.50"), None], "card.country": ["FR", "DE"]}).with_columns(
        pl.col("amount").cast(pl.Decimal(18, 2))
    )
    amount = Label(paid, value=col("amount"), on="card.card_id", within="1d")
    french = Label(paid, value=(col("card.country") == "FR") & (col("amount") > 10), on="card.card_id", within="1d")
    assert frame.select(label_value(amount)).to_series().to_list() == [12.5, None]
    assert frame.select(label_value(french)).to_series().to_list() == [True, False]


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        (Sum("proof"), "is a sum of bytes"),
        (Count("items"), r"is a count of list\(event\)"),
        (Count(where=col("items") == col("items")), r"'eq' cannot take list\(event\) and list\(event\)"),
        (Count(where=col("proof").fill_null("")), "'fill_null' cannot take bytes and str"),
        (Sum("card"), "there is no column 'card'; there are .*'card.card_id'"),
        (Sum("tags"), r"is a sum of dict\(float\)"),
        (Sum(col("amount")["k"]), r"'item' cannot take decimal\(2\)"),
        (Count(where=col("tags") == col("tags")), r"'eq' cannot take dict\(float\) and dict\(float\)"),
        (Sum(col("card.valid_until").hour()), "'hour' cannot take date"),
        (Max("card.valid_until"), "is a max of date"),
        (Count(where=col("card.valid_until") == col("header.at")), "'eq' cannot take date and datetime"),
    ],
)
def test_a_column_that_an_expression_cannot_read_is_refused_with_its_kind(feature: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        FeatureView("wrong", card.entity, paid, [Lifetime()], {"x": feature})


def test_a_key_of_a_dict_is_a_text() -> None:
    with pytest.raises(DefinitionError, match=r"\[0\]: a key is a text, such as col\('tags'\)\['colour'\]"):
        col("tags")[0]
    assert CONTENT["tags"] == {"weight": 2.5}
