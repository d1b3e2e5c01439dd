"""Expressions over nested fields, decimals, dates and dicts mean the same in Polars, in numpy and in a plain loop.

Sums of decimals are exact, however the rows are cut into batches.
"""

from __future__ import annotations

import math
import operator
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Count, Entity, Event, FeatureView, LastN, Lifetime, Max, Mean, Min, Places, Stream, Sum
from headrace.features.definitions.decimals import lowered
from headrace.features.definitions.expression_kinds import kind
from headrace.features.definitions.expression_tree import trees_of
from headrace.features.kernel.expression_numpy import to_numpy
from headrace.features.kernel.expression_polars import to_polars
from headrace.features.kernel.masked_column import column
from headrace.features.kernel.role_rows import with_time
from headrace.features.kernel.tile_kernel import kernel
from tests.support.example_budget import examples
from tests.support.paid_orders import judged
from tests.support.random_expressions import kleene

if TYPE_CHECKING:
    import polars as pl

Money = Annotated[Decimal, Places(2)]
NOON = datetime(2023, 11, 14, 12, tzinfo=UTC)


class Card(Event):
    country: str | None
    n: int | None
    until: date | None
    fee: Money | None


class Sale(Event):
    at: datetime
    shop: str
    card: Card | None
    a: Money | None
    b: Annotated[Decimal, Places(4)] | None
    f: float | None
    on: date | None
    tags: dict[str, float] | None
    counts: dict[str, int] | None


sales = Stream("sales", Sale, event_time="at")
KINDS = sales.spec.kinds
PLACES = {"a": 2, "card.fee": 2, "b": 4}


def money(places: int) -> st.SearchStrategy[Decimal]:
    small = st.integers(-500, 500) | st.sampled_from([10**17, -(10**17), 10**18 - 1])
    return small.map(lambda units: Decimal(units).scaleb(-places))


numbers = st.sampled_from([0.0, -0.5, 1.5, 1e300, 3.0, 0.1])
days = st.dates(date(1960, 1, 1), date(2100, 12, 31)) | st.sampled_from([date(1, 1, 1), date(9999, 12, 31)])
cards = st.fixed_dictionaries(
    {
        "country": st.none() | st.sampled_from(["FR", "DE"]),
        "n": st.none() | st.integers(-3, 3),
        "until": st.none() | days,
        "fee": st.none() | money(2),
    }
)
rows_strategy = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.just(NOON),
            "shop": st.sampled_from("xy"),
            "card": st.none() | cards,
            "a": st.none() | money(2),
            "b": st.none() | money(4),
            "f": st.none() | numbers,
            "on": st.none() | days,
            "tags": st.none() | st.dictionaries(st.sampled_from("kl"), numbers),
            "counts": st.none() | st.dictionaries(st.sampled_from("kl"), st.integers(-3, 3)),
        }
    ),
    min_size=1,
    max_size=6,
)


def tree_of(drawn: Any) -> Any:
    return list(drawn)


decimal_leaf = st.sampled_from(sorted(PLACES)).map(lambda name: ["col", name])
number_leaf = (
    decimal_leaf
    | st.sampled_from(
        [["col", "card.n"], ["col", "f"], ["item", ["col", "tags"], "k"], ["item", ["col", "counts"], "l"]]
    )
    | st.tuples(st.sampled_from(["year", "month", "day", "weekday"]), st.sampled_from(["on", "card.until"])).map(
        lambda drawn: [drawn[0], ["col", drawn[1]]]
    )
    | (st.integers(-3, 3) | numbers).map(lambda value: ["lit", value])
)
condition_leaf = st.tuples(st.just("is_null"), decimal_leaf).map(tree_of)
number = st.recursive(
    number_leaf,
    lambda inner: (
        st.tuples(st.sampled_from(["add", "sub", "mul", "div", "fill_null"]), inner, inner).map(tree_of)
        | st.tuples(st.sampled_from(["add", "sub", "fill_null"]), decimal_leaf, decimal_leaf).map(tree_of)
        | st.tuples(st.sampled_from(["neg", "abs"]), inner).map(tree_of)
        | st.tuples(st.sampled_from(["min_of", "max_of"]), decimal_leaf, decimal_leaf | inner).map(tree_of)
        | st.tuples(st.just("when"), condition_leaf, decimal_leaf, decimal_leaf | inner).map(tree_of)
        | st.tuples(st.just("cast"), decimal_leaf, st.just("float")).map(tree_of)
    ),
    max_leaves=4,
)
compare = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])
condition = st.recursive(
    st.tuples(compare, number, number).map(tree_of)
    | st.tuples(compare, decimal_leaf, decimal_leaf).map(tree_of)
    | st.tuples(compare, st.just(["col", "on"]), st.just(["col", "card.until"])).map(tree_of)
    | st.tuples(compare, st.just(["col", "card.country"]), st.sampled_from(["FR", "X"]).map(lambda v: ["lit", v])).map(
        list
    )
    | st.tuples(st.just("is_null"), number | st.sampled_from([["col", "tags"], ["col", "card.until"]])).map(tree_of)
    | st.tuples(st.just("is_in"), decimal_leaf, st.lists(st.sampled_from([0.1, 1.5, -2.0]), max_size=3)).map(tree_of),
    lambda inner: (
        st.tuples(st.sampled_from(["and", "or"]), inner, inner).map(tree_of)
        | st.tuples(st.just("not"), inner).map(tree_of)
    ),
    max_leaves=3,
)
OPERATORS = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "neg")}


def plain(tree: Any, row: dict[str, Any]) -> Any:  # noqa: C901, PLR0911, PLR0912 - one line a kind of step
    """The meaning of a tree over one row, as the documentation says it."""
    name, *arms = tree
    if name == "col":
        found: Any = row
        for part in arms[0].split("."):
            found = None if found is None else found[part]
        return found
    if name == "lit":
        return arms[0]
    if name == "item":
        found = plain(arms[0], row)
        return None if found is None else found.get(arms[1])
    if name == "is_in":
        value = plain(arms[0], row)
        return None if value is None else double(value, arms[0]) in arms[1]
    arms = trees_of(tree)
    values = [plain(arm, row) for arm in arms]
    if name in {"and", "or"}:
        return kleene(name, values)
    if name == "is_null":
        return values[0] is None
    if name == "when":
        arms, values = arms[1:], values[1:]
    kinds = {kind(arm, KINDS) for arm in arms}
    exact = name in EXACT and len(kinds) == 1
    if not exact:
        values = [double(value, arm) for value, arm in zip(values, arms, strict=True)]
    if name == "fill_null":
        filled = values[1] if values[0] is None else values[0]
        return float(filled) if kind(tree, KINDS) == "float" and filled is not None else filled
    if name == "when":
        chosen = values[0] if plain(tree[1], row) else values[1]
        return float(chosen) if kind(tree, KINDS) == "float" and chosen is not None else chosen
    if None in values:
        return None
    if name in {"abs", "min_of", "max_of", "cast"}:
        return corner(name, values, tree)
    if name == "not":
        return not values[0]
    if name in {"year", "month", "day"}:
        return getattr(values[0], name)
    if name == "weekday":
        return values[0].isoweekday()
    if name == "div":
        values = [float(value) for value in values]
        result: Any = values[0] / values[1] if values[1] else math.inf
    else:
        result = OPERATORS[name](*values)
    if isinstance(result, Decimal):
        units = (int(result.scaleb(places(tree))) + 2**63) % 2**64 - 2**63
        return Decimal(units).scaleb(-places(tree))
    return None if isinstance(result, float) and not math.isfinite(result) else result


EXACT = {*OPERATORS, "fill_null", "abs", "min_of", "max_of", "when"} - {"mul"}


def corner(name: str, values: list[Any], tree: Any) -> Any:
    if name == "cast":
        return values[0]
    if name == "abs":
        found = abs(values[0])
        return None if isinstance(found, int) and found == 2**63 else found
    found = (min if name == "min_of" else max)(values)
    return float(found) if kind(tree, KINDS) == "float" else found


def places(tree: Any) -> int:
    return int(kind(tree, KINDS)[8:-1])


def double(value: Any, tree: Any) -> Any:
    """A decimal as a double: its units divided by a power of ten."""
    return float(int(value.scaleb(places(tree)))) / 10.0 ** places(tree) if isinstance(value, Decimal) else value


def units(value: Any, tree: Any) -> Any:
    return int(value.scaleb(places(tree))) if isinstance(value, Decimal) else value


def payloads(rows: list[dict[str, Any]]) -> list[bytes]:
    return [msgspec.json.encode(row) for row in rows]


def frames(rows: list[dict[str, Any]], cut: int) -> list[pl.DataFrame]:
    """The rows as the kernel takes them, in two batches."""
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    return [with_time(judged(sales, payloads(part)), "at") for part in parts]


@pytest.mark.long
@settings(max_examples=examples(200), deadline=None)
@given(number | condition, rows_strategy, st.integers(0, 6))
def test_a_step_means_the_same_everywhere(tree: Any, rows: list[dict[str, Any]], cut: int) -> None:
    wanted = [units(plain(tree, row), tree) for row in rows]
    low = lowered(tree, KINDS)
    found = [
        value
        for frame in frames(rows, cut)
        for value in frame.select("__time", to_polars(low).alias("found")).get_column("found").to_list()
    ]
    assert found == wanted
    table = {name: column([plain(["col", name], row) for row in rows], of) for name, of in KINDS.items()}
    assert to_numpy(low, table, len(rows)).to_list() == wanted


view = FeatureView(
    "shop",
    Entity("shop"),
    sales,
    [Lifetime()],
    {"n": Count("a"), "sum": Sum("a"), "mean": Mean("a"), "min": Min("a"), "max": Max("a"), "last": LastN("a", n=2)},
)
amounts = st.lists(st.none() | money(2), min_size=1, max_size=40)


@pytest.mark.long
@settings(max_examples=examples(60), deadline=None)
@given(amounts, st.lists(st.integers(1, 10), max_size=6))
def test_a_sum_of_decimals_is_exact_in_any_batch_cut(given_: list[Decimal | None], cuts: list[int]) -> None:
    compiled = kernel(view.spec)
    blank = dict.fromkeys(Sale.__struct_fields__)
    rows = [blank | {"at": NOON, "shop": "x", "a": amount} for amount in given_]
    merged, start = compiled.empty, 0
    for size in [*cuts, len(rows)]:
        part = rows[start : start + size]
        if part:
            lifted = compiled.lift(with_time(judged(sales, payloads(part), start), "at"))
            merged = compiled.merge(merged, compiled.reduce(lifted, np.array([0])))
        start += size
    known = [amount for amount in given_ if amount is not None]
    exact = sum(int(amount.scaleb(2)) for amount in known)
    newest = [float(amount) for amount in reversed(known)][:2]
    (n, total, mean, least, most, *last) = compiled.finish(merged, np.array([0]))
    assert n[0][0] == len(known)
    assert total[0][0] == float(Fraction(exact, 100))
    assert mean[1][0] == bool(known)
    assert [least[1][0], most[1][0]] == [bool(known)] * 2
    assert [values[0] for values, there in last if there[0]] == newest
    if known:
        assert [least[0][0], most[0][0]] == [float(min(known)), float(max(known))]
        assert mean[0][0] == pytest.approx(exact / 100 / len(known), abs=1e-9 * float(sum(map(abs, known))))
