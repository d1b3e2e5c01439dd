"""How much one block tells of the next, and by how much an interval from resampled blocks is too narrow for it.

Blocks are drawn independently of each other. Where bad days follow bad days, few of them are as good as independent. A
model of first order is taken: what is left of a block's difference after k blocks is its lag-1 correlation to the power
of k. The lag-1 correlation of few blocks is found too small on average, so it is corrected (Kendall 1954). A series
that drifts for weeks below larger noise has more correlation than its first lag says, and is widened too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.trainers.metrics.block_rows import Floats

LEAST_EFFECTIVE = 6
"""The number of independent blocks that a series must be worth: below it the widening itself is too uncertain."""
_MOST = 0.95
_FEW = 4


@dataclass(frozen=True)
class SerialCorrelation:
    """The corrected ``lag1`` correlation, at least 0, and what follows from it.

    ``effective`` is the number of independent blocks that the series is worth. An interval from independent draws must
    be ``widening`` times as wide.
    """

    lag1: float
    effective: float
    widening: float

    @property
    def enough(self) -> bool:
        """Whether the series is worth enough independent blocks to be judged by."""
        return self.effective >= LEAST_EFFECTIVE


def serial_correlation(series: Floats) -> SerialCorrelation:
    """Measure the serial correlation of a number for each block, in the order of time."""
    n, rest = len(series), series - series.mean()
    squares = float(rest @ rest)
    found = float(rest[1:] @ rest[:-1]) / squares if squares > 0 else 0.0
    lag1 = float(np.clip((n * found + 1) / (n - _FEW), 0, _MOST)) if n > _FEW else _MOST
    lags = np.arange(1, n)
    inflation = 1 + 2 * float(((1 - lags / n) * lag1**lags).sum())
    seen = max(1 - (inflation - 1) / max(n - 1, 1), 1 - _MOST)  # the part of the variance that is around the mean
    return SerialCorrelation(lag1, n / inflation, float(np.sqrt(inflation / seen)))


def contributions(value: Callable[[Floats], Floats], blocks: int) -> Floats:
    """Return what each block adds to a metric: its value over all blocks, less that without the block."""
    everything = np.ones((1, blocks))
    changes = value(everything)[0] - value(everything - np.eye(blocks))
    return np.where(np.isfinite(changes), changes, 0.0)
