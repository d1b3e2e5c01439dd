"""How much one block tells of the next, and by how much an interval from resampled blocks is too narrow for it.

Blocks are drawn independently of each other. Where bad days follow bad days, few of them are as good as independent. A
model of first order is taken: what is left of a block's difference after k blocks is its lag-1 correlation to the power
of k. The lag-1 correlation of few blocks is found too small on average, so it is corrected (Kendall 1954). A series
that drifts for weeks below larger noise has more correlation than its first lag says, and is widened too little.

A series that is worth few independent blocks is hardly known itself. Only a gain that would be sure at the highest
correlation counts then: one that is about four times as large as what differs between 14 days.

A chance much below 2.5 % cannot be told from 14 blocks whose correlation is only known from themselves. So the
correlation is then the mean over all looks so far, and half a standard error higher; and Student's t is that of the
variance of correlated numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.trainers.metrics.block_rows import Floats

LEAST_EFFECTIVE = 6
"""The number of independent blocks that a series must be worth: below it the widening itself is too uncertain."""
_MOST = 0.95
_FEW = 4
_ERRORS_ABOVE = 0.5


class KnownCorrelation(NamedTuple):
    """What earlier looks have measured: the mean ``lag1`` over so many ``blocks``.

    ``new`` is the part of the blocks of the look itself that no earlier one has seen.
    """

    lag1: float = 0.0
    blocks: float = 0.0
    new: float = 1.0


NOTHING_KNOWN = KnownCorrelation()


@dataclass(frozen=True)
class SerialCorrelation:
    """The corrected ``lag1`` correlation of a series, at least 0, and what follows from it.

    ``effective`` is the number of independent blocks that the series is worth. An interval from independent draws must
    be ``widening`` times as wide. If the series is worth too few, how alike its blocks are is too uncertain, and
    ``widening`` is that of the highest correlation that is counted, 0.95. ``pooled`` is the correlation that both
    follow from, if it is not that of the series alone; ``freedom`` are the degrees of freedom of Student's t then.
    """

    lag1: float
    effective: float
    widening: float
    pooled: float | None = None
    freedom: float | None = None

    @property
    def enough(self) -> bool:
        """Whether the series is worth enough independent blocks to be judged by."""
        return self.effective >= LEAST_EFFECTIVE


def serial_correlation(series: Floats, known: KnownCorrelation | None = None) -> SerialCorrelation:
    """Measure the serial correlation of a number for each block, in the order of time.

    With what is ``known`` from earlier looks, even if that is nothing, the correlation is taken with the care that a
    small chance needs.
    """
    n, lag1 = len(series), _lag1(series)
    if known is None:
        effective, widening = _consequences(n, lag1)
        return SerialCorrelation(
            lag1, effective, widening if effective >= LEAST_EFFECTIVE else _consequences(n, _MOST)[1]
        )
    new = known.new * n if known.blocks else n
    blocks = known.blocks + new
    mean = (known.lag1 * known.blocks + lag1 * new) / blocks
    pooled = min(mean + _ERRORS_ABOVE * float(np.sqrt((1 - mean**2) / blocks)), _MOST)
    freedom = (n - 1) * (1 - pooled**2) / (1 + pooled**2)
    return SerialCorrelation(lag1, *_consequences(n, pooled), pooled, freedom)


def _lag1(series: Floats) -> float:
    n, rest = len(series), series - series.mean()
    squares = float(rest @ rest)
    found = float(rest[1:] @ rest[:-1]) / squares if squares > 0 else 0.0
    return float(np.clip((n * found + 1) / (n - _FEW), 0, _MOST)) if n > _FEW else _MOST


def _consequences(n: int, lag1: float) -> tuple[float, float]:
    """Return the number of independent blocks that n are worth, and the factor of the interval."""
    lags = np.arange(1, n)
    inflation = 1 + 2 * float(((1 - lags / n) * lag1**lags).sum())
    seen = max(1 - (inflation - 1) / max(n - 1, 1), 1 - _MOST)  # the part of the variance that is around the mean
    return n / inflation, float(np.sqrt(inflation / seen))


def contributions(value: Callable[[Floats], Floats], blocks: int) -> Floats:
    """Return what each block adds to a metric: its value over all blocks, less that without the block."""
    everything = np.ones((1, blocks))
    changes = value(everything)[0] - value(everything - np.eye(blocks))
    return np.where(np.isfinite(changes), changes, 0.0)
