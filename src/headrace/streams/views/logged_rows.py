"""Rows of a stream on their way into views: prepared once, folded by each view of the stream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.event_log.columns import ACCEPTED
from headrace.features.kernel.role_rows import in_roles, with_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from headrace.features.definitions.view_spec import ViewSpec

FOLDED = ("__partition", "__offset", "__available_at", "__verdict", "__reason")
"""The event log's own columns that folding reads."""


@dataclass(frozen=True)
class LoggedRows:
    """Rows as the event log has them: those of one partition after the other, each in order.

    ``accepted``: the rows that count, with the columns ``__time`` and ``__row_offset``.
    """

    rows: pl.DataFrame
    accepted: pl.DataFrame
    offsets: NDArray[np.int64]
    event_time: str

    @staticmethod
    def from_rows(rows: pl.DataFrame, event_time: str) -> LoggedRows:
        """Prepare rows of a stream. ``event_time`` is the name of its event-time field."""
        good = rows if rows.get_column("__reason").null_count() == rows.height else rows.filter(_GOOD)
        return LoggedRows(rows, with_time(good, event_time), rows.get_column("__offset").to_numpy(), event_time)

    @property
    def rejects(self) -> bool:
        """True if at least one row is not accepted."""
        return self.accepted.height < self.rows.height

    def in_roles(self, spec: ViewSpec, topic: str) -> LoggedRows:
        """Return them for a view: each accepted row once in each role that the view gives their stream."""
        accepted = in_roles(self.accepted, spec, topic)
        return self if accepted is self.accepted else replace(self, accepted=accepted)

    def only(self, partitions: Sequence[int]) -> LoggedRows:
        """Return the rows of these partitions."""
        own = self.rows.get_column("__partition").to_numpy()
        wanted = np.zeros(max(int(own.max(initial=0)), *partitions) + 1, bool)
        wanted[list(partitions)] = True
        inside = wanted.take(own)
        return self if inside.all() else LoggedRows.from_rows(self.rows.filter(inside), self.event_time)

    def since(self, position: int) -> LoggedRows:
        """Return the rows from an offset on. All rows are of one partition."""
        if not len(self.offsets) or self.offsets[0] >= position:
            return self
        return LoggedRows.from_rows(self.rows.filter(pl.col("__offset") >= position), self.event_time)

    def clocks(
        self, which: Callable[[pl.DataFrame], NDArray[np.int64]], before: Sequence[int], *, by_event_time: bool
    ) -> NDArray[np.int64]:
        """Return the clock of each partition after these rows: the largest ``available_at``.

        ``by_event_time``: the largest event time of accepted rows instead. ``before`` has the clocks before these rows;
        ``which`` returns the index in it of each row's partition.
        """
        rows, name = (self.accepted, "__time") if by_event_time else (self.rows, "__available_at")
        clocks = np.array(before, np.int64)
        np.maximum.at(clocks, which(rows), rows.get_column(name).to_numpy().astype(np.int64))
        return clocks

    def late(self, lateness_us: int) -> NDArray[np.int64]:
        """Return the partition number of each late row: accepted, and available more than this long after its event."""
        available = self.accepted.get_column("__available_at").to_numpy().view(np.int64)
        is_late = available - self.accepted.get_column("__time").to_numpy() > lateness_us
        partitions: NDArray[np.int64] = self.accepted.get_column("__partition").to_numpy()[is_late]
        return partitions


_GOOD = pl.col("__verdict") == ACCEPTED
