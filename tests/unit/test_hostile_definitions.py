"""Definitions that cannot work are refused where they are written, and no expression is exponentially large."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import pytest

from headrace import (
    Calendar,
    Correlation,
    Count,
    CountBy,
    Entity,
    Event,
    FeatureService,
    FeatureView,
    Gap,
    Histogram,
    Last,
    LastN,
    Quantile,
    Role,
    Session,
    Sliding,
    Stream,
    Sum,
    SumBy,
    TopK,
    Tumbling,
    Vector,
    col,
    max_of,
    min_of,
)
from headrace.errors import DefinitionError
from headrace.testing import fold

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.features.definitions.aggregates import Aggregate
    from headrace.features.definitions.expression import Expression

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Paid(Event):
    card: str
    shop: str | None
    amount: float
    pieces: int
    at: datetime


class Endless(Event):
    at: datetime
    taste: Annotated[list[float], Vector]


paid = Stream("paid", Paid, event_time="at")
ROWS = [Paid("a", "x", 1.5, 2, NOON), Paid("b", None, -3.0, 5, NOON)]


def view(feature: Aggregate) -> FeatureView:
    return FeatureView("v", Entity("card"), paid, ["1h"], {"f": feature})


HALF = "\ud800"
WRONG: dict[str, Callable[[], object]] = {
    "half a pair of surrogates": lambda: col("shop") == HALF,
    "half a pair in a list": lambda: col("shop").is_in(["a", HALF]),
    "half a pair as a key": lambda: col("tags")[HALF],
    "half a pair as a separator": lambda: col("shop").text.split_part(HALF, 0),
    "half a pair as a category": lambda: CountBy("shop", of={"half": HALF}).spec,
    "a category of more than 64 bits": lambda: CountBy("pieces", of=[2**70]).spec,
    "a number as a name": lambda: SumBy("amount", by="shop", of={1: "a"}).spec,  # type: ignore[dict-item]
    "bytes as categories": lambda: CountBy("pieces", of=b"abc").spec,
    "no value": lambda: Sum(None).spec,  # type: ignore[arg-type]
    "no value to count": lambda: TopK(None, 2).spec,  # type: ignore[arg-type]
    "no value to pair": lambda: Correlation("amount", None).spec,  # type: ignore[arg-type]
    "a list of gaps": lambda: Gap(["mean"]),  # type: ignore[arg-type]
    "an edge that is no number": lambda: Histogram("amount", [0, math.nan]),
    "an edge without an end": lambda: Histogram("amount", [0, math.inf]),
    "an edge beyond a double": lambda: Histogram("amount", [10**400]),
    "edges of texts": lambda: Histogram("amount", "abc"),  # type: ignore[arg-type]
    "one edge": lambda: Histogram("amount", 5),  # type: ignore[arg-type]
    "an error of a text": lambda: Quantile("amount", 0.5, error="1%"),  # type: ignore[arg-type]
    "a list of lists": lambda: Quantile("amount", [[0.5]]),  # type: ignore[list-item]
    "a text as a choice": lambda: LastN("shop", 3, as_list="no"),  # type: ignore[arg-type]
    "a window of the future": lambda: Sliding("1h", lag=timedelta(hours=-1)).spec,
    "a window of an age of the earth": lambda: Tumbling("99999999999d").spec,
    "a window of 5,000 digits": lambda: Tumbling("9" * 5_000 + "d").spec,
    "the longest timedelta": lambda: Session(timedelta.max).spec,
    "sixty gaps beyond all times": lambda: Session("3650000d").spec,
    "a history of the future": lambda: replace(view(Count()), history=timedelta(days=-1)),
    "an age before the event": lambda: replace(view(Count()), max_age=timedelta(microseconds=-1)),
    "a tolerance of the past": lambda: replace(paid, tolerance=timedelta(days=-1)),
    "a tolerance without end": lambda: replace(paid, tolerance=timedelta.max),
    "a topic that Kafka refuses": lambda: replace(paid, topic=".."),
    "a history without end": lambda: replace(view(Count()), history="99999999999d"),
    "half a pair of surrogates as a column": lambda: Role(paid, {"\ud800": "card"}),
    "a vector without a length": lambda: Stream("endless", Endless, event_time="at"),
    "periods in halves": lambda: Calendar("day", ago=1.0).spec,  # type: ignore[arg-type]
    "a truth as a number of periods": lambda: Calendar("day", ago=True).spec,
    "a text as a number of periods": lambda: Calendar("day", ago="1").spec,  # type: ignore[arg-type]
    "a list of periods": lambda: Calendar(["day"]).spec,  # type: ignore[arg-type]
    "a number of keys": lambda: Entity("card", keys=5),  # type: ignore[arg-type]
    "a key that is a text": lambda: Entity("card", keys="card"),
    "a key twice": lambda: Entity("card", keys=["card", "card"]),
    "a type as a text": lambda: Entity("card", keys={"card": "str"}),  # type: ignore[dict-item]
    "no type": lambda: Entity("card", None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG)
def test_definition_that_cannot_work_is_refused_where_it_is_written(name: str) -> None:
    with pytest.raises(DefinitionError):
        WRONG[name]()


def test_long_sum_is_computed_at_once() -> None:
    terms, product, quotient = col("amount"), col("amount"), col("amount")
    for place in range(60):
        terms, product, quotient = terms + place, product * 1.0, quotient / 1.0
    found = fold(view(Last(terms + product - quotient)), ROWS)
    assert found.column("v__f_1h") == [1.5 + sum(range(60)), -3.0 + sum(range(60))]


def test_sum_that_is_not_finite_on_its_way_is_null() -> None:
    beyond = col("amount") * 1e308 * 1e10
    for feature in (beyond * 0, beyond - beyond, beyond / beyond, 1 / beyond, beyond + 1, col("amount") / 0 - 1):
        assert fold(view(Last(feature)), ROWS).column("v__f_1h") == [None, None]


@pytest.mark.parametrize(("of", "wanted"), [(min_of, -20), (max_of, 19)])
def test_extreme_of_many_columns_is_computed_at_once(of: Callable[..., Expression], wanted: int) -> None:
    values = [col("amount"), *(col("pieces") * 0 + place for place in range(-20, 20))]
    assert fold(view(Last(of(*values))), ROWS).column("v__f_1h") == [wanted, wanted]


def test_entities_of_a_fold_need_no_key_of_a_view_without_one() -> None:
    everyone = FeatureView("all", Entity("all", keys=[]), paid, ["1h"], {"n": Count()})
    found = fold(FeatureService("both", [everyone, view(Count())]), ROWS)
    assert [(row["card"], row["all__n_1h"], row["v__f_1h"]) for row in found.to_dicts()] == [("a", 2, 1), ("b", 2, 1)]
