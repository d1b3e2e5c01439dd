"""What the rules look at. Small numbers at once; scores and outcomes only when a rule asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class ServedScores:
    """Served, out-of-sample scores of the live version, one entry a prediction. ``day`` counts days since the epoch."""

    day: NDArray[np.int64]
    score: NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """Matured outcomes of the live version, one entry a labelled prediction. ``label`` is 0 or 1."""

    day: NDArray[np.int64]
    score: NDArray[np.float64]
    label: NDArray[np.int8]


def no_scores() -> ServedScores:
    """Before there is a live version."""
    return ServedScores(np.zeros(0, np.int64), np.zeros(0))


def no_outcomes() -> Outcomes:
    """Before there is a live version."""
    return Outcomes(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int8))


@dataclass(frozen=True)
class Evidence:
    """The world at the event time ``t_us``. ``matured_labels`` is the total so far: a position, never an increment."""

    t_us: int
    matured_labels: int
    scores: Callable[[], ServedScores] = no_scores
    outcomes: Callable[[], Outcomes] = no_outcomes

    @property
    def day(self) -> int:
        """The day that is beginning or under way, counted since the epoch: rules use complete days, those before it."""
        return self.t_us // DAY_US
