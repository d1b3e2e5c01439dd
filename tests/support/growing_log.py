"""An event log in memory that grows as workers write it: rows up to D of each partition, and Kafka's ends beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.event import Event
    from headrace.bus.stream import Stream
    from headrace.event_log.readable_log import LogReader, LogSnapshot, ReadableLog
    from headrace.streams.processors.log_reach import TopicEnds

TOPIC_ID = bytes([7]) * 16


@dataclass(frozen=True)
class GivenRecord:
    """A record that a producer has sent, with its timestamp in us."""

    event: Event
    record_us: int


@dataclass
class GrowingLog:
    """The records of one stream by partition, how far the log has them, and how far Kafka has."""

    stream: Stream
    records: Mapping[int, Sequence[GivenRecord]]
    is_stamped: bool = True
    logged: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._frames = {partition: self._judged(partition) for partition in self.records}

    def _judged(self, partition: int) -> pl.DataFrame:
        own = self.records[partition]
        times = np.array([each.record_us for each in own], np.int64)
        records = PartitionRecords(np.arange(len(own)), times, [None] * len(own), [encode(each.event) for each in own])
        return RecordJudge(self.stream).rows(TOPIC_ID, partition, records, NO_CLOCK)

    def available_us(self, partition: int) -> list[int]:
        """``available_at`` of the records of a partition: the running maximum."""
        found: list[int] = np.maximum.accumulate([each.record_us for each in self.records[partition]]).tolist()
        return found

    # -- what an event log and its readers do ------------------------------------------------------------------------

    @property
    def log(self) -> ReadableLog:
        return cast("ReadableLog", self)

    def snapshot(self, earlier: LogSnapshot | None = None) -> LogSnapshot:
        del earlier
        return cast("LogSnapshot", self)

    def reader(self, topic: str, columns: Sequence[str]) -> LogReader:
        assert topic == self.stream.topic
        return cast("LogReader", _Reader(self, list(columns)))

    def read_from(self, topic: str, source: SourcePartition, start: int, end: int, columns: list[str]) -> pl.DataFrame:
        assert (topic, source.topic_id) == (self.stream.topic, TOPIC_ID)
        stop = min(end, self.logged.get(source.partition, 0))
        return self._frames[source.partition][start : max(stop, start)].select(columns)

    def newest(self, topic: str) -> Any:
        assert topic == self.stream.topic
        return self

    def transaction_version(self, source: str) -> int | None:
        return self.logged.get(SourcePartition.from_text(source).partition)

    # -- what Kafka says ---------------------------------------------------------------------------------------------

    @property
    def topic_ends(self) -> TopicEnds:
        return cast("TopicEnds", self)

    def of(self, topic: str) -> dict[SourcePartition, int]:
        assert topic == self.stream.topic
        return {SourcePartition(partition, TOPIC_ID): self.ends.get(partition, 0) for partition in self.records}

    def stamped_by_brokers(self, topic: str) -> bool:
        assert topic == self.stream.topic
        return self.is_stamped


class _Reader:
    """Reads each row once."""

    restarts = 0

    def __init__(self, log: GrowingLog, columns: list[str]) -> None:
        self._log, self._next = log, dict.fromkeys(log.records, 0)
        self._columns = ["__topic_id", "__partition", "__offset", "__verdict", *columns]

    def read(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        del snapshot
        parts = []
        for partition, frame in self._log._frames.items():
            end = self._log.logged.get(partition, 0)
            parts.append(frame[self._next[partition] : end].select(list(dict.fromkeys(self._columns))))
            self._next[partition] = max(end, self._next[partition])
        return pl.concat(parts)

    def positions(self) -> dict[SourcePartition, int]:
        return {SourcePartition(partition, TOPIC_ID): end for partition, end in self._next.items() if end}
