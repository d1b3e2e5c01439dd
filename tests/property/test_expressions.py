"""One tree, three readings: Polars, numpy and a plain loop with Kleene's nulls give the same on random trees."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings

from headrace.features.definitions.expression_tree import columns
from headrace.features.kernel import expression_parts, expression_polars
from headrace.features.kernel.expression_numpy import to_numpy
from headrace.features.kernel.expression_polars import to_polars
from headrace.features.kernel.masked_column import column
from tests.support.example_budget import examples
from tests.support.random_expressions import KINDS, TYPES, boolean, numeric, plain, rows_strategy


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={name: TYPES[of] for name, of in KINDS.items()})


def in_numpy(tree: Any, rows: list[dict[str, Any]]) -> list[Any]:
    table = {name: column([row[name] for row in rows], of) for name, of in KINDS.items()}
    return to_numpy(tree, table, len(rows)).to_list()


def check_all_three(tree: Any, rows: list[dict[str, Any]]) -> None:
    wanted = [plain(tree, row) for row in rows]
    answer = (
        frame(rows).select(pl.repeat(None, len(rows)).alias("__"), to_polars(tree).alias("found"))["found"].to_list()
    )
    assert exactly(answer) == exactly(wanted), ("polars", tree)
    assert exactly(in_numpy(tree, rows)) == exactly(wanted), ("numpy", tree)
    if columns(tree):
        assert exactly(in_parts(tree, rows)) == exactly(wanted), ("in parts", tree)


def in_parts(tree: Any, rows: list[dict[str, Any]]) -> list[Any]:
    """The values in Polars, one step after the other, as those of a large expression are computed."""
    with pytest.MonkeyPatch.context() as small:
        small.setattr(expression_parts, "_OF_A_PART", 1)
        return frame(rows).select(expression_polars._in_parts(tree).alias("found"))["found"].to_list()


def exactly(values: list[Any]) -> list[str]:
    """The values with their types and all bits: 1 is not 1.0, and 0.0 is not -0.0."""
    return list(map(repr, values))


@settings(max_examples=examples(200), deadline=None)
@given(boolean, rows_strategy)
def test_conditions_mean_the_same_everywhere(tree: Any, rows: list[dict[str, Any]]) -> None:
    check_all_three(tree, rows)


@settings(max_examples=examples(200), deadline=None)
@given(numeric, rows_strategy)
def test_numbers_are_the_same_everywhere(tree: Any, rows: list[dict[str, Any]]) -> None:
    check_all_three(tree, rows)


@pytest.mark.parametrize("divisor", [["lit", 1e6], ["lit", 10**6], ["fill_null", ["lit", 1e6], ["col", "j"]]])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_a_quotient_does_not_depend_on_the_height_of_its_batch(divisor: Any, count: int) -> None:
    row: dict[str, Any] = dict.fromkeys(KINDS) | {"i": 10, "f": 10.0}
    for name in ("i", "f"):
        check_all_three(["div", ["col", name], divisor], [row] * count)
