"""Steps of numbers at their corners: each number with each, in Polars, in numpy and in plain Python, to the bit."""

from __future__ import annotations

import itertools
import math
import re
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import pytest

from headrace import ApproxDistinct, Count, Mean, Sum, col, max_of, min_of, when
from headrace.errors import DefinitionError
from headrace.features.definitions.expression import Expression
from headrace.features.definitions.expression_kinds import kind, nullable
from headrace.features.definitions.expression_tree import check
from headrace.features.kernel import elementary
from headrace.features.kernel.expression_numpy import to_numpy
from headrace.features.kernel.expression_polars import to_polars
from headrace.features.kernel.masked_column import column
from tests.support.documents import ROOT, blocks
from tests.support.three_readings import all_alike

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = "docs/reference/expressions.md"
INTS = [0, 1, -1, 2, -2, 3, -7, 63, 64, 10**6, 2**31, -(2**31), 2**53 + 1, 2**62, 2**63 - 1, -(2**63), None]
FLOATS = [
    0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 2.675, 1.0, -1.0, 3.0, -7.25, 1e15 + 0.3, 2.0**52 + 1, 2.0**63, -(2.0**63),
    1e308, -1e308, 5e-324, 709.5, -745.5, None,
]  # fmt: skip
TEXTS = ["", "7", "+7", "-07", "7.0", "7.", ".5", ".", "1e3", "1e999", " 7", "7_0", "٣", "true", "True", "false", "nan",
         "9223372036854775807", "9223372036854775808", "-9223372036854775808", "inf", None]  # fmt: skip
VALUES: dict[str, list[Any]] = {"int": INTS, "float": FLOATS, "str": TEXTS, "bool": [True, False, None]}
ONE = ["abs", "floor", "ceil", "sqrt", "exp", "log", "log1p"]
TWO = ["floor_div", "mod", "pow", "min_of", "max_of"]


@pytest.mark.parametrize("of", ["int", "float"])
@pytest.mark.parametrize("step", ONE)
def test_a_step_of_one_number(step: str, of: str) -> None:
    all_alike([step, ["col", "x"]], {"x": of}, [(value,) for value in VALUES[of]])


@pytest.mark.parametrize("digits", [0, 1, 2, 15])
@pytest.mark.parametrize("of", ["int", "float"])
def test_rounding(of: str, digits: int) -> None:
    all_alike(["round", ["col", "x"], digits], {"x": of}, [(value,) for value in VALUES[of]])


@pytest.mark.parametrize("kinds", [*itertools.product(["int", "float"], repeat=2)])
@pytest.mark.parametrize("step", TWO)
def test_a_step_of_two_numbers(step: str, kinds: tuple[str, str]) -> None:
    rows = [*itertools.product(VALUES[kinds[0]], VALUES[kinds[1]])]
    all_alike([step, ["col", "x"], ["col", "y"]], dict(zip("xy", kinds, strict=True)), rows)


@pytest.mark.parametrize(
    ("of", "to"),
    [pair for pair in itertools.product(VALUES, ["int", "float", "bool", "str"]) if pair != ("float", "str")],
)
def test_casts(of: str, to: str) -> None:
    all_alike(["cast", ["col", "x"], to], {"x": of}, [(value,) for value in VALUES[of]])


EXACT: dict[str, tuple[Callable[[Decimal], Decimal], list[float]]] = {
    "exp": (Decimal.exp, [*np.linspace(-700, 709, 400), *np.linspace(-1, 1, 400), 1e-9]),
    "log": (Decimal.ln, [*np.exp(np.linspace(-700, 709, 400)), *np.linspace(0.5, 2, 401), 1 + 1e-9]),
    "log1p": (lambda x: (1 + x).ln(), [*np.exp(np.linspace(-40, 700, 300)), *np.linspace(-0.99, 3, 400)]),
}


@pytest.mark.parametrize("name", EXACT)
def test_elementary_functions_are_within_two_units_of_the_last_place(name: str) -> None:
    exact, given = EXACT[name]
    found = getattr(elementary, name)(np.array(given)).tolist()
    with localcontext() as context:
        context.prec = 60
        for x, y in zip(given, found, strict=True):
            true = exact(Decimal(float(x)))
            assert abs(Decimal(y) - true) <= 2 * Decimal(math.ulp(y or 5e-324)), x


def test_elementary_functions_never_change_a_bit() -> None:
    x = np.array([0.1, 1.0, 2.5, 100.0])
    found = [elementary.exp(x), elementary.log(x), elementary.log1p(x), elementary.power(x, x[::-1])]
    assert [[value.hex() for value in each.tolist()] for each in found] == GOLDEN


GOLDEN = [
    ["0x1.1aec7b35a00d4p+0", "0x1.5bf0a8b145769p+1", "0x1.85d6fd931e0bbp+3", "0x1.3494a9b171bf5p+144"],
    ["-0x1.26bb1bbb55515p+1", "0x0.0p+0", "0x1.d5240f0e0e078p-1", "0x1.26bb1bbb55516p+2"],
    ["0x1.8663f793c46c7p-4", "0x1.62e42fefa39efp-1", "0x1.40b512eb53d60p+0", "0x1.275e2271bba31p+2"],
    ["0x1.bff2ee48e0585p-333", "0x1.0000000000000p+0", "0x1.4000000000000p+1", "0x1.95bb8f6d46053p+0"],
]


def test_operators_and_functions_of_python_make_the_steps() -> None:
    x = col("x")
    made = [abs(x), round(x), round(x, 2), math.floor(x), math.ceil(x), x // 2, 7 // x, x % 2, 7 % x, x**2, 2**x]
    assert [each.tree for each in made] == [
        ["abs", ["col", "x"]], ["round", ["col", "x"], 0], ["round", ["col", "x"], 2], ["floor", ["col", "x"]],
        ["ceil", ["col", "x"]], ["floor_div", ["col", "x"], ["lit", 2]], ["floor_div", ["lit", 7], ["col", "x"]],
        ["mod", ["col", "x"], ["lit", 2]], ["mod", ["lit", 7], ["col", "x"]], ["pow", ["col", "x"], ["lit", 2]],
        ["pow", ["lit", 2], ["col", "x"]],
    ]  # fmt: skip
    assert x.clip(0, 9).tree == ["min_of", ["max_of", ["col", "x"], ["lit", 0]], ["lit", 9]]
    assert (+x).clip().tree == ["col", "x"]
    assert x.cast(int).tree == ["cast", ["col", "x"], "int"]
    for each in [*made, x.sqrt(), x.exp(), x.log(), x.log1p(), x.pow(2), min_of(x, 1, 2), max_of(x, 1), x.cast(float)]:
        check(each.tree)
        assert nullable(each.tree, {"x"})


def test_a_choice_takes_the_first_condition_that_is_true() -> None:
    size = when(col("x") > 10).then("large").when(col("x") > 1).then("middle").otherwise(None)
    rows = [11, 2, 0, None]
    frame = pl.DataFrame({"x": rows}, schema={"x": pl.Int64})
    assert frame.select(to_polars(size.tree)).to_series().to_list() == ["large", "middle", None, None]
    assert to_numpy(size.tree, {"x": column(rows, "int")}, 4).to_list() == ["large", "middle", None, None]
    assert kind(size.tree, {"x": "int"}) == "str"
    assert nullable(size.tree, set())
    assert not nullable(when(col("x") > 10).then(1).otherwise(0).tree, {"x"})


@pytest.mark.parametrize(
    "tree",
    [
        ["when", ["not", ["lit", True]], ["col", "x"], ["lit", False]],
        ["when", ["lit", True], ["col", "x"], ["lit", None]],
        ["when", ["lit", None], ["lit", True], ["col", "x"]],
        ["min_of", ["lit", None], ["col", "n"]],
        ["max_of", ["col", "n"], ["lit", None]],
        ["among", ["lit", None], ["col", "n"], ["lit", 3]],
        ["when", ["not", ["lit", True]], ["among", ["lit", 1], ["col", "n"]], ["lit", False]],
    ],
)
@pytest.mark.parametrize("height", [0, 1, 2])
def test_a_constant_condition_keeps_the_height_of_its_batch(tree: Any, height: int) -> None:
    frame = pl.DataFrame({"x": [True] * height, "n": [1] * height}, schema={"x": pl.Boolean(), "n": pl.Int64()})
    table = {"x": column([True] * height, "bool"), "n": column([1] * height, "int")}
    found = frame.select("n", to_polars(tree).alias("found")).get_column("found").to_list()
    assert found == to_numpy(tree, table, height).to_list()


@pytest.mark.parametrize(
    ("tree", "wanted"),
    [(col("x") // 0, None), (1 + col("y") * 0 + Expression(["exp", ["lit", 1.0]]), 3.718281828459045)],
)
@pytest.mark.parametrize("height", [0, 1, 5])
def test_constants_have_the_height_of_their_batch(tree: Expression, wanted: float | None, height: int) -> None:
    frame = pl.DataFrame({"x": [3] * height, "y": [0] * height}, schema={"x": pl.Int64, "y": pl.Int64})
    assert frame.select(to_polars(tree.tree)).to_series().to_list() == [wanted] * height


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (
            lambda: kind(abs(col("s")).tree, {"s": "str"}),
            "'abs' cannot take str in .*; it takes int, float and decimals",
        ),
        (lambda: kind((col("t") % 2).tree, {"t": "datetime"}), "'mod' cannot take datetime and int in"),
        (lambda: kind(min_of(col("s"), 2).tree, {"s": "str"}), "'min_of' cannot take str and int in"),
        (lambda: kind(col("f").cast(str).tree, {"f": "float"}), "'cast' cannot take float in .*, and a float no str"),
        (
            lambda: kind(when(col("f") > 1).then(1).otherwise("x").tree, {"f": "float"}),
            "'when' cannot take bool and int",
        ),
        (lambda: kind(when(col("f")).then(1).otherwise(2).tree, {"f": "float"}), "'when' cannot take float and int"),
        (lambda: col("x").round(16), r"round\(16\) of \['col', 'x'\]: 16 is a int; write a whole number of digits"),
        (lambda: col("x").round(cast("Any", 0.5)), "0.5 is a float; write a whole number of digits, 0 to 15"),
        (lambda: col("x").cast(cast("Any", bytes)), "'bytes' is a str; write one of int, float, bool, str"),
        (lambda: min_of(col("x")), r"min_of\(\) has 1 values; it takes at least two"),
        (lambda: when(cast("Any", True)), r"when\(\): condition=True is a bool; write a condition, such as"),
        (lambda: col("x") + cast("Any", when(col("x") > 1).then(2)), r"Then\) cannot stand in an expression"),
        (lambda: math.log(col("x")), r"instead of math.log\(x\) write x.log\(\)"),
        (lambda: int(col("x")), r"write x.cast\(int\)"),
        (lambda: len(col("x")), r"write x.text.len\(\) or x.list.len\(\)"),
        (lambda: 1 in cast("Any", col("x")), r"write x.list.contains\(a\)"),
        (lambda: [*cast("Any", col("x"))], "without a value yet"),
        (lambda: max(col("x"), col("y")), r"max_of\(\) or is_in\(\) instead of if, min\(\), max\(\)"),
        (lambda: col("x") in [1, 2], "has no truth value"),
        (lambda: check(["round", ["col", "x"], 99]), "is not an expression of this version"),
        (lambda: check(["tan", ["col", "x"]]), r"\['tan', \['col', 'x'\]\] is not an expression of this version"),
        (lambda: kind(["tan", ["col", "x"]], {"x": "int"}), "'tan' in .* is no step of this version: upgrade"),
    ],
)
def test_mistakes_are_named(wrong: Callable[[], object], match: str) -> None:
    with pytest.raises(DefinitionError, match=match):
        wrong()


def test_the_page_names_every_step() -> None:
    [example] = blocks(PAGE, "python")
    made: dict[str, Any] = {"Count": Count, "ApproxDistinct": ApproxDistinct, "Sum": Sum, "Mean": Mean}
    exec(example.text, made)
    for feature in made["features"].values():
        for tree in (feature.spec.value, feature.spec.where):
            assert tree is None or kind(tree, {"amount": "float", "country": "str"})
    form = (ROOT / PAGE).read_text("utf-8").partition("## The format")[2]
    named = {word for quoted in re.findall("`([a-z0-9_ ]+)`", form) for word in quoted.split()}
    with pytest.raises(DefinitionError) as caught:
        check(["tan", ["col", "x"]])
    known = set(re.findall(r"'(\w+)'", str(caught.value).partition("it knows")[2]))
    assert known - {"col", "lit"} <= named
