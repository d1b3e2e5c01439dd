"""The kind of an expression's value, and whether it may be null."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import DefinitionError
from headrace.features.definitions.expression_tree import (
    COMPARISONS,
    NOW,
    OF_A_TEXT,
    OF_FLOATS,
    OF_NUMBERS_IN_A_LIST,
    OF_TWO_TEXTS,
    SAME_KIND,
    TIME_PARTS,
    expect_writable,
    worked_out,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from headrace.features.definitions.expression_tree import ExpressionTree, Scalar

NUMBER_KINDS = frozenset({"int", "float", "null"})
_NUMBERS = "int, float and decimals"
_OF_A_DAY = frozenset({"hour", "minute"})
_IN_LISTS = frozenset({"int", "float", "bool", "str"})
"""The kinds of items that steps of lists take."""
_LOCAL = "local time"
"""The kind of what clocks in a zone show. Only the parts of a time take it."""
_TIMES = frozenset({"datetime", _LOCAL})
_PLAIN = frozenset({"int", "float", "bool", "str", "null"})


def kind(tree: ExpressionTree, kinds: Mapping[str, str]) -> str:
    """Return the kind of a tree's value over columns of ``kinds``.

    It is int, float, bool, str, datetime, date, bytes or null, ``decimal(2)`` with two places, or a dict or list such
    as ``dict(float)``, or ``vector(64)``, which steps take as a list of floats. Raises DefinitionError for an unknown
    column or a step that its operands do not allow.
    """
    return worked_out(tree, lambda part, found: kind_of_step(part, found, kinds))


def written_kind(tree: ExpressionTree, kinds: Mapping[str, str]) -> str:
    """Return the kind of a tree as someone wrote it. Raises DefinitionError also for one that is too large for that."""
    expect_writable(tree)
    return kind(tree, kinds)


def kind_of_step(tree: ExpressionTree, found: list[str], kinds: Mapping[str, str]) -> str:
    """Return the kind of one step over trees of the kinds that were found."""
    operator, *arms = tree
    if operator == "col":
        if arms[0] not in kinds:
            message = f"there is no column {arms[0]!r}; there are {sorted(kinds)}"
            raise DefinitionError(message)
        return kinds[arms[0]]
    if operator == "lit":
        return _literal_kind(arms[0])
    if operator == "now":
        return _now(kinds)
    if operator == "is_in":
        found = [*found, *sorted({_literal_kind(member) for member in arms[1]})]
    if operator not in _RULES:
        raise DefinitionError(f"{operator!r} in {tree!r} is no step of this version: upgrade headrace")
    result = _RULES[operator](found, tree)
    if result is None:
        hint = ": write a.seconds_since(b)" if operator == "sub" and "datetime" in found else ""
        takes = f"; it takes {_TAKES[operator]}" if operator in _TAKES else ""
        message = f"{operator!r} cannot take {' and '.join(found)} in {tree!r}{takes}{hint}"
        raise DefinitionError(message)
    return result


def _now(kinds: Mapping[str, str]) -> str:
    if NOW not in kinds:
        raise DefinitionError("now() is the time of a look-up: only an on-demand feature of a service has it")
    return kinds[NOW]


def _literal_kind(value: Scalar) -> str:
    return "null" if value is None else type(value).__name__


def is_decimal(kind_: str) -> bool:
    """Return whether a kind is that of decimals, such as ``decimal(2)``."""
    return kind_.startswith("decimal(")


def items_of(kind_: str) -> str | None:
    """Return the kind of the items of a list or vector; None for every other kind.

    >>> items_of("list(str)"), items_of("vector(64)"), items_of("str")
    ('str', 'float', None)
    """
    if kind_.startswith("vector("):
        return "float"
    return kind_[5:-1] if kind_.startswith("list(") else None


def as_list(kind_: str) -> str:
    """Return the kind of a vector as a list, and every other kind as it is.

    >>> as_list("vector(64)"), as_list("str")
    ('list(float)', 'str')
    """
    return "list(float)" if kind_.startswith("vector(") else kind_


def _are_numbers(found: list[str]) -> bool:
    return all(name in NUMBER_KINDS or is_decimal(name) for name in found)


def _one_kind(found: list[str]) -> str | None:
    """Return the kind that all have, apart from null; None if there are several, or if values have none in common."""
    known = {name for name in found if name != "null"}
    if len(known) > 1 or any(name == "bytes" or name.startswith(("dict(", "list(", "vector(")) for name in known):
        return None
    return next(iter(known), "null")


def _common(found: list[str]) -> str | None:
    """Return the kind of a value that may be any of these: numbers of several kinds are doubles."""
    one = _one_kind(found)
    if one is None and _are_numbers(found):
        return "float"
    return one


def _of_numbers(found: list[str], _: ExpressionTree) -> str | None:
    """Return the kind of a sum: that of the numbers, and decimals with as many places stay exact."""
    of = _common(found) if _are_numbers(found) else None
    return "int" if of == "null" else of


def _in_doubles(found: list[str], _: ExpressionTree) -> str | None:
    """Return the kind of a product: whole numbers stay whole, all others are doubles."""
    return ("int" if NUMBER_KINDS - {"float"} >= set(found) else "float") if _are_numbers(found) else None


def _float(found: list[str], _: ExpressionTree) -> str | None:
    return "float" if _are_numbers(found) else None


def _rounded(found: list[str], tree: ExpressionTree) -> str | None:
    return _of_numbers(found, tree) if tree[0] == "abs" else _in_doubles(found, tree)


def _time_part(found: list[str], tree: ExpressionTree) -> str | None:
    of_a_date = found[0] == "date" and tree[0] not in _OF_A_DAY
    return "int" if found[0] in _TIMES or of_a_date else None


def _date(found: list[str], _: ExpressionTree) -> str | None:
    return "date" if found[0] in _TIMES else None


def _in_zone(found: list[str], _: ExpressionTree) -> str | None:
    return _LOCAL if found[0] == "datetime" else None


def _seconds(found: list[str], _: ExpressionTree) -> str | None:
    return "float" if {"datetime", "date"}.issuperset(found) else None


def _truth(found: list[str], _: ExpressionTree) -> str | None:
    return "bool" if {"bool", "null"}.issuperset(found) else None


def _comparison(found: list[str], _: ExpressionTree) -> str | None:
    return "bool" if _common(found) is not None else None


def _fill_null(found: list[str], _: ExpressionTree) -> str | None:
    of = _common(found)
    return found[0] if of != "float" and of is not None else of


def _member(found: list[str], _: ExpressionTree) -> str | None:
    exact = _one_kind(found) is not None
    return "bool" if exact or (any(map(is_decimal, found)) and _are_numbers(found)) else None


def _item(found: list[str], _: ExpressionTree) -> str | None:
    return found[0][5:-1] if found[0].startswith("dict(") else None


def _of_a_text(found: list[str], tree: ExpressionTree) -> str | None:
    of = {"length": "int", "bucket": "int"}.get(tree[0], "str")
    return of if found == ["str"] else None


def _of_two_texts(found: list[str], _: ExpressionTree) -> str | None:
    return "bool" if found[0] == "str" and {"str", "null"}.issuperset(found) else None


def _items(found: list[str]) -> str | None:
    items = items_of(found[0])
    return items if items in _IN_LISTS else None


def _list_length(found: list[str], _: ExpressionTree) -> str | None:
    return None if items_of(found[0]) is None else "int"


def _list_get(found: list[str], _: ExpressionTree) -> str | None:
    return _items(found)


def _of_numbers_in_a_list(found: list[str], tree: ExpressionTree) -> str | None:
    of = _items(found)
    if of not in {"int", "float"}:
        return None
    return "float" if tree[0] == "list_mean" else of


def _list_contains(found: list[str], _: ExpressionTree) -> str | None:
    of = _items(found)
    return None if of is None or any(map(is_decimal, found)) or _common([of, found[1]]) is None else "bool"


def _units(found: list[str], _: ExpressionTree) -> str | None:
    return found[0] if is_decimal(found[0]) else None


def _when(found: list[str], _: ExpressionTree) -> str | None:
    of = _common(found[1:]) if found[0] in {"bool", "null"} else None
    return None if of == "null" else of


def _extreme(found: list[str], tree: ExpressionTree) -> str | None:
    return _one_kind(found) if {"datetime", "date"} & set(found) else _of_numbers(found, tree)


def _cast(found: list[str], tree: ExpressionTree) -> str | None:
    of, to = found[0], tree[2]
    if is_decimal(of):
        return "float" if to == "float" else None
    return to if of in _PLAIN and (of, to) != ("float", "str") else None


_RULES: dict[str, Callable[[list[str], ExpressionTree], str | None]] = {
    **dict.fromkeys(COMPARISONS, _comparison),
    **dict.fromkeys(TIME_PARTS, _time_part),
    **dict.fromkeys(OF_FLOATS, _float),
    **dict.fromkeys(SAME_KIND, _rounded),
    **dict.fromkeys(("add", "sub", "neg"), _of_numbers),
    **dict.fromkeys(("mul", "mod", "floor_div", "pow"), _in_doubles),
    **dict.fromkeys(("and", "or", "not"), _truth),
    **dict.fromkeys(("min_of", "max_of"), _extreme),
    **dict.fromkeys(OF_A_TEXT, _of_a_text),
    **dict.fromkeys(OF_TWO_TEXTS, _of_two_texts),
    "div": _float,
    "haversine": _float,
    "among": _comparison,
    "list_length": _list_length,
    "list_get": _list_get,
    "list_contains": _list_contains,
    **dict.fromkeys(OF_NUMBERS_IN_A_LIST, _of_numbers_in_a_list),
    "date": _date,
    "in_zone": _in_zone,
    "seconds_since": _seconds,
    "is_null": lambda _, __: "bool",
    "fill_null": _fill_null,
    "is_in": _member,
    "item": _item,
    "units": _units,
    "when": _when,
    "cast": _cast,
}
"""The kind that a step gives of the kinds that it takes; None if it does not take them."""
_TAKES: dict[str, str] = {
    **dict.fromkeys((*OF_FLOATS, *SAME_KIND, "add", "sub", "neg", "mul", "div", "mod", "floor_div", "pow"), _NUMBERS),
    **dict.fromkeys(COMPARISONS, "two numbers, or two values of one kind"),
    **dict.fromkeys(("and", "or", "not"), "bool: write a comparison, such as col('a') > 0"),
    **dict.fromkeys(TIME_PARTS, "a datetime"),
    **dict.fromkeys(("year", "month", "day", "weekday"), "a datetime or a date"),
    **dict.fromkeys(("min_of", "max_of"), f"{_NUMBERS}, or only datetimes, or only dates"),
    **dict.fromkeys(OF_A_TEXT, "a text"),
    **dict.fromkeys(OF_TWO_TEXTS, "two texts"),
    "fill_null": "two numbers, or two values of one kind",
    "is_in": "members of its own kind",
    "item": "a dict",
    "seconds_since": "two datetimes or dates",
    "haversine": _NUMBERS,
    "among": "numbers, or values of one kind",
    "list_length": "a list",
    "list_get": "a list of int, float, bool or str",
    "list_contains": "a list of int, float, bool or str, and a value of the kind of its items",
    **dict.fromkeys(OF_NUMBERS_IN_A_LIST, "a list of int or float"),
    **dict.fromkeys(("date", "in_zone"), "a datetime"),
    "when": "a bool, and two numbers or two values of one kind",
    "cast": "int, float, bool and str; a decimal becomes a float, and a float no str",
}
"""The operands that a step takes, for errors."""
_NULL_OF_NULL = (
    COMPARISONS
    | TIME_PARTS
    | OF_TWO_TEXTS
    | (OF_A_TEXT - {"split_part"})
    | {"and", "or", "not", "neg", "is_in", "min_of", "max_of", "floor", "ceil", "round", "units"}
    | {"seconds_since", "date", "in_zone", "list_length", "list_contains"}
)
"""Steps whose value is null only if one of their trees is."""


def nullable(tree: ExpressionTree, nullable_columns: AbstractSet[str]) -> bool:
    """Return whether the tree's value may be null if only ``nullable_columns`` may be null."""
    return worked_out(tree, lambda part, arms: _nullable_step(part, arms, nullable_columns))


def _nullable_step(tree: ExpressionTree, arms: list[bool], nullable_columns: AbstractSet[str]) -> bool:
    operator = tree[0]
    if operator == "col":
        return tree[1] in nullable_columns
    if operator in {"lit", "now"}:
        return operator == "lit" and tree[1] is None
    if operator in _DECIDES:
        return any(arms[_DECIDES[operator]])
    return operator not in _NULL_OF_NULL or any(arms)


_DECIDES = {"is_null": slice(0), "fill_null": slice(1, 2), "among": slice(1), "when": slice(1, None)}
"""Steps that are null only if one of some of their trees is."""
