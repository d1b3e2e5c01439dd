"""``col(...)``: small expressions with the same results in Polars (batches and the log) and in numpy (applications).

An expression is a tree of plain data: nested lists ``[operator, argument, ...]``, which specs store and hash. It is
never another library's serialisation. Null follows Kleene's logic: a comparison or an arithmetic step with null is
null, and ``False & null`` is False. A float step whose result is not finite (division by zero, overflow) is null, so no
NaN enters a tile. ``+ - *`` of whole numbers wrap at 64 bits; every other step of whole numbers is exact, or null.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

from headrace.base.arguments import expect
from headrace.errors import DefinitionError
from headrace.features.definitions.expression_tree import is_text, literal
from headrace.features.definitions.list_steps import ListSteps
from headrace.features.definitions.text_steps import TextSteps
from headrace.features.definitions.time_steps import TimeSteps

if TYPE_CHECKING:
    from headrace.features.definitions.operators import Operand


class Expression(TimeSteps):
    """A tree of steps over the columns of a stream or of a feature service.

    Build it from :func:`col` with operators. Building it computes nothing.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Expression({self.tree!r})"

    if not TYPE_CHECKING:  # a type checker knows which steps there are

        def __getattr__(self, name: str) -> NoReturn:
            """Raise AttributeError for a step that there is not, and name the one that may be meant."""
            raise AttributeError(f"an expression has no step {name!r}{_meant(name)}", name=name)

    def __bool__(self) -> bool:
        message = (
            f"an expression has no truth value: {self!r}: combine with & | ~ instead of and, or, not, and choose with "
            "when(), min_of(), max_of() or is_in() instead of if, min(), max() or in"
        )
        raise DefinitionError(message)

    def __float__(self) -> float:
        raise DefinitionError(self._no_number("math.log(x)", "x.log()"))

    def __int__(self) -> int:
        raise DefinitionError(self._no_number("int(x)", "x.cast(int)"))

    def __len__(self) -> int:
        raise DefinitionError(self._no_number("len(x)", "x.text.len() or x.list.len()"))

    def __iter__(self) -> NoReturn:
        raise DefinitionError(self._no_number("a loop over x, or a in x", "x.list.contains(a)"))

    def _no_number(self, given: str, write: str) -> str:
        return f"{self!r} is an expression, without a value yet: instead of {given} write {write}"

    def __getitem__(self, key: object) -> Expression:
        """Return an expression for the value that a dict has of a key; null if it has none."""
        if not is_text(key):
            message = f"{self!r}[{key!r}]: a key is a text, such as col('tags')['colour']"
            raise DefinitionError(message)
        return Expression(["item", self.tree, key])

    @property
    def text(self) -> TextSteps[Expression]:
        """The steps of a text, such as ``col("name").text.lower()``."""
        return TextSteps(self)

    @property
    def list(self) -> ListSteps[Expression]:
        """The steps of a list, such as ``col("amounts").list.mean()``."""
        return ListSteps(self)

    def is_null(self) -> Expression:
        """Return an expression that is true if this value is null."""
        return Expression(["is_null", self.tree])

    def fill_null(self, value: Operand) -> Expression:
        """Return an expression for this value, or for ``value`` where this value is null."""
        return self.step("fill_null", value)

    def is_in(self, values: Expression | Iterable[Operand]) -> Expression:
        """Return an expression that is true if this value is one of ``values``, and null if this value is null.

        ``values`` are literals, or expressions, of which null ones are left out, or one expression that is a list.
        """
        if isinstance(values, Expression):
            return values.list.contains(self)
        expect("is_in()", "values", values, Iterable, write="a list such as [1, 2], or a column that is a list")
        given = [*values]
        if any(isinstance(value, Expression) for value in given):
            return self.step("among", *given)
        return Expression(["is_in", self.tree, [literal(value) for value in given]])


def _meant(name: str) -> str:
    """Return the words that name the step which may be meant; an empty text if there is none."""
    for part, steps in {"text": TextSteps, "list": ListSteps}.items():
        if not name.startswith("_") and hasattr(steps, name):
            return f": it is a step of a {part}, so write x.{part}.{name}(…)"
    close = get_close_matches(name, [step for step in dir(Expression) if not step.startswith("_")], n=1)
    return f": is {close[0]!r} meant?" if close else ""


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
