"""Rows of one source partition on their way into views: prepared once, folded by each view of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.features.log import ACCEPTED
from headrace.features.online import NO_CLOCK
from headrace.features.point_in_time import with_time

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class LoggedRows:
    """Rows as the event log has them, in order; ``accepted`` are those that count, with ``__time`` and ``offset``."""

    rows: pl.DataFrame
    accepted: pl.DataFrame
    offsets: NDArray[np.int64]
    event_time: str

    @staticmethod
    def of(rows: pl.DataFrame, event_time: str) -> LoggedRows:
        """Prepare rows of a stream whose event time is that field."""
        good = rows if rows.get_column("__reason").null_count() == rows.height else rows.filter(_GOOD)
        return LoggedRows(rows, with_time(good, event_time), rows.get_column("__offset").to_numpy(), event_time)

    def since(self, position: int) -> LoggedRows:
        """The rows from an offset on."""
        if not len(self.offsets) or self.offsets[0] >= position:
            return self
        return LoggedRows.of(self.rows.filter(pl.col("__offset") >= position), self.event_time)

    def clock(self, *, by_event_time: bool) -> int:
        """The largest ``available_at``, or the largest event time of the accepted ones."""
        column = self.accepted.get_column("__time") if by_event_time else self.rows.get_column("__available_at")
        times = column.to_numpy()
        return int(times.max().astype(np.int64)) if len(times) else NO_CLOCK

    def late(self, lateness_us: int) -> int:
        """How many accepted rows happened longer before their ``available_at`` than ``lateness_us``."""
        available = self.accepted.get_column("__available_at").to_numpy().view(np.int64)
        return int(np.count_nonzero(available - self.accepted.get_column("__time").to_numpy() > lateness_us))


_GOOD = pl.col("__verdict") == ACCEPTED
