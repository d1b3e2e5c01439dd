"""Steps of lists: ``col("amounts").list.mean()`` and its neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from headrace.features.definitions.operators import Operators

if TYPE_CHECKING:
    from headrace.features.definitions.operators import Operand

Listed = TypeVar("Listed", bound=Operators)


class ListSteps(Generic[Listed]):
    """The steps of a list of numbers, texts or bools. A null list stays null, and nulls in a list are left out.

    >>> from headrace import col
    >>> col("amounts").list.mean()
    Expression(['list_mean', ['col', 'amounts']])
    """

    __slots__ = ("_of",)

    def __init__(self, of: Listed) -> None:
        self._of = of

    def len(self) -> Listed:
        """Return an expression for the number of items, an int; nulls count."""
        return self._of.step("list_length")

    def contains(self, item: Operand) -> Listed:
        """Return an expression that is true if ``item``, a value or an expression, is in the list; null if null."""
        return self._of.step("list_contains", item)

    def get(self, place: int) -> Listed:
        """Return an expression for the item at a place, from 0, or from the end by -1; null if there is none."""
        return self._of.step_with_data("list_get", place, write="a whole number, such as 0 or -1")

    def sum(self) -> Listed:
        """Return an expression for the sum of the numbers, rounded once; 0 for an empty list."""
        return self._of.step("list_sum")

    def mean(self) -> Listed:
        """Return an expression for the sum of the numbers divided by their number; null for an empty list."""
        return self._of.step("list_mean")

    def min(self) -> Listed:
        """Return an expression for the smallest number; null for an empty list."""
        return self._of.step("list_min")

    def max(self) -> Listed:
        """Return an expression for the largest number; null for an empty list."""
        return self._of.step("list_max")
