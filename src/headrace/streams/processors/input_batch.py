"""The events of a stream as a processor gets them: the records that the workers accept, in order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.bus.event_reader import EventReader
from headrace.bus.message import readable_headers
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.written_events import written_events
from headrace.errors import CodecError, SchemaRegistryUnavailableError
from headrace.event_log.columns import ACCEPTED
from headrace.streams.plane.record_judge import PartitionRecords, PartitionRun, RecordJudge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from confluent_kafka import Message

    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.streams.processors.processor import Processor

_PARTITION = methodcaller("partition")


@dataclass(frozen=True)
class InputBatch:
    """The records of a batch, in the order of partition and offset. ``read`` makes events of records.

    ``at``: when what is made from it was available, if it is history; None: when it is written.
    """

    messages: Sequence[Message]
    read: Callable[[int, int], Any]
    begin: int = 0
    at: datetime | None = None

    def events(self) -> Any:
        """Return the events, a list or a frame. They are new each time: a function may have changed the last ones."""
        return self.read(self.begin, self.begin + len(self.messages))

    def part(self, begin: int, end: int) -> InputBatch:
        """Return the records from one position to below another."""
        return InputBatch(self.messages[begin:end], self.read, self.begin + begin, self.at)


class InputReader:
    """Reads the records of a processor's stream. ``topic_id`` is that of its topic.

    ``duplicates`` returns partition and offset of those among records that repeat an earlier one, if the stream has
    ``unique=``. It gets the records in the order of their partitions.
    """

    def __init__(
        self,
        processor: Processor,
        topic_id: bytes,
        schemas: SchemaStore | None = None,
        duplicates: Callable[[Sequence[Message]], Collection[tuple[int, int]]] | None = None,
    ) -> None:
        self._processor, self._topic_id, self._duplicates = processor, topic_id, duplicates
        self._stream = processor.source
        self._judge, self._reader = RecordJudge(self._stream, schemas), EventReader(self._stream, schemas)

    def read(self, messages: Sequence[Message]) -> InputBatch:
        """Return the records that the workers accept, and that are no duplicates.

        Raises SchemaRegistryUnavailableError while a schema is not known, and what ``duplicates`` raises.
        """
        awaited = self._judge.awaited(messages)
        if awaited is not None:
            raise SchemaRegistryUnavailableError(awaited.why)
        ordered = sorted(messages, key=_PARTITION)  # stable: by offset
        runs = [
            PartitionRun(SourcePartition(partition, self._topic_id), len(list(own)), NO_CLOCK)
            for partition, own in groupby(ordered, key=_PARTITION)
        ]
        records = PartitionRecords.from_messages(ordered, with_headers=self._stream.format.reads_headers)
        rows = self._judge.judge(runs, records)
        repeated = self._duplicates(ordered) if self._duplicates is not None else ()
        kept = [
            verdict == ACCEPTED and (message.partition(), message.offset()) not in repeated
            for message, verdict in zip(ordered, rows.get_column("__verdict").to_list(), strict=True)
        ]
        taken = [message for message, is_kept in zip(ordered, kept, strict=True) if is_kept]
        if not self._processor.frame:
            return InputBatch(taken, lambda begin, end: self._events(taken[begin:end]))
        fields = [field.name for field in self._stream.columns]
        frame = rows.filter(pl.Series(kept, dtype=pl.Boolean)).select(fields)
        return InputBatch(taken, lambda begin, end: frame.slice(begin, end - begin))

    def _events(self, messages: Sequence[Message]) -> list[Any]:
        headers = [readable_headers(each) for each in messages] if self._stream.format.reads_headers else ()
        rows = self._reader.rows([message.value() for message in messages], headers)
        if rows is None:
            raise CodecError(f"{self._stream.topic!r}: records that were accepted cannot be read any more")
        written = written_events(self._stream.event)
        return rows if written is None else list(map(written.event, rows))
