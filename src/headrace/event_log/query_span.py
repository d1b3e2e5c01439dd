"""The part of a stream's log that queries at some times depend on."""

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
    """The first and the last time of some queries, and the largest V that one of them has.

    ``below`` is that V: topic → source partition → the offset below which rows may be in it. Every source partition
    that the log has is named.
    """

    from_us: int
    to_us: int
    below: Mapping[str, Mapping[SourcePartition, int]]

    def keeps(self, topic: str, event_time: str, longest_us: int) -> ds.Expression:
        """The filter for the rows that these queries need, in windows up to ``longest_us`` or for the clocks at V."""
        since, until = (pa.scalar(us, pa.timestamp("us", "UTC")) for us in (self.from_us - longest_us, self.to_us))
        keep = ds.field("__available_at") <= until
        for source, end in self.below[topic].items():
            keep |= (ds.field("__partition") == source.partition) & (ds.field("__offset") < end)
        if self.from_us < longest_us:  # a window without a beginning
            return keep
        return keep & ((ds.field("__available_at") >= since) | (ds.field(event_time) >= since))


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

    def read(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """The rows of the span, each source partition's in order. From the second call on there are none."""
        keep, self._keep = self._keep, None
        nothing = ds.scalar(value=False)
        return (snapshot or self._log).select(self._topic, nothing if keep is None else keep, self._columns)

    def positions(self) -> Mapping[SourcePartition, int]:
        """Source partition → the offset from which on no query needs a row."""
        return self._below
