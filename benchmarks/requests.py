"""Requests and labels for benchmarks of the learning loop, and how they come into an event log."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - the fields of an event are read at run time
from typing import TYPE_CHECKING

import numpy as np

from headrace import Event
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace import Stream
    from headrace.event_log.event_log import EventLog


class Asked(Event):
    """A request."""

    id: int
    at: datetime
    amount: float


class Came(Event):
    """Its label."""

    id: int
    at: datetime
    bad: bool


def append(log: EventLog, stream: Stream, rows: Sequence[Event], times: Sequence[int]) -> None:
    """Append events to the log, each available at its own time."""
    source = SourcePartition(0, bytes([7]) * 16)
    records = PartitionRecords(np.arange(len(rows)), np.array(times), [None] * len(rows), [encode(row) for row in rows])
    frame = RecordJudge(stream).rows(source.topic_id, source.partition, records, NO_CLOCK)
    LogWriter(log, stream).append(frame, {source: None}, {source: len(rows)})
