"""Random expression trees and rows, and the meaning of a tree as a plain loop with Kleene's nulls."""

from __future__ import annotations

import math
import operator
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import strategies as st

from headrace.features.definitions.expression_kinds import kind
from headrace.features.definitions.expression_tree import NOW, OF_NUMBERS_IN_A_LIST, TIME_PARTS, trees_of
from tests.support.plain_steps import STEPS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KINDS = {
    "i": "int", "j": "int", "f": "float", "g": "float", "b": "bool", "c": "bool", "s": "str", "t": "datetime",
    "u": "datetime", "l": "list(float)", "m": "list(str)", "k": "list(int)", NOW: "datetime",
}  # fmt: skip
TYPES = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "str": pl.String(),
    "datetime": pl.Datetime("us", "UTC"),
    "list(int)": pl.List(pl.Int64()),
    "list(float)": pl.List(pl.Float64()),
    "list(str)": pl.List(pl.String()),
    "list(bool)": pl.List(pl.Boolean()),
}
ints = st.integers(-3, 3) | st.sampled_from([2**62, -(2**62), 10**6, -(2**63), 2**63 - 1])
floats = st.sampled_from([0.0, -0.5, 1.5, 1e300, -1e300, 3.0, 2.675, -0.125, 2.0**63])
texts = st.sampled_from(
    ["", "x", "y", "süß", "12", "-1.5", "true", "1e999", "٣", " x\u3000", "ΑΣ x", "xyx", "İ", "\u019b"]
)
times = st.integers(-(10**15), 4 * 10**15).map(lambda us: EPOCH + timedelta(microseconds=us))
scalars = {"int": ints, "float": floats, "bool": st.booleans(), "str": texts, "datetime": times}
scalars |= {
    "list(float)": st.lists(st.none() | floats, max_size=4),
    "list(str)": st.lists(st.none() | texts, max_size=4),
    "list(int)": st.lists(st.none() | ints, max_size=4),
}
rows_strategy = st.lists(
    st.fixed_dictionaries({name: st.none() | scalars[of] for name, of in KINDS.items()}), min_size=1, max_size=6
)


def leaf(of: str) -> st.SearchStrategy[Any]:
    names = st.sampled_from([name for name, found in KINDS.items() if found == of]).map(lambda name: ["col", name])
    return names if of == "datetime" else names | scalars[of].map(lambda value: ["lit", value])


numeric_leaf = leaf("int") | leaf("float")
zones = st.sampled_from(["America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Africa/Casablanca", "UTC"])
local = st.tuples(st.just("in_zone"), st.just(["col", "t"]), zones).map(list)
time_part = st.tuples(st.sampled_from(sorted(TIME_PARTS)), st.just(["col", "t"]) | local).map(list)
distance = st.tuples(st.just("haversine"), leaf("float"), leaf("int"), leaf("float"), leaf("float")).map(list)
of_text = st.one_of(
    st.tuples(st.just("length"), leaf("str")).map(list),
    st.tuples(st.just("bucket"), leaf("str"), st.sampled_from([1, 7, 2**31])).map(list),
)
moments = st.sampled_from([["col", "t"], ["col", "u"], ["now"]])
between = st.tuples(st.just("seconds_since"), moments, moments).map(list)
of_lists = st.one_of(
    st.tuples(st.sampled_from(sorted(OF_NUMBERS_IN_A_LIST)), st.sampled_from([["col", "l"], ["col", "k"]])).map(list),
    st.tuples(st.just("list_get"), st.sampled_from([["col", "l"], ["col", "k"]]), st.integers(-2, 3)).map(list),
    st.sampled_from([["list_length", ["col", name]] for name in "lmk"]),
)
membership = st.one_of(
    st.tuples(st.just("list_contains"), st.just(["col", "m"]), leaf("str")).map(list),
    st.tuples(st.just("list_contains"), st.just(["col", "l"]), leaf("int") | leaf("float")).map(list),
    st.tuples(st.just("among"), leaf("str"), leaf("str"), leaf("str")).map(list),
    st.tuples(st.just("among"), leaf("float"), leaf("int")).map(list),
)
numeric = st.recursive(
    numeric_leaf | time_part | between | of_text | distance | of_lists,
    lambda inner: (
        st.tuples(st.sampled_from(["add", "sub", "mul", "div", "fill_null"]), inner, inner).map(list)
        | st.tuples(st.just("neg"), inner).map(list)
        | st.tuples(st.sampled_from(["floor_div", "mod", "pow", "min_of", "max_of"]), inner, inner).map(list)
        | st.tuples(st.sampled_from(["abs", "floor", "ceil", "sqrt", "exp", "log", "log1p"]), inner).map(list)
        | st.tuples(st.just("round"), inner, st.sampled_from([0, 1, 2, 15])).map(list)
        | st.tuples(st.just("cast"), inner | leaf("str") | leaf("bool"), st.sampled_from(["int", "float"])).map(list)
        | st.tuples(st.just("when"), leaf("bool"), inner, inner | st.just(["lit", None])).map(list)
    ),
    max_leaves=5,
)
parts = st.integers(-3, 3)
textual = (
    leaf("str")
    | st.tuples(st.sampled_from(["lower", "upper", "strip"]), leaf("str")).map(list)
    | st.tuples(st.just("slice"), leaf("str"), parts, parts | st.none()).map(list)
    | st.tuples(st.just("split_part"), leaf("str"), st.sampled_from(["x", ".", "üß"]), parts).map(list)
    | st.tuples(st.just("cast"), leaf("int") | leaf("bool") | leaf("str"), st.just("str")).map(list)
    | st.tuples(st.just("when"), leaf("bool"), leaf("str"), leaf("str") | st.just(["lit", None])).map(list)
)
compare = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])
boolean = st.recursive(
    leaf("bool")
    | membership
    | st.tuples(compare, numeric, numeric).map(list)
    | st.tuples(compare, textual, textual).map(list)
    | st.tuples(st.sampled_from(["contains", "starts_with", "ends_with"]), leaf("str"), textual).map(list)
    | st.tuples(st.just("cast"), numeric | leaf("str") | leaf("bool"), st.just("bool")).map(list)
    | st.tuples(st.just("is_in"), leaf("str"), st.lists(texts | st.none(), max_size=3)).map(list)
    | st.tuples(st.just("is_in"), leaf("int"), st.lists(ints, max_size=3)).map(list)
    | st.tuples(st.just("is_null"), numeric | leaf("str") | leaf("datetime")).map(list),
    lambda inner: (
        st.tuples(st.sampled_from(["and", "or", "fill_null"]), inner, inner).map(list)
        | st.tuples(st.just("not"), inner).map(list)
        | st.tuples(st.just("when"), inner, inner, inner | st.just(["lit", None])).map(list)
    ),
    max_leaves=5,
)
OPERATORS = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
}  # fmt: skip


def plain(tree: Any, row: dict[str, Any]) -> Any:  # noqa: PLR0911 - one line a kind of step
    """The meaning of a tree over one row, as the documentation says it."""
    name, *arms = tree
    if name in {"col", "now"}:
        return row[arms[0] if arms else NOW]
    if name == "lit":
        return arms[0]
    if name == "is_in":
        value = plain(arms[0], row)
        return None if value is None else value in set(arms[1]) - {None}
    values = [plain(arm, row) for arm in trees_of(tree)]
    if name == "when":
        return as_kind(kind(tree, KINDS), values[1] if values[0] is True else values[2])
    if name in {"and", "or"}:
        return kleene(name, values)
    if name == "is_null":
        return values[0] is None
    if name == "among":
        return None if values[0] is None else any(value is not None and equal(values[0], value) for value in values[1:])
    if name == "fill_null":
        return as_kind(kind(tree, KINDS), values[1] if values[0] is None else values[0])
    return None if None in values else step(name, values, tree)


def kleene(name: str, values: list[bool | None]) -> bool | None:
    deciding = name == "or"
    if deciding in values:
        return deciding
    return None if None in values else not deciding


def step(name: str, values: list[Any], tree: Any) -> Any:
    if name in STEPS:
        return as_kind(kind(tree, KINDS), STEPS[name](*values, *tree[1 + len(values) :]))
    if name == "not":
        return not values[0]
    if name in {"eq", "ne", "lt", "le", "gt", "ge"}:
        left, right = values if isinstance(values[0], str) else alike(*values)
        return OPERATORS[name](left, right)
    return arithmetic(name, values, kind(tree, KINDS))


def equal(left: Any, right: Any) -> bool:
    return OPERATORS["eq"](*([left, right] if isinstance(left, str) else alike(left, right)))  # type: ignore[no-any-return]


def alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Numbers of one kind: an integer beside a float is a double."""
    return (float(left), float(right)) if float in {type(left), type(right)} else (left, right)


def arithmetic(name: str, values: list[Any], of: str) -> Any:
    if of == "int":
        exact = -values[0] if name == "neg" else OPERATORS[name](*values)
        return (exact + 2**63) % 2**64 - 2**63
    numbers = [float(value) for value in values]
    if name == "neg":
        return -numbers[0]
    found = OPERATORS[name](*numbers) if name != "div" or numbers[1] else math.inf
    return found if math.isfinite(found) else None


def as_kind(of: str, value: Any) -> Any:
    return float(value) if of == "float" and value is not None else value
