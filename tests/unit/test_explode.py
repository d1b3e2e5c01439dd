"""Lists of items as the source of a view: which columns an item has, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from headrace import (
    Count,
    Entity,
    Event,
    FeatureView,
    First,
    Last,
    LastN,
    Lifetime,
    Max,
    Places,
    Role,
    Stream,
    Sum,
    col,
)
from headrace import Vector as VectorOf
from headrace.errors import DefinitionError
from headrace.features.definitions.spec import read_spec, to_document
from headrace.features.definitions.view_spec import ViewSpec
from headrace.testing import fold

START = datetime(2026, 1, 1, tzinfo=UTC)


class Size(Event):
    """A size."""

    width: float


class Item(Event):
    """An item of a basket."""

    sku: str
    pieces: int
    price: Annotated[Decimal, Places(2)]
    size: Size | None = None


class Basket(Event):
    """A user buys some items."""

    user: str
    at: datetime
    items: list[Item] | None
    words: list[str | None] = msgspec.field(default_factory=list)
    shape: Annotated[list[float], VectorOf(2)] | None = None


baskets = Stream("baskets", Basket, event_time="at", key="user")
sku = Entity("sku", str)
NAMED = {"sku": "items.sku"}


def basket(*items: Item, **more: Any) -> Basket:
    return Basket(**{"user": "ann", "at": START, "items": list(items), **more})


def test_an_item_is_a_row_with_the_fields_of_its_record_and_its_own() -> None:
    of = FeatureView(
        "sku", sku, Role(baskets, NAMED, explode="items"), [Lifetime()],
        {
            "n": Count(), "pieces": Sum("items.pieces"), "paid": Sum("items.price"), "widest": Max("items.size.width"),
            "users": LastN("user", 3, as_list=True), "first": First("items.pieces"), "last": Last("items.pieces"),
        },
    )  # fmt: skip
    rows = [
        basket(Item("a", 2, Decimal("0.10"), Size(3.5)), Item("b", 1, Decimal(9)), Item("a", 5, Decimal("0.20"))),
        basket(), basket(items=None), basket(Item("a", 1, Decimal("0.30")), user="ben"),
    ]  # fmt: skip
    found = fold(of, rows).to_dicts()
    assert [list(row.values())[2:] for row in found] == [
        [3, 8, 0.6, 3.5, ["ben", "ann", "ann"], 2, 1], [1, 1, 9.0, None, ["ann"], 1, 1],
    ]  # fmt: skip
    assert of.spec.fields_of("baskets") == ["at", "items", "user"]


def test_an_item_of_a_list_of_texts_has_the_name_of_the_list_and_a_null_is_a_row() -> None:
    of = FeatureView("word", Entity("words", str), Role(baskets, explode="words"), [Lifetime()], {"n": Count()})
    every = FeatureView("all", Entity("all", keys=[]), Role(baskets, explode="words"), [Lifetime()], {"n": Count()})
    rows = [basket(words=["x", None, "x"]), basket(words=["y"])]
    assert [row["word__n_lifetime"] for row in fold(of, rows).to_dicts()] == [2, 1]
    assert fold(every, rows).to_dicts()[0]["all__n_lifetime"] == 4


def test_a_filter_and_a_column_of_the_role_read_the_item() -> None:
    role = Role(
        baskets, NAMED, explode="items", where=col("items.pieces") > 1, paid=col("items.pieces") * col("items.price")
    )
    of = FeatureView("sku", sku, role, [Lifetime()], {"n": Count(), "paid": Sum("paid")})
    rows = [basket(Item("a", 2, Decimal("0.50")), Item("a", 1, Decimal(7)), Item("a", 3, Decimal(2)))]
    assert list(fold(of, rows).to_dicts()[0].values())[2:] == [2, 7.0]


def test_a_record_that_takes_back_takes_each_item_back() -> None:
    returned = Stream("returned", Basket, event_time="at", key="user")
    sources = [Role(baskets, NAMED, explode="items"), Role(returned, NAMED, explode="items", takes_back=True)]
    of = FeatureView("sku", sku, sources, [Lifetime()], {"n": Count(), "pieces": Sum("items.pieces")})
    bought = [basket(Item("a", 2, Decimal(1)), Item("b", 1, Decimal(1)))]
    found = fold(of, {baskets: bought, returned: [basket(Item("a", 2, Decimal(1)))]}).to_dicts()
    assert [list(row.values())[2:] for row in found] == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("explode", "reason"),
    [
        ("user", r"role of 'baskets': explode='user' is no list; the lists of the stream are \['items', 'words'\]"),
        ("shape", r"explode='shape' is no list"),
        ("item", r"explode='item' is no list"),
        (7, r"role of 'baskets': explode=7.*the name of a list, such as 'items'"),
    ],
)
def test_only_a_list_can_be_exploded(explode: Any, reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        Role(baskets, explode=explode)


def test_the_list_itself_is_no_column_and_a_join_key_needs_a_column() -> None:
    with pytest.raises(DefinitionError, match="feature 'n': there is no column 'items'; there are"):
        FeatureView("sku", sku, Role(baskets, NAMED, explode="items"), ["1h"], {"n": Count("items")})
    with pytest.raises(DefinitionError, match=r"'baskets' has no field 'sku'; it has .*'items.sku'"):
        FeatureView("sku", sku, Role(baskets, explode="items"), ["1h"], {"n": Count()})


def test_a_spec_names_the_list_so_that_an_older_release_refuses_it() -> None:
    of = FeatureView("sku", sku, Role(baskets, NAMED, explode="items"), ["1h"], {"n": Count()})
    plain = FeatureView("user", Entity("user", str), Role(baskets), ["1h"], {"n": Count()})
    document = to_document(of.spec)
    assert document["roles"][0]["explode"] == "items"
    assert "explode" not in to_document(plain.spec)["roles"][0]
    assert read_spec(document, ViewSpec, "the view").version == of.version
