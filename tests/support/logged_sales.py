"""A stream of sales with three partitions, and rows of it as the event log has them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from headrace.bus.event import Event
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

if TYPE_CHECKING:
    import polars as pl


class Sale(Event):
    """Something is sold."""

    shop: str
    at: datetime


sales = Stream("sales", Sale, event_time="at")
SOURCES = [SourcePartition(partition, b"t" * 16) for partition in range(3)]


def rows(source: SourcePartition, start: int, count: int) -> pl.DataFrame:
    """The accepted rows of offsets [start, start + count)."""
    values = [b'{"shop": "a", "at": "2026-01-01T00:00:00Z"}'] * count
    offsets, stamps = np.arange(start, start + count), np.full(count, 1_767_225_600_000_000)
    return RecordJudge(sales).rows(
        source.topic_id, source.partition, PartitionRecords(offsets, stamps, [None] * count, values), NO_CLOCK
    )
