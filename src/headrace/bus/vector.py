"""The length of a list of numbers that is a vector, such as an embedding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_DIM = 4096
"""The largest number of numbers in a vector. One has 32 kB then, and a tile keeps one."""


@dataclass(frozen=True)
class Vector:
    """The length ``dim`` of a list of floats, each of which is finite. A record with another list is a dead letter.

    >>> from typing import Annotated
    >>> from headrace import Event, Vector
    >>> class Viewed(Event):
    ...     user: str
    ...     embedding: Annotated[list[float], Vector(3)]
    >>> Vector(3).problem([0.5, 0.25])
    'a list of 2 numbers, and Vector(3) has 3'
    """

    dim: int

    def __post_init__(self) -> None:
        check_dim(f"Vector({self.dim!r})", self.dim)

    @property
    def kind(self) -> str:
        """The kind of it in expressions and features, such as ``vector(64)``."""
        return vector_kind(self.dim)

    def fits(self, vectors: Sequence[Sequence[float]]) -> bool:
        """Return whether each list has the length, and only finite numbers."""
        return {*map(len, vectors)} <= {self.dim} and all(all(map(math.isfinite, each)) for each in vectors)

    def problem(self, vector: Sequence[float]) -> str:
        """Return what is wrong with a list that does not fit."""
        if len(vector) != self.dim:
            return f"a list of {len(vector)} numbers, and Vector({self.dim}) has {self.dim}"
        place = next(place for place, number in enumerate(vector) if not math.isfinite(number))
        return f"number {place} of the vector is {vector[place]}: each has to be finite"


def vector_kind(dim: int) -> str:
    """Return the kind of vectors of this length.

    >>> vector_kind(64)
    'vector(64)'
    """
    return f"vector({dim})"


def dim_of(kind: str) -> int | None:
    """Return the length of vectors of a kind such as ``vector(64)``; None for every other kind."""
    return int(kind[7:-1]) if kind.startswith("vector(") else None


def check_dim(where: str, dim: object) -> None:
    """Raise DefinitionError unless a vector may have this length."""
    if type(dim) is not int or not 1 <= dim <= MOST_DIM:
        raise DefinitionError(f"{where}: a vector has from 1 to {MOST_DIM} numbers")
