"""The part of a stream's log that some queries need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import LogSnapshot, ReadableLog


@dataclass(frozen=True)
class QuerySpan:
    """The first and the last time of some queries, and the largest V of all of them.

    ``below`` is this V: topic → source partition → the offset below which rows may be in it. Every source partition
    that the log has is named.
    """

    from_us: int
    to_us: int
    below: Mapping[str, Mapping[SourcePartition, int]]

    def keeps(self, topic: str, event_times: Sequence[str], longest_us: int) -> ds.Expression:
        """Return the filter for the rows that these queries need: for windows up to ``longest_us`` and clocks at V."""
        since, until = (pa.scalar(us, pa.timestamp("us", "UTC")) for us in (self.from_us - longest_us, self.to_us))
        keep = ds.field("__available_at") <= until
        for source, end in self.below[topic].items():
            keep |= (ds.field("__partition") == source.partition) & (ds.field("__offset") < end)
        if self.from_us < longest_us:  # a window without a beginning
            return keep
        recent = ds.field("__available_at") >= since
        for name in event_times:
            recent |= ds.field(*name.split(".")) >= since
        return keep & recent


class SpanReader:
    """Reads the rows of a span once. It has the methods of :class:`~headrace.event_log.readable_log.LogReader`."""

    def __init__(
        self,
        log: ReadableLog,
        topic: str,
        columns: Sequence[str],
        keep: ds.Expression,
        below: Mapping[SourcePartition, int],
    ) -> None:
        self._log, self._topic, self._columns, self._below = log, topic, columns, below
        self._keep: ds.Expression | None = keep
        self.restarts = 0

    def read(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """Return the rows of the span; those of each source partition are in order. A second call returns no rows."""
        keep, self._keep = self._keep, None
        nothing = ds.scalar(value=False)
        return (snapshot or self._log).select(self._topic, nothing if keep is None else keep, self._columns)

    def positions(self) -> Mapping[SourcePartition, int]:
        """Return for each source partition the offset from which on no query needs a row."""
        return self._below
