"""Large expressions: each part is computed once, and one that is too large is refused where it is written."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.errors import DefinitionError
from headrace.features.definitions.aggregates import Last
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import Expression, col
from headrace.features.definitions.expression_tree import check, columns
from headrace.features.definitions.functions import max_of, min_of, when
from headrace.features.definitions.role import Role
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.testing import fold
from headrace.trainers.definitions import Label

if TYPE_CHECKING:
    from collections.abc import Callable


class Paid(Event):
    card: str
    amount: float | None
    pieces: int
    at: datetime


paid = Stream("paid", Paid, event_time="at")
ROWS = [
    {"card": card, "amount": amount, "pieces": pieces, "at": "2024-01-01T00:00:00Z"}
    for card, amount, pieces in (("a", 1.5, 2), ("b", -3.0, 1), ("c", None, 3))
]


def view(value: Expression | str, **words: Any) -> FeatureView:
    return FeatureView("v", Entity("card"), paid, ["1h"], {"f": Last(value)}, **words)


def values(value: Expression | str, **words: Any) -> list[Any]:
    return fold(view(value, **words), ROWS).column("v__f_1h")


def repeated(step: Callable[[Expression], Expression], times: int, of: str = "amount") -> Expression:
    found = col(of)
    for _ in range(times):
        found = step(found)
    return found


def test_chain_of_derived_columns_that_name_one_twice_is_as_large_as_it_is_long() -> None:
    halved = {f"d{place}": (col(f"d{place - 1}") + col(f"d{place - 1}")) / 2 for place in range(1, 60)}
    assert values("d59", derived={"d0": col("amount") + 0} | halved) == [1.5, -3.0, None]


def test_chain_of_derived_columns_may_be_longer_than_one_expression() -> None:
    longer = {f"d{place}": abs(col(f"d{place - 1}")) + 1 for place in range(1, 400)}
    assert values("d399", derived={"d0": col("amount") + 0} | longer) == [400.5, 402.0, None]


def test_bounds_inside_one_another_are_computed_once() -> None:
    assert values(repeated(lambda x: x.clip(-2, 1), 40)) == [1.0, -2.0, None]
    assert values(repeated(lambda x: when(x.is_null()).then(0).otherwise(x), 11)) == [1.5, -3.0, 0.0]


def test_extremes_of_one_kind_keep_it() -> None:
    assert values(min_of(*(col("pieces") + place for place in range(40)))) == [2, 1, 3]
    first = fold(view(max_of(*[col("at")] * 40)), ROWS).column("v__f_1h")
    assert first == [datetime.fromisoformat(str(ROWS[0]["at"]))] * 3


@pytest.mark.parametrize("steps", [600, 5_000])
def test_expression_of_too_many_steps_inside_one_another_is_refused_with_what_to_do(steps: int) -> None:
    deep = repeated(lambda x: x + 1, steps)
    with pytest.raises(
        DefinitionError, match=rf"view 'v': feature 'f': an expression has .* up to {steps + 1:,} ins"
    ) as of:
        view(deep)
    assert "give an inner part a name of its own, in derived= of a view" in str(of.value)
    with pytest.raises(DefinitionError, match=r"view 'v': derived 'd': .*300 inside one another"):
        view("d", derived={"d": deep})
    with pytest.raises(DefinitionError, match=r"view 'v': where: .*300 inside one another"):
        view("amount", where=deep > 1)
    with pytest.raises(DefinitionError, match="300 inside one another"):
        Role(paid, where=deep > 1)
    with pytest.raises(DefinitionError, match=r"service 's': on_demand 'f': .*300 inside one another"):
        FeatureService("s", [view("amount")], request={}, on_demand={"f": deep}).spec  # noqa: B018
    with pytest.raises(DefinitionError, match="300 inside one another"):
        Label(paid, value=deep > 1, on="card", within="1d").spec  # noqa: B018


def test_expression_of_the_most_steps_inside_one_another_is_computed() -> None:
    assert values(repeated(lambda x: abs(x + 0), 149)) == [1.5, 3.0, None]


def test_expression_that_is_written_out_too_often_is_refused() -> None:
    doubled = repeated(lambda x: x * x, 60)
    with pytest.raises(DefinitionError, match="over a trillion steps"):
        view(doubled)


def test_trees_of_any_depth_are_read() -> None:
    deep = repeated(lambda x: x + 1, 5_000).tree
    check(deep)
    assert columns(deep) == {"amount"}
    with pytest.raises(DefinitionError, match="is not an expression of this version"):
        check(json.loads('["add", ["col", "a"], ["nothing"]]'))
