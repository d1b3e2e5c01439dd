"""States of a fixed size: the physical columns of one component, how runs of them reduce, and how two merge.

Reducing a run gives the merge of all its members, in any order and grouping. It is exact; only a sum of floats may
differ, by at most 1e-9 of the sum of the absolute terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.definitions.expression_tree import ExpressionTree

NEVER = -(2**63)
"""The event time of a ``last`` that has seen no row."""
FOREVER = 2**63 - 1
"""The event time of a ``first`` that has seen no row."""

StateColumns = list[np.ndarray]
Values = tuple[np.ndarray, np.ndarray]
"""Values, and a mask that is true where there is a value."""


@dataclass(frozen=True)
class Component:
    """One physical aggregate: what it measures in a row, and how two of them merge.

    ``op`` names the state (``headrace.features.kernel.states``) or the sketch (``headrace.features.kernel.sketches``).
    ``argument`` is its parameter, such as a precision or a number of values. ``dtype`` is the dtype of
    the value: ``<i8``, ``<f8``, ``text``, or ``vector``, whose length is ``argument``.
    """

    measure: str  # count | value | time
    op: str
    dtype: str
    value: ExpressionTree = None
    where: ExpressionTree = None
    low: float | None = None
    high: float | None = None
    argument: int = 0
    other: ExpressionTree = None


class State(Protocol):
    """The content of one component in a tile."""

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """The dtype of each physical column, and its content if no row was seen."""
        ...

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:
        """Merge the runs that begin at ``starts``. ``rank`` orders the source partitions if runs mix them."""
        ...

    def merge(self, left: StateColumns, right: StateColumns) -> StateColumns:
        """Merge elementwise. Both sides are of one source partition."""
        ...


@dataclass(frozen=True)
class UfuncState:
    """One number that a ufunc folds: a sum, a minimum, a maximum."""

    ufunc: np.ufunc
    dtype: str
    identity: Any

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """One column. Without a row it is the ufunc's identity."""
        return [(self.dtype, self.identity)]

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:  # noqa: ARG002
        """Apply the ufunc to each run, in any order of the partitions."""
        with np.errstate(over="ignore", invalid="ignore"):  # a sum that is not finite becomes null in the end
            return [self.ufunc.reduceat(columns[0], starts)]

    def merge(self, left: StateColumns, right: StateColumns) -> StateColumns:
        """Apply the ufunc to both sides."""
        with np.errstate(over="ignore", invalid="ignore"):
            return [self.ufunc(left[0], right[0])]


@dataclass(frozen=True)
class ExtremeState:
    """The value with the earliest or the latest (event time, partition, offset): time, offset, value."""

    dtype: str
    latest: bool

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """Time, offset and value. Without a row the time is one that every row beats."""
        return [("<i8", NEVER if self.latest else FOREVER), ("<i8", 0), (self.dtype, 0)]

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:
        """Choose from each run the first or last row by (event time, partition, offset)."""
        time, offset = columns[:2]
        tie = np.zeros(len(time), np.int8) if rank is None else rank
        order = np.lexsort((offset, tie, time, runs_of(len(time), starts)))
        chosen = order[np.append(starts[1:], len(time)) - 1 if self.latest else starts]
        return [column[chosen] for column in columns]

    def merge(self, left: StateColumns, right: StateColumns) -> StateColumns:
        """Choose the side with the earlier or the later (event time, offset)."""
        same = left[0] == right[0]
        later = (left[0] > right[0]) | (same & (left[1] > right[1]))
        ours = later if self.latest else ~later
        return [np.where(ours, one, other) for one, other in zip(left, right, strict=True)]


@dataclass(frozen=True)
class NewestRowState(ExtremeState):
    """The row with the latest (event time, partition, offset): time, offset, 1 if it has a value, and the value.

    So a row without a value, such as a delete, takes back the value of an earlier one.
    """

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """Time, offset, whether there is a value, and the value."""
        time, offset, value = super().columns
        return [time, offset, ("<i8", 0), value]


@dataclass(frozen=True)
class MomentsState:
    """Count, mean and M2, the sum of squared distances from the mean: Chan's formula, never a difference of squares.

    Means are averaged as distances from one of them, so equal values have no variance, however large they are.
    """

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """Count, mean and M2. Without a row all are 0."""
        return [("<i8", 0), ("<f8", 0.0), ("<f8", 0.0)]

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:  # noqa: ARG002
        """Combine each run around its mean. An M2 that overflows a double is not finite, and stays not finite."""
        count, mean, squares = columns
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.add.reduceat(count, starts)
            one = np.where(total > 0, np.maximum.reduceat(np.where(count > 0, mean, -np.inf), starts), 0.0)
            run = runs_of(len(count), starts)
            beyond = np.add.reduceat(np.where(count > 0, count * (mean - one[run]), 0.0), starts)
            centre = one + np.divide(beyond, total, out=np.zeros(len(total)), where=total > 0)
            away = mean - centre[run]
            return [total, centre, np.add.reduceat(squares + count * away * away, starts)]

    def merge(self, left: StateColumns, right: StateColumns) -> StateColumns:
        """Reduce each pair."""
        return in_pairs(self, left, right)


@dataclass(frozen=True)
class DecayedState:
    """The newest event time, and the sum at that time, in which each term is halved per half-life of its age."""

    half_life_us: int

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """Newest event time and sum. Without a row the time is before every event."""
        return [("<i8", NEVER), ("<f8", 0.0)]

    def reduce(self, columns: StateColumns, starts: np.ndarray, rank: np.ndarray | None) -> StateColumns:  # noqa: ARG002
        """Age each sum to the newest time of its run, and add. Terms only shrink: no idle time overflows anything."""
        time, total = columns
        newest = np.maximum.reduceat(time, starts)
        with np.errstate(over="ignore", invalid="ignore"):
            return [newest, np.add.reduceat(self.aged(total, time, newest[runs_of(len(time), starts)]), starts)]

    def merge(self, left: StateColumns, right: StateColumns) -> StateColumns:
        """Reduce each pair."""
        return in_pairs(self, left, right)

    def aged(self, total: np.ndarray, time: np.ndarray, at_us: np.ndarray) -> np.ndarray:
        """Return what is left at ``at_us`` of the sums at ``time``. A sum does not grow towards the past."""
        age = np.where(time == NEVER, 0, np.maximum(at_us - time, 0))
        with np.errstate(invalid="ignore"):  # a sum that is not finite stays so
            aged: np.ndarray = total * np.exp2(-age / self.half_life_us)
        return aged


def runs_of(length: int, starts: np.ndarray) -> np.ndarray:
    """Return the number of the run of each of ``length`` members."""
    changes = np.zeros(length, np.int64)
    changes[starts[1:]] = 1
    return np.cumsum(changes)


def in_pairs(state: State, left: StateColumns, right: StateColumns) -> StateColumns:
    """Return the merge of each pair: its members are a run of two."""
    columns = [np.stack(pair, axis=1).reshape(-1) for pair in zip(left, right, strict=True)]
    return state.reduce(columns, np.arange(0, len(columns[0]), 2), None)
