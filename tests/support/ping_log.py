"""A stream of pings, and how rows of it are written to an event log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.base.times import epoch_us
from headrace.bus.event import Event, encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

if TYPE_CHECKING:
    from headrace.event_log.log_writer import LogWriter


class Ping(Event):
    """A number at a time."""

    n: int
    at: datetime


pings = Stream("pings", Ping, event_time="at")
START = datetime(2020, 1, 1, tzinfo=UTC)
ZERO, ONE = SourcePartition(0, bytes([1]) * 16), SourcePartition(1, bytes([1]) * 16)
REBORN = SourcePartition(0, bytes([2]) * 16)


def rows(source: SourcePartition, start: int, end: int) -> pl.DataFrame:
    """Rows of [start, end); every tenth record does not decode."""
    offsets = np.arange(start, end)
    values = [b"?" if n % 10 == 9 else encode(Ping(n, START + timedelta(seconds=n))) for n in offsets.tolist()]
    records = PartitionRecords(offsets, epoch_us(START) + offsets * 1_000_000, [None] * len(values), values)
    return RecordJudge(pings).rows(source.topic_id, source.partition, records, NO_CLOCK)


def append(writer: LogWriter, source: SourcePartition, end: int) -> None:
    """The next rows of a partition, from where the writer's handle stands."""
    position = writer.position(source)
    writer.append(rows(source, position or 0, end), {source: position}, {source: end})


def offsets(frame: pl.DataFrame, source: SourcePartition = ZERO) -> list[int]:
    mine = (pl.col("__partition") == source.partition) & (pl.col("__topic_id") == source.topic_id)
    return frame.filter(mine)["__offset"].to_list()


def stream_with(**more: tuple[str, Any] | tuple[str]) -> Stream:
    """The stream of an event type with a field before the others' end: name → type, and perhaps a default."""
    defaults = {name: rest[0] for name, (_, *rest) in more.items() if rest}
    types_ = {"n": "int", "at": "datetime"} | {name: kind for name, (kind, *_) in more.items()}
    body = {"__annotations__": types_, "__module__": __name__, "__qualname__": "Ping", **defaults}
    return Stream("pings", type("Ping", (Event,), body), event_time="at")
