"""The operators of expressions, as in Python, and the steps of numbers."""

from __future__ import annotations

from typing import Self

from headrace.errors import DefinitionError
from headrace.features.definitions.expression_tree import CASTS, MOST_DIGITS, ExpressionTree, Scalar, check, literal


class Operators:
    """A tree of steps, and the operators that make larger ones of it.

    A step with null is null. So is a double that is not finite, such as the root of a negative number.
    """

    __slots__ = ("tree",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tree: ExpressionTree) -> None:
        self.tree = tree

    def step(self, operator: str, *others: object) -> Self:
        """Return a larger tree: a step of this tree and of others."""
        return type(self)([operator, self.tree, *map(as_tree, others)])

    def _turned(self, operator: str, left: object) -> Self:
        return type(self)([operator, as_tree(left), self.tree])

    def step_with_data(self, operator: str, *data: object, write: str) -> Self:
        """Return a step of this tree with plain data. Raises DefinitionError; ``write`` says what to write."""
        tree = [operator, self.tree, *data]
        try:
            check([operator, ["lit", None], *data])
        except DefinitionError:
            given = ", ".join(map(repr, data))
            message = f"{operator}({given}) of {self.tree!r}: {given} is {_kinds(data)}; write {write}"
            raise DefinitionError(message) from None
        return type(self)(tree)

    def __eq__(self, other: object) -> Self:  # type: ignore[override]
        return self.step("eq", other)

    def __ne__(self, other: object) -> Self:  # type: ignore[override]
        return self.step("ne", other)

    def __lt__(self, other: Operand) -> Self:
        return self.step("lt", other)

    def __le__(self, other: Operand) -> Self:
        return self.step("le", other)

    def __gt__(self, other: Operand) -> Self:
        return self.step("gt", other)

    def __ge__(self, other: Operand) -> Self:
        return self.step("ge", other)

    def __add__(self, other: Operand) -> Self:
        return self.step("add", other)

    def __radd__(self, other: Operand) -> Self:
        return self._turned("add", other)

    def __sub__(self, other: Operand) -> Self:
        return self.step("sub", other)

    def __rsub__(self, other: Operand) -> Self:
        return self._turned("sub", other)

    def __mul__(self, other: Operand) -> Self:
        return self.step("mul", other)

    def __rmul__(self, other: Operand) -> Self:
        return self._turned("mul", other)

    def __truediv__(self, other: Operand) -> Self:
        return self.step("div", other)

    def __rtruediv__(self, other: Operand) -> Self:
        return self._turned("div", other)

    def __floordiv__(self, other: Operand) -> Self:
        return self.step("floor_div", other)

    def __rfloordiv__(self, other: Operand) -> Self:
        return self._turned("floor_div", other)

    def __mod__(self, other: Operand) -> Self:
        return self.step("mod", other)

    def __rmod__(self, other: Operand) -> Self:
        return self._turned("mod", other)

    def __pow__(self, other: Operand) -> Self:
        return self.step("pow", other)

    def __rpow__(self, other: Operand) -> Self:
        return self._turned("pow", other)

    def __neg__(self) -> Self:
        return self.step("neg")

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return self.abs()

    def __round__(self, digits: int | None = None) -> Self:
        return self.round(0 if digits is None else digits)

    def __floor__(self) -> Self:
        return self.floor()

    def __ceil__(self) -> Self:
        return self.ceil()

    def __and__(self, other: Operand) -> Self:
        return self.step("and", other)

    def __or__(self, other: Operand) -> Self:
        return self.step("or", other)

    def __invert__(self) -> Self:
        return self.step("not")

    def abs(self) -> Self:
        """Return an expression for the distance of a number from zero, as ``abs(…)`` does.

        It is null for the whole number -2^63, whose distance has more than 64 bits.
        """
        return self.step("abs")

    def round(self, digits: int = 0) -> Self:
        """Return an expression for a number with so many digits after the point, 0 to 15, as ``round(…, digits)`` does.

        A double x becomes ``x * 10^digits``, rounded to a whole number, half to even, and divided by ``10^digits``. A
        whole number stays as it is.
        """
        return self.step_with_data("round", digits, write=f"a whole number of digits, 0 to {MOST_DIGITS}")

    def floor(self) -> Self:
        """Return an expression for the largest whole number that is not above a number. A double stays a double."""
        return self.step("floor")

    def ceil(self) -> Self:
        """Return an expression for the smallest whole number that is not below a number. A double stays a double."""
        return self.step("ceil")

    def sqrt(self) -> Self:
        """Return an expression for the square root; null for a negative number."""
        return self.step("sqrt")

    def exp(self) -> Self:
        """Return an expression for e to the power of a number; null if it is beyond the largest double."""
        return self.step("exp")

    def log(self) -> Self:
        """Return an expression for the natural logarithm; null unless the number is positive."""
        return self.step("log")

    def log1p(self) -> Self:
        """Return an expression for the natural logarithm of 1 + x; null unless x is above -1."""
        return self.step("log1p")

    def pow(self, exponent: Operand) -> Self:
        """Return an expression for a number to the power of another, as ``x ** exponent`` does."""
        return self**exponent

    def clip(self, low: Operand = None, high: Operand = None) -> Self:
        """Return an expression for a number that is at least ``low`` and at most ``high``; None is no bound.

        Null stays null. A bound may be an expression; where it is null, so is the result.
        """
        tree = self.tree if low is None else ["max_of", self.tree, as_tree(low)]
        return type(self)(tree if high is None else ["min_of", tree, as_tree(high)])

    def cast(self, kind: type[int | float | bool | str]) -> Self:
        """Return an expression for the value as an int, a float, a bool or a str.

        A double becomes the whole number towards zero. A text has to be a number such as ``"-1.5"``, or ``"true"`` or
        ``"false"``. A value that cannot be cast is null, such as ``"x"`` as an int, or a number beyond 64 bits.
        """
        return self.step_with_data("cast", getattr(kind, "__name__", kind), write=f"one of {', '.join(CASTS)}")


Operand = Operators | Scalar


def as_tree(value: object) -> ExpressionTree:
    """Return the tree of an expression, or of a literal. Raises DefinitionError for any other value."""
    return value.tree if isinstance(value, Operators) else ["lit", literal(value)]


def _kinds(values: tuple[object, ...]) -> str:
    return ", ".join(f"a {type(value).__name__}" for value in values)
