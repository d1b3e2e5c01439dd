"""Functions that make expressions: ``when``, ``min_of``, ``max_of``, ``haversine`` and ``now``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.base.arguments import expect
from headrace.errors import DefinitionError
from headrace.features.definitions.expression import Expression
from headrace.features.definitions.operators import as_tree

if TYPE_CHECKING:
    from headrace.features.definitions.expression_tree import ExpressionTree
    from headrace.features.definitions.operators import Operand

_CONDITION = "a condition, such as col('amount') > 100"


class When:
    """A condition that waits for its value. It is no expression yet: write ``.then(value)``."""

    def __init__(self, condition: Expression, before: tuple[tuple[ExpressionTree, ExpressionTree], ...] = ()) -> None:
        expect("when()", "condition", condition, Expression, write=_CONDITION)
        self._condition, self._before = condition, before

    def __repr__(self) -> str:
        return "when(…) without .then(value)"

    def then(self, value: Operand) -> Then:
        """Return a choice of ``value`` where the condition is true."""
        return Then((*self._before, (self._condition.tree, as_tree(value))))


class Then:
    """Choices that wait for the value of all other rows. They are no expression yet: write ``.otherwise(value)``."""

    def __init__(self, choices: tuple[tuple[ExpressionTree, ExpressionTree], ...]) -> None:
        self._choices = choices

    def __repr__(self) -> str:
        return "when(…).then(…) without .otherwise(value)"

    def when(self, condition: Expression) -> When:
        """Return a condition for the rows on which none before it was true."""
        return When(condition, self._choices)

    def otherwise(self, value: Operand) -> Expression:
        """Return the expression: ``value``, which may be None for null, where no condition is true."""
        tree = as_tree(value)
        for condition, chosen in reversed(self._choices):
            tree = ["when", condition, chosen, tree]
        return Expression(tree)


def when(condition: Expression) -> When:
    """Begin a choice between values: the value of the first condition that is true. Null is not true.

    Finish it with ``otherwise``. All values have one kind, or are numbers.

    >>> from headrace import col, when
    >>> when(col("amount") > 1000).then("large").when(col("amount") > 10).then("middle").otherwise("small")
    Expression(['when', ['gt', ['col', 'amount'], ['lit', 1000]], ['lit', 'large'], \
['when', ['gt', ['col', 'amount'], ['lit', 10]], ['lit', 'middle'], ['lit', 'small']]])
    """
    return When(condition)


def min_of(*values: Operand) -> Expression:
    """Return an expression for the smallest of several numbers or times on one row; null if one of them is null.

    >>> from headrace import col, min_of
    >>> min_of(col("limit"), 500)
    Expression(['min_of', ['col', 'limit'], ['lit', 500]])
    """
    return _extreme("min_of", values)


def max_of(*values: Operand) -> Expression:
    """Return an expression for the largest of several numbers or times on one row; null if one of them is null.

    >>> from headrace import col, max_of
    >>> max_of(col("first_try"), col("second_try"), 0)
    Expression(['max_of', ['col', 'first_try'], ['col', 'second_try'], ['lit', 0]])
    """
    return _extreme("max_of", values)


def haversine(lat1: Operand, lon1: Operand, lat2: Operand, lon2: Operand) -> Expression:
    """Return an expression for the kilometres between two places on a sphere of the Earth's mean radius, 6,371.0088 km.

    Latitudes and longitudes are degrees. It is null if one is null, a latitude is beyond 90, or a longitude beyond 360.

    >>> from headrace import col, haversine
    >>> haversine(col("lat"), col("lon"), 40.64, -73.78)
    Expression(['haversine', ['col', 'lat'], ['col', 'lon'], ['lit', 40.64], ['lit', -73.78]])
    """
    return Expression(["haversine", *map(as_tree, (lat1, lon1, lat2, lon2))])


def now() -> Expression:
    """Return an expression for the time of a look-up, for on-demand features alone.

    It is t, the time that the looked-up values are of. In a training set it is the t of the served vector, or else the
    time of the row.

    >>> from headrace import col, now
    >>> now().seconds_since(col("ordered_at"))
    Expression(['seconds_since', ['now'], ['col', 'ordered_at']])
    """
    return Expression(["now"])


def _extreme(name: str, values: tuple[Operand, ...]) -> Expression:
    if len(values) < 2:  # noqa: PLR2004 - the extreme of one value is that value
        message = (
            f"{name}() has {len(values)} values; it takes at least two, such as {name}(col('a'), 0). The extreme of a "
            "column over rows is an aggregate: Min or Max"
        )
        raise DefinitionError(message)
    return Expression([name, *map(as_tree, values)])
