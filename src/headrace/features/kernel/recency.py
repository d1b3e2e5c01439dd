"""The times of rows as features: seconds since the newest and the first row, and between rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.features.kernel.states import FOREVER, NEVER, StateColumns, Values, in_pairs, runs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECOND_US = 1_000_000


@dataclass(frozen=True)
class TwoNewestState:
    """The two newest event times. Rows of one time are two rows."""

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """The newest time and the one before it. Without a row each is before every event."""
        return [("<i8", NEVER), ("<i8", NEVER)]

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:  # noqa: ARG002
        """Choose from each run the two newest times. They do not depend on the order of the members."""
        newest, second = columns
        of_run = np.maximum.reduceat(newest, starts)
        is_newest = newest == of_run[runs_of(len(newest), starts)]
        behind = np.maximum.reduceat(np.where(is_newest, second, newest), starts)
        several = np.add.reduceat(is_newest.astype(np.int64), starts) > 1
        return [of_run, np.where(several, of_run, behind)]

    def merge(self, left: StateColumns, right: StateColumns) -> StateColumns:
        """Reduce each pair."""
        return in_pairs(self, left, right)


def since(columns: StateColumns, at_us: np.ndarray) -> Values:
    """Return the seconds from a time to t; 0 if t lies before it."""
    (time,) = columns
    there = (time != NEVER) & (time != FOREVER)
    return np.maximum(at_us - np.where(there, time, 0), 0) / _SECOND_US, there


def gap_mean(columns: StateColumns) -> Values:
    """Return the mean seconds between rows, from the newest time, the first time and the number of rows."""
    newest, first, rows = columns
    there = rows > 1
    gaps = np.where(there, rows - 1, 1) * _SECOND_US
    return np.where(there, newest - first, 0) / gaps, there


def gap_last(columns: StateColumns) -> Values:
    """Return the seconds between the two newest rows."""
    newest, second = columns
    there = second != NEVER
    return np.where(there, newest - second, 0) / _SECOND_US, there
