"""Steps of texts: ``col("name").text.lower()`` and its neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from headrace.features.definitions.expression_tree import MOST_BUCKETS
from headrace.features.definitions.operators import Operators

if TYPE_CHECKING:
    from headrace.features.definitions.operators import Operand

Made = TypeVar("Made", bound=Operators)


class TextSteps(Generic[Made]):
    """The steps of a text. Null stays null.

    A character is a code point of Unicode, and texts are compared code point by code point: an ``é`` that is one code
    point is not the one that is an ``e`` and an accent.
    """

    __slots__ = ("_of",)

    def __init__(self, of: Made) -> None:
        self._of = of

    def _step(self, word: str, *others: Operand) -> Made:
        return self._of.step(word, *others)

    def lower(self) -> Made:
        """Return an expression for the text in small letters, as ``str.lower`` makes them in Python 3.11."""
        return self._step("lower")

    def upper(self) -> Made:
        """Return an expression for the text in capital letters, as ``str.upper`` makes them in Python 3.11."""
        return self._step("upper")

    def strip(self) -> Made:
        """Return an expression for the text without white space at both ends, which is Unicode's ``White_Space``."""
        return self._step("strip")

    def len(self) -> Made:
        """Return an expression for the number of characters, an int."""
        return self._step("length")

    def contains(self, part: Operand) -> Made:
        """Return an expression that is true if ``part``, a text or an expression, is in the text. It is no pattern."""
        return self._step("contains", part)

    def starts_with(self, start: Operand) -> Made:
        """Return an expression that is true if the text begins with ``start``, a text or an expression."""
        return self._step("starts_with", start)

    def ends_with(self, end: Operand) -> Made:
        """Return an expression that is true if the text ends with ``end``, a text or an expression."""
        return self._step("ends_with", end)

    def slice(self, start: int, stop: int | None = None) -> Made:
        """Return an expression for the characters from ``start`` to before ``stop``, as ``text[start:stop]`` in Python.

        A negative number counts from the end.
        """
        write = "whole numbers as in text[start:stop]; stop may be None"
        return self._of.step_with_data("slice", start, stop, write=write)

    def split_part(self, separator: str, part: int) -> Made:
        """Return an expression for one of the parts between separators, counted from 0, or from the end by -1.

        It is null if there are fewer parts.
        """
        write = "a separator of at least one character, and a whole number"
        return self._of.step_with_data("split_part", separator, part, write=write)

    def hash(self, *, buckets: int) -> Made:
        """Return an expression for a bucket of the text, 0 to ``buckets`` - 1.

        The bucket never changes. It is a hash of 64 bits of the text's UTF-8, modulo the number of buckets.

        >>> from headrace import col
        >>> col("merchant").text.hash(buckets=1000)
        Expression(['bucket', ['col', 'merchant'], 1000])
        """
        return self._of.step_with_data("bucket", buckets, write=f"a whole number, 1 to {MOST_BUCKETS}")
