"""The hash and the estimator of distinct counts.

The hash is part of the online format: tiles made by one version are merged with those of the next. It is whole-number
arithmetic of 64 bits alone, so it does not depend on machine, process or library.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_START = np.uint64(0x9E3779B97F4A7C15)
_LEAST = 2.0**-63
"""Bounds the estimate of registers that are all full: it always fits into 64 bits."""
_STEADY = 64
"""Steps after which the series below change no double any more."""


def hash_bits(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 well-mixed bits of each 64: the finaliser of SplitMix64. Numbers are hashed by their bits."""
    mixed = bits + _START
    for shift, factor in _STEPS:
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def hash_numbers(values: np.ndarray) -> NDArray[np.uint64]:
    """The hashes of int64 or float64 numbers; -0.0 is 0.0."""
    plain = values + 0.0 if values.dtype.kind == "f" else values
    return hash_bits(np.ascontiguousarray(plain).view(np.uint64))


def hash_texts(texts: Sequence[str]) -> NDArray[np.uint64]:
    """The hashes of texts: the sum of the hashes of all (place, byte of UTF-8), hashed together with the length."""
    encoded = [text.encode() for text in texts]
    length = np.fromiter(map(len, encoded), np.int64, len(encoded))
    ends = np.cumsum(length)
    content = np.frombuffer(b"".join(encoded), np.uint8)
    place = np.arange(len(content)) - np.repeat(ends - length, length)
    sums = np.zeros(len(content) + 1, np.uint64)
    np.cumsum(
        hash_bits((place.astype(np.uint64) << np.uint64(8)) | content), out=sums[1:]
    )  # wraps, so differences hold
    return hash_bits(sums[ends] - sums[ends - length] + length.astype(np.uint64))


def estimate(occurrences: np.ndarray) -> NDArray[np.float64]:
    """The number of distinct values from how many registers hold each rank 0, 1, …; a row of ranks an estimate.

    Ertl's estimator (arXiv:1702.01284, algorithm 6): no bias that a table would have to correct, from the merged
    registers alone.
    """
    registers = float(occurrences[:1].sum())
    counts = occurrences / max(registers, 1.0)
    total = _saturated(1.0 - counts[:, -1])
    for rank in range(counts.shape[1] - 2, 0, -1):
        total = 0.5 * (total + counts[:, rank])
    harmonic: NDArray[np.float64] = np.maximum(total + _unused(counts[:, 0]), registers * _LEAST)
    return registers / (2.0 * math.log(2.0)) / harmonic


def _unused(share: np.ndarray) -> np.ndarray:
    """The sum x + Σ x^(2^k)·2^(k-1) over k ≥ 1, of the share of registers never touched; infinite for all of them."""
    power, weight, total = share, 1.0, share.copy()
    for _ in range(_STEADY):
        power = power * power
        total = total + power * weight
        weight *= 2.0
    return np.where(share == 1.0, np.inf, total)


def _saturated(share: np.ndarray) -> np.ndarray:
    """The sum (1 - x - Σ (1 - x^(2^-k))²·2^-k over k ≥ 1) / 3, of the share of registers not full."""
    root, weight, total = share, 1.0, 1.0 - share
    for _ in range(_STEADY):
        root = np.sqrt(root)
        weight *= 0.5
        total = total - (1.0 - root) ** 2 * weight
    return np.where(share == 0.0, 0.0, total / 3.0)
