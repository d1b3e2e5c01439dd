"""The error of a metric, or of a gain, from what each block adds to it; and how well that error is known.

The error of few blocks is itself uncertain: Student's t answers for it, by the degrees of freedom. Where one block adds
far more than the others, the error is less certain than the number of blocks says, so there are fewer of them. Few
blocks show too little of this excess, so it counts twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from headrace.trainers.metrics.block_rows import Floats

_EXCESS_COUNTS = 2
_LEAST_FREEDOM = 3.0
_FEWEST = 4


class BlockError(NamedTuple):
    """A standard ``error``, and the degrees of ``freedom`` of Student's t for it."""

    error: float
    freedom: float


def block_error(contributions: Floats) -> BlockError:
    """Return the standard error of a number from the contribution of each of two or more blocks to it."""
    n, rest = len(contributions), contributions - contributions.mean()
    error = float(np.sqrt((n - 1) / n * (rest @ rest)))
    return BlockError(error, _freedom(n, rest))


def _freedom(n: int, rest: Floats) -> float:
    """Return the degrees of freedom of the variance of ``n`` numbers: n - 1, or fewer by their excess kurtosis."""
    largest = float(np.abs(rest).max())
    if n < _FEWEST or largest == 0:
        return n - 1.0
    rest = rest / largest  # whose powers are neither 0 nor infinite
    found = float((rest**4).mean()) / float((rest**2).mean()) ** 2 - 3
    excess = max((n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * found + 6), 0.0)
    return max(2 / (2 / (n - 1) + _EXCESS_COUNTS * excess / n), min(_LEAST_FREEDOM, n - 1.0))
