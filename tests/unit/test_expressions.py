"""Expressions: their JSON and hash are a public format, their meaning is the same in Polars and in numpy."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from typing import Any

import pytest

from headrace.errors import DefinitionError
from headrace.features.definitions.aggregates import Last
from headrace.features.definitions.expression import Expression, col
from headrace.features.definitions.expression_kinds import kind, nullable
from headrace.features.definitions.expression_tree import check, columns
from headrace.features.definitions.functions import when

EVERYTHING = (
    ((col("a") + 1 - col("b")) * 2 / (1 - col("a")) >= -col("b"))
    & ~(col("s").is_in(["x", "y", None]) | (col("t").hour() == 3))
) | (col("b").fill_null(0.5).is_null() != (2 + col("a") < 3 * col("b")))
GOLDEN = [
    "or",
    [
        "and",
        [
            "ge",
            [
                "div",
                ["mul", ["sub", ["add", ["col", "a"], ["lit", 1]], ["col", "b"]], ["lit", 2]],
                ["sub", ["lit", 1], ["col", "a"]],
            ],
            ["neg", ["col", "b"]],
        ],
        ["not", ["or", ["is_in", ["col", "s"], ["x", "y", None]], ["eq", ["hour", ["col", "t"]], ["lit", 3]]]],
    ],
    [
        "ne",
        ["is_null", ["fill_null", ["col", "b"], ["lit", 0.5]]],
        ["lt", ["add", ["lit", 2], ["col", "a"]], ["mul", ["lit", 3], ["col", "b"]]],
    ],
]
KINDS = {"a": "int", "b": "float", "s": "str", "t": "datetime", "c": "bool"}


def test_the_tree_is_plain_json_that_never_changes() -> None:
    assert EVERYTHING.tree == GOLDEN
    canonical = json.dumps(EVERYTHING.tree, separators=(",", ":")).encode()
    assert hashlib.sha256(canonical).hexdigest()[:16] == "a5bf2b5f7668b845"
    assert json.loads(canonical) == EVERYTHING.tree


def test_every_step_is_well_formed_and_has_a_kind() -> None:
    check(EVERYTHING.tree)
    assert kind(EVERYTHING.tree, KINDS) == "bool"
    assert columns(EVERYTHING.tree) == {"a", "b", "s", "t"}


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("lower", "no step 'lower': it is a step of a text, so write x.text.lower(…)"),
        ("mean", "no step 'mean': it is a step of a list, so write x.list.mean(…)"),
        ("sqroot", "no step 'sqroot': is 'sqrt' meant?"),
        ("median_of_all", "no step 'median_of_all'"),
    ],
)
def test_an_unknown_step_names_the_one_that_may_be_meant(step: str, said: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(col("a"), step)
    assert str(caught.value) == f"an expression has {said}"
    assert copy.deepcopy(col("a")).tree == pickle.loads(pickle.dumps(col("a"))).tree == ["col", "a"]


def test_a_choice_that_is_not_finished_says_so() -> None:
    with pytest.raises(DefinitionError, match=r"value=when\(…\).then\(…\) without .otherwise\(value\) is a Then"):
        Last(when(col("a") > 1).then("b")).spec  # type: ignore[arg-type]  # noqa: B018
    with pytest.raises(DefinitionError, match=r"value=when\(…\) without .then\(value\) is a When"):
        Last(when(col("a") > 1)).spec  # type: ignore[arg-type]  # noqa: B018


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        (col("a") + 1, "int"),
        (col("a") + 1.0, "float"),
        (col("a") / 2, "float"),
        (col("a").fill_null(0.5), "float"),
        (col("t").weekday(), "int"),
        (col("s") == "x", "bool"),
        (col("a").is_null(), "bool"),
        (-col("b"), "float"),
    ],
)
def test_the_kind_of_an_expression_follows_from_its_fields(expression: Expression, wanted: str) -> None:
    assert kind(expression.tree, KINDS) == wanted


@pytest.mark.parametrize(
    ("expression", "match"),
    [
        (col("zz") > 1, r"no column 'zz'; there are \['a', 'b', 'c', 's', 't'\]"),
        (col("s") + 1, "'add' cannot take str and int"),
        (col("a").hour(), "'hour' cannot take int"),
        (col("a") & col("c"), "'and' cannot take int and bool"),
        (col("s") < 3, "'lt' cannot take str and int"),
        (col("s").fill_null(1), "'fill_null' cannot take str and int"),
        (col("b").is_in([1, 2]), "'is_in' cannot take float and int"),
        (col("a").is_in([1, 2.5]), "'is_in' cannot take int and float and int"),
    ],
)
def test_steps_that_make_no_sense_are_refused(expression: Expression, match: str) -> None:
    with pytest.raises(DefinitionError, match=match):
        kind(expression.tree, KINDS)


@pytest.mark.parametrize(
    "tree", [None, [], "a", ["col"], ["zz", 1], ["add", ["col", "a"]], ["not", ["lt", ["col", "a"], 3]]]
)
def test_trees_of_another_version_are_refused(tree: Any) -> None:
    with pytest.raises(DefinitionError, match="is not an expression of this version"):
        check(tree)


def test_an_expression_has_no_truth_value() -> None:
    with pytest.raises(DefinitionError, match="combine with"):
        bool(col("a") > 1)


@pytest.mark.parametrize("value", [b"x", float("nan"), float("inf"), 2**63, -(2**63) - 1])
def test_only_plain_values_stand_in_an_expression(value: Any) -> None:
    with pytest.raises(DefinitionError, match=rf"{type(value).__name__}\) cannot stand in an expression"):
        _ = col("a") == value
    with pytest.raises(DefinitionError, match="cannot stand"):
        col("a").is_in([value])


def test_nullable_expressions_are_recognised() -> None:
    assert not nullable((col("a") > 1).tree, set())
    assert nullable((col("a") > 1).tree, {"a"})
    assert nullable((col("a") / col("b")).tree, set())
    assert not nullable(col("a").fill_null(0).tree, {"a"})
    assert not nullable(col("a").is_null().tree, {"a"})
