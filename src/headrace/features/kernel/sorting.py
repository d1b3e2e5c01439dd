"""Sorts rows by source partition and offset, and by other orders. Rows that are in order are not copied."""

from __future__ import annotations

import numpy as np

_MOST = 2**62
_BITS = 63


def stable_order(major: np.ndarray, minor: np.ndarray) -> np.ndarray:
    """The stable order of rows by two whole numbers, ``major`` not below 0; one sort where both fit into one number."""
    if not len(major):
        return np.zeros(0, np.int64)
    low, width = int(minor.min()), int(minor.max()) - int(minor.min()) + 1
    if (int(major.max()) + 1) * width >= _MOST:
        return np.lexsort((minor, major))
    return in_order(major * width + (minor - low))[1]


def in_order(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers not below 0 sorted, and their stable order.

    Numbers are sorted with their places behind them, where both fit: several times as fast as to find an order.
    """
    count = len(numbers)
    if (numbers[1:] >= numbers[:-1]).all():
        return numbers, np.arange(count)
    bits = (count - 1).bit_length()
    if int(numbers.max()).bit_length() + bits >= _BITS:
        order = np.argsort(numbers, kind="stable")
        return numbers[order], order
    packed = (numbers << bits) | np.arange(count)
    packed.sort()
    return packed >> bits, packed & ((1 << bits) - 1)
