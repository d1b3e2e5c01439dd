"""A span of a stream's log: the rows that the windows of some times see, and how far the log has each partition."""

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
    """Times at which something is asked for, and V: topic → source partition → no offset from there on is in it.

    All source partitions that the log has are named.
    """

    from_us: int
    to_us: int
    below: Mapping[str, Mapping[SourcePartition, int]]

    def keeps(self, topic: str, event_time: str, longest_us: int) -> ds.Expression:
        """The rows that windows up to ``longest_us`` may see at these times, and those that clocks at V are made of."""
        since, until = (pa.scalar(us, pa.timestamp("us", "UTC")) for us in (self.from_us - longest_us, self.to_us))
        keep = ds.field("__available_at") <= until
        for source, end in self.below[topic].items():
            keep |= (ds.field("__partition") == source.partition) & (ds.field("__offset") < end)
        if self.from_us < longest_us:  # a window without a begin
            return keep
        return keep & ((ds.field("__available_at") >= since) | (ds.field(event_time) >= since))


class SpanReader:
    """Reads the rows of a span, once; otherwise as a :class:`~headrace.event_log.readable_log.LogReader`."""

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
        """The offsets from which on nothing is asked for."""
        return self._below
