"""Steps of lists, in Polars, in numpy and in plain Python, and membership in lists and among columns."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from headrace import col
from headrace.errors import DefinitionError
from headrace.features.definitions.expression_kinds import kind, nullable
from headrace.features.definitions.expression_tree import check
from headrace.features.kernel.expression_numpy import to_numpy
from headrace.features.kernel.expression_polars import to_polars
from headrace.features.kernel.masked_column import column
from tests.support.three_readings import all_alike

if TYPE_CHECKING:
    from collections.abc import Callable

LISTS: dict[str, list[Any]] = {
    "int": [None, [], [None], [3], [1, 2, None], [2**62, 2**62], [2**53, 1], [-(2**63)]],
    "float": [None, [], [None], [0.1] * 10, [1e308, 1e308], [1e16, 1.0, -1e16], [2.5, None, -1.5], [float(2**53)]],
    "str": [None, [], [None], ["a"], ["b", "a", None], ["ä", ""]],
    "bool": [None, [], [True], [False, None]],
}
ITEMS: dict[str, list[Any]] = {
    "int": [1, 3, 2**53 + 1, None], "float": [0.1, 3.0, 2.0**53, None], "str": ["a", "", None], "bool": [True, None],
}  # fmt: skip


def rows(of: str) -> list[tuple[Any]]:
    return [(each,) for each in LISTS[of]]


@pytest.mark.parametrize("of", ["int", "float"])
@pytest.mark.parametrize("step", ["list_sum", "list_mean", "list_min", "list_max", "list_length"])
def test_steps_of_numbers(step: str, of: str) -> None:
    all_alike([step, ["col", "x"]], {"x": f"list({of})"}, rows(of))


@pytest.mark.parametrize("place", [0, 1, -1, -3, 9])
@pytest.mark.parametrize("of", LISTS)
def test_an_item_by_its_place(of: str, place: int) -> None:
    all_alike(["list_get", ["col", "x"], place], {"x": f"list({of})"}, rows(of))


@pytest.mark.parametrize("of", LISTS)
def test_membership_in_a_list(of: str) -> None:
    tree = col("y").is_in(col("x")).tree
    assert tree == ["list_contains", ["col", "x"], ["col", "y"]] == col("x").list.contains(col("y")).tree
    all_alike(tree, {"x": f"list({of})", "y": of}, [*itertools.product(LISTS[of], ITEMS[of])])


def test_membership_of_a_whole_number_in_a_list_of_doubles() -> None:
    all_alike(
        ["list_contains", ["col", "x"], ["col", "y"]],
        {"x": "list(float)", "y": "int"},
        [*itertools.product([[3.0], [None]], [3, 4, None])],
    )


@pytest.mark.parametrize(
    ("value", "wanted"), [("a", [True, True, False]), ("b", [False, True, True]), (None, [None] * 3)]
)
def test_membership_among_columns(value: str | None, wanted: list[bool | None]) -> None:
    tree = col("x").is_in([col("p"), col("q")]).tree
    assert tree == ["among", ["col", "x"], ["col", "p"], ["col", "q"]]
    table = {"x": [value] * 3, "p": ["a", "b", None], "q": [None, "a", "b"]}
    assert (
        pl.DataFrame(table, schema=dict.fromkeys(table, pl.String())).select(to_polars(tree)).to_series().to_list()
        == wanted
    )
    assert to_numpy(tree, {name: column(of, "str") for name, of in table.items()}, 3).to_list() == wanted
    assert kind(tree, dict.fromkeys("xpq", "str")) == "bool"
    assert not nullable(tree, {"p", "q"})


def test_methods_make_the_steps() -> None:
    items = col("x").list
    made = [items.len(), items.contains(1), items.get(-1), items.sum(), items.mean(), items.min(), items.max()]
    for each in made:
        check(each.tree)
    assert [kind(each.tree, {"x": "list(int)"}) for each in made] == [
        "int",
        "bool",
        "int",
        "int",
        "float",
        "int",
        "int",
    ]
    assert [nullable(each.tree, set()) for each in made] == [False, False, True, True, True, True, True]
    assert kind(items.len().tree, {"x": "list(event)"}) == "int"


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (
            lambda: kind(col("s").list.mean().tree, {"s": "list(str)"}),
            r"'list_mean' cannot take list\(str\) in .*int or float",
        ),
        (lambda: kind(col("s").list.len().tree, {"s": "str"}), "'list_length' cannot take str in .*; it takes a list"),
        (
            lambda: kind(col("s").list.contains(1).tree, {"s": "list(str)"}),
            r"'list_contains' cannot take list\(str\) and int",
        ),
        (lambda: kind(col("s").is_in([col("n")]).tree, {"s": "str", "n": "int"}), "'among' cannot take str and int"),
        (lambda: kind((col("l") + 1).tree, {"l": "list(int)"}), r"'add' cannot take list\(int\) and int"),
        (lambda: col("s").is_in(3), r"is_in\(\): values=3 is an int; write a list such as \[1, 2\], or a column"),  # type: ignore[arg-type]
        (lambda: col("s").list.get(2**70), "write a whole number, such as 0 or -1"),
    ],
)
def test_mistakes_are_named(wrong: Callable[[], object], match: str) -> None:
    with pytest.raises(DefinitionError, match=match):
        wrong()
