"""The duplicates among records that another process than a worker reads from the topic of a stream with ``unique=``.

They are those of the workers: what became of a record depends on the records before it in its partition alone. What was
before the first record is read from the event log up to D, and from Kafka beyond D.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import methodcaller
from typing import TYPE_CHECKING

from headrace.bus.kafka_clients import admin
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.topic_span import records_between
from headrace.bus.topics import incarnations, retained_offsets
from headrace.errors import NotInLogYetError, SchemaRegistryUnavailableError
from headrace.event_log.columns import DUPLICATE
from headrace.streams.plane.record_judge import PartitionRecords
from headrace.streams.plane.seen_ids import SeenIds, seen_before
from headrace.streams.plane.table_judge import judge_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from confluent_kafka import Message

    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog

_PARTITION = methodcaller("partition")


@dataclass
class _FollowedPartition:
    """A partition as it is before the next record: its clock, and the ids that it has had."""

    source: SourcePartition
    clock_us: int
    seen: SeenIds | None


class FollowedDuplicates:
    """Finds duplicates among the records of a stream that are read in order, from any offset on.

    It remembers as much as the workers of the stream do.
    """

    def __init__(
        self, bootstrap_servers: str, log: EventLog, stream: Stream, schemas: SchemaStore | None = None
    ) -> None:
        """``schemas`` are those of a schema registry, if the stream's format needs one."""
        self._servers, self._log, self._stream = bootstrap_servers, log, stream
        self._judge = judge_of(stream, schemas)
        self._partitions: dict[int, _FollowedPartition] = {}

    def among(self, messages: Sequence[Message]) -> set[tuple[int, int]]:
        """Return partition and offset of each duplicate. The records follow those of the call before.

        Raises TransientError while the records before them cannot be read, or a schema is awaited: then nothing of them
        is remembered, and the next call may have the same records.
        """
        awaited = self._judge.awaited(messages)
        if awaited is not None:
            raise SchemaRegistryUnavailableError(awaited.why)
        runs = {
            partition: list(own)
            for partition, own in groupby(sorted(messages, key=_PARTITION), key=_PARTITION)  # stable: by offset
        }
        for partition, own in runs.items():
            if partition not in self._partitions:
                self._partitions[partition] = self._opened(partition, own[0].offset() or 0)
        found = [self._duplicates(self._partitions[partition], own) for partition, own in runs.items()]
        return {place for of_run in found for place in of_run}

    def _opened(self, partition: int, offset: int) -> _FollowedPartition:
        """Return a partition as it is before the record at this offset."""
        client, topic = admin(self._servers), self._stream.topic
        source = SourcePartition(partition, incarnations(client, [topic])[topic].topic_id)
        position = min(self._end_of_log(source), offset)
        clock_us = self._log.clock_us(topic, source, position) if position else NO_CLOCK
        followed = _FollowedPartition(source, clock_us, self._seen(source, position, clock_us))
        begins = retained_offsets(client, topic, partition).begins
        for messages in records_between(self._servers, topic, partition, max(position, begins), offset):
            awaited = self._judge.awaited(messages)
            if awaited is not None:
                raise SchemaRegistryUnavailableError(awaited.why)
            self._duplicates(followed, messages)
        return followed

    def _end_of_log(self, source: SourcePartition) -> int:
        """Return D; 0 without a log, as if no worker had run."""
        topic = self._stream.topic
        if not self._log.exists(topic):
            return 0
        with self._log.storage(topic):
            return self._log.newest(topic).transaction_version(source.text) or 0

    def _seen(self, source: SourcePartition, position: int, clock_us: int) -> SeenIds | None:
        try:
            return seen_before(self._log, self._stream, source, position, clock_us)
        except NotInLogYetError:  # no worker has run since the stream has this unique field
            return seen_before(self._log, self._stream, source, position, NO_CLOCK)

    def _duplicates(self, followed: _FollowedPartition, messages: Sequence[Message]) -> Iterable[tuple[int, int]]:
        records = PartitionRecords.from_messages(messages, with_headers=self._stream.format.reads_headers)
        source = followed.source
        rows = self._judge.rows(source.topic_id, source.partition, records, followed.clock_us, followed.seen)
        followed.clock_us = int(rows.get_column("__available_at").dt.epoch("us").item(-1))
        offsets = rows.get_column("__offset").filter(rows.get_column("__verdict") == DUPLICATE)
        return [(source.partition, offset) for offset in offsets.to_list()]
