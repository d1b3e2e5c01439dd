"""``col(...)``: small expressions with the same results in Polars (batches and the log) and in numpy (applications).

An expression is a tree of plain data: nested lists ``[operator, argument, ...]``, which specs store and hash. It is
never another library's serialisation. Null follows Kleene's logic: a comparison or an arithmetic step with null is
null, and ``False & null`` is False. A float step whose result is not finite (division by zero, overflow) is null, so no
NaN enters a tile. Integer arithmetic wraps at 64 bits.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from headrace.base.arguments import expect
from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

ExpressionTree = Any
Scalar = bool | int | float | str | None
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
_BINARY = COMPARISONS | {"add", "sub", "mul", "div", "and", "or", "fill_null"}
_UNARY = frozenset({"not", "neg", "is_null", "year", "month", "day", "weekday", "hour", "minute"})
TIME_PARTS = frozenset({"year", "month", "day", "weekday", "hour", "minute"})
_OF_A_DAY = frozenset({"hour", "minute"})
_WITH_A_VALUE = frozenset({"is_in", "item"})
"""Steps whose second argument is plain data."""


class Expression:
    """A tree of steps over the columns of a stream or of a feature service.

    Build it from :func:`col` with operators. Building it computes nothing.
    """

    __slots__ = ("tree",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tree: ExpressionTree) -> None:
        self.tree = tree

    def __repr__(self) -> str:
        return f"Expression({self.tree!r})"

    def __bool__(self) -> bool:
        message = "an expression has no truth value: combine with & | ~ instead of and, or, not"
        raise DefinitionError(message)

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return self._with("eq", other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return self._with("ne", other)

    def __lt__(self, other: Operand) -> Expression:
        return self._with("lt", other)

    def __le__(self, other: Operand) -> Expression:
        return self._with("le", other)

    def __gt__(self, other: Operand) -> Expression:
        return self._with("gt", other)

    def __ge__(self, other: Operand) -> Expression:
        return self._with("ge", other)

    def __add__(self, other: Operand) -> Expression:
        return self._with("add", other)

    def __radd__(self, other: Operand) -> Expression:
        return Expression(["add", _tree(other), self.tree])

    def __sub__(self, other: Operand) -> Expression:
        return self._with("sub", other)

    def __rsub__(self, other: Operand) -> Expression:
        return Expression(["sub", _tree(other), self.tree])

    def __mul__(self, other: Operand) -> Expression:
        return self._with("mul", other)

    def __rmul__(self, other: Operand) -> Expression:
        return Expression(["mul", _tree(other), self.tree])

    def __truediv__(self, other: Operand) -> Expression:
        return self._with("div", other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return Expression(["div", _tree(other), self.tree])

    def __neg__(self) -> Expression:
        return Expression(["neg", self.tree])

    def __and__(self, other: Operand) -> Expression:
        return self._with("and", other)

    def __or__(self, other: Operand) -> Expression:
        return self._with("or", other)

    def __invert__(self) -> Expression:
        return Expression(["not", self.tree])

    def __getitem__(self, key: object) -> Expression:
        """Return an expression for the value that a dict has of a key; null if it has none."""
        if not isinstance(key, str):
            message = f"{self!r}[{key!r}]: a key is a text, such as col('tags')['colour']"
            raise DefinitionError(message)
        return Expression(["item", self.tree, key])

    def is_null(self) -> Expression:
        """Return an expression that is true if this value is null."""
        return Expression(["is_null", self.tree])

    def fill_null(self, value: Operand) -> Expression:
        """Return an expression for this value, or for ``value`` where this value is null."""
        return self._with("fill_null", value)

    def is_in(self, values: Iterable[Scalar]) -> Expression:
        """Return an expression that is true if this value is one of ``values``, and null if this value is null."""
        return Expression(["is_in", self.tree, [_literal(value) for value in values]])

    def year(self) -> Expression:
        """Return an expression for the year of a time, in UTC."""
        return Expression(["year", self.tree])

    def month(self) -> Expression:
        """Return an expression for the month of a time, 1 to 12, in UTC."""
        return Expression(["month", self.tree])

    def day(self) -> Expression:
        """Return an expression for the day of the month of a time, from 1, in UTC."""
        return Expression(["day", self.tree])

    def weekday(self) -> Expression:
        """Return an expression for the day of the week of a time, Monday 1 to Sunday 7 (ISO), in UTC."""
        return Expression(["weekday", self.tree])

    def hour(self) -> Expression:
        """Return an expression for the hour of a time, 0 to 23, in UTC."""
        return Expression(["hour", self.tree])

    def minute(self) -> Expression:
        """Return an expression for the minute of a time, 0 to 59, in UTC."""
        return Expression(["minute", self.tree])

    def _with(self, operator: str, other: object) -> Expression:
        return Expression([operator, self.tree, _tree(other)])


Operand = Expression | Scalar


def col(name: str) -> Expression:
    """Return an expression that reads a column, such as ``amount``, or ``card.country`` of a nested event.

    Combine it with operators and methods. ``col("tags")["colour"]`` reads the value of a key of a dict.

    >>> from headrace import col
    >>> (col("delay_minutes") > 15) & ~col("origin").is_in(["JFK"])
    Expression(['and', ['gt', ['col', 'delay_minutes'], ['lit', 15]], ['not', ['is_in', ['col', 'origin'], ['JFK']]]])
    """
    return Expression(["col", name])


def as_expression(value: Expression | str) -> Expression:
    """Return an expression unchanged, and a string as the column of that name. Raises DefinitionError."""
    expect("aggregate", "value", value, (Expression, str), write="a field's name, or an expression such as col('a')")
    return col(value) if isinstance(value, str) else value


def _tree(value: object) -> ExpressionTree:
    return value.tree if isinstance(value, Expression) else ["lit", _literal(value)]


def _literal(value: object) -> Scalar:
    if value is None or isinstance(value, str) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    message = (
        f"{value!r} ({type(value).__name__}) cannot stand in an expression: write a finite number of at most 64 bits, "
        "a string, a bool or None"
    )
    raise DefinitionError(message)


def plain_column(tree: ExpressionTree) -> str | None:
    """Return the name of the column if the tree is a column and nothing more, else None."""
    return tree[1] if tree[0] == "col" else None


def columns(tree: ExpressionTree) -> set[str]:
    """Return the names of the columns that a tree reads."""
    if tree[0] == "col":
        return {tree[1]}
    return set().union(*map(columns, trees_of(tree)))


def trees_of(tree: ExpressionTree) -> list[ExpressionTree]:
    """Return the trees that a step takes; none for a column and for plain data."""
    if tree[0] in {"col", "lit"}:
        return []
    arms: list[ExpressionTree] = tree[1:2] if tree[0] in _WITH_A_VALUE else tree[1:]
    return arms


def kind(tree: ExpressionTree, kinds: Mapping[str, str]) -> str:
    """Return the kind of a tree's value over columns of ``kinds``.

    It is int, float, bool, str, datetime, date, bytes or null, ``decimal(2)`` with two places, or a dict or list such
    as ``dict(float)``. Raises DefinitionError for an unknown column or a step that its operands do not allow.
    """
    operator, *arms = tree
    if operator == "col":
        if arms[0] not in kinds:
            message = f"there is no column {arms[0]!r}; there are {sorted(kinds)}"
            raise DefinitionError(message)
        return kinds[arms[0]]
    if operator == "lit":
        return _literal_kind(arms[0])
    if operator == "is_in":
        found = [kind(arms[0], kinds), *sorted({_literal_kind(member) for member in arms[1]})]
    else:
        found = [kind(arm, kinds) for arm in trees_of(tree)]
    return _step_kind(operator, found, tree)


def _literal_kind(value: Scalar) -> str:
    return "null" if value is None else type(value).__name__


NUMBER_KINDS = frozenset({"int", "float", "null"})


def is_decimal(kind_: str) -> bool:
    """Return whether a kind is that of decimals, such as ``decimal(2)``."""
    return kind_.startswith("decimal(")


def _step_kind(operator: str, found: list[str], tree: ExpressionTree) -> str:
    decimal = any(map(is_decimal, found))
    numeric = all(name in NUMBER_KINDS or is_decimal(name) for name in found)
    known = {name for name in found if name != "null"}
    alike = len(known) <= 1 and not any(name == "bytes" or name.startswith(("dict(", "list(")) for name in found)
    boolean = {"bool", "null"}.issuperset(found)
    result = "bool"
    if operator in {"add", "sub", "neg"}:
        exact = known.pop() if alike and decimal else "int"
        allowed, result = numeric, "float" if "float" in found or (decimal and not alike) else exact
    elif operator in {"mul", "div"}:
        allowed, result = numeric, "float" if operator == "div" or decimal or "float" in found else "int"
    elif operator in TIME_PARTS:
        allowed, result = found[0] == "datetime" or (found[0] == "date" and operator not in _OF_A_DAY), "int"
    elif operator in {"and", "or", "not"}:
        allowed = boolean
    elif operator == "fill_null":
        is_float = "float" in found or (decimal and not alike)
        allowed, result = numeric or alike, "float" if is_float else found[0]
    elif operator == "is_in":
        allowed = alike or (decimal and numeric)
    elif operator == "item":
        allowed, result = found[0].startswith("dict("), found[0][5:-1]
    elif operator == "units":
        allowed, result = decimal, found[0]
    else:
        allowed = operator == "is_null" or numeric or alike
    if not allowed:
        message = f"{operator!r} cannot take {' and '.join(found)} in {tree!r}"
        raise DefinitionError(message)
    return result


def nullable(tree: ExpressionTree, nullable_columns: AbstractSet[str]) -> bool:
    """Return whether the tree's value may be null if only ``nullable_columns`` may be null."""
    operator, *arms = tree
    if operator == "col":
        return arms[0] in nullable_columns
    if operator == "lit":
        return arms[0] is None
    if operator in {"add", "sub", "mul", "div", "item"}:
        return True
    if operator == "is_null":
        return False
    return nullable(arms[-1] if operator == "fill_null" else arms[0], nullable_columns) or (
        operator in _BINARY - {"fill_null"} and nullable(arms[1], nullable_columns)
    )


def inline(tree: ExpressionTree, derived: Mapping[str, ExpressionTree]) -> ExpressionTree:
    """Return the tree with each derived column replaced by its expression."""
    if tree is None or tree[0] == "lit":
        return tree
    if tree[0] == "col":
        return derived.get(tree[1], tree)
    arms = trees_of(tree)
    return [tree[0], *(inline(arm, derived) for arm in arms), *tree[1 + len(arms) :]]


def check(tree: ExpressionTree) -> None:
    """Raise DefinitionError unless ``tree`` is well formed. It is called for specs that came over a wire."""
    arity = {"col": 1, "lit": 1, "is_in": 2, "item": 2} | dict.fromkeys(_BINARY, 2) | dict.fromkeys(_UNARY, 1)
    if not isinstance(tree, list) or not tree or arity.get(tree[0]) != len(tree) - 1:
        message = f"{tree!r} is not an expression of this version; it knows {sorted(arity)}"
        raise DefinitionError(message)
    for arm in trees_of(tree):
        check(arm)
