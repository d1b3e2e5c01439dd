"""Makes rows again that the event log has lost, from the records that Kafka still has.

A verdict depends only on the record, the stream, and the records before it in its partition. So the rows are the same
as the lost ones. The one exception is a record that was rejected because its schema was not registered: it is accepted
if the schema has been registered since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from headrace.bus.kafka_clients import admin
from headrace.bus.source_partition import SourcePartition
from headrace.bus.topic_span import records_between
from headrace.bus.topics import RetainedOffsets, existing_incarnations, retained_offsets
from headrace.errors import FencedError, SchemaRegistryUnavailableError
from headrace.event_log.damage import DamagedFile, find_damage, set_aside
from headrace.event_log.log_writer import LogWriter
from headrace.event_log.logged_offsets import LoggedOffsets
from headrace.streams.plane.record_judge import PartitionRecords
from headrace.streams.plane.seen_ids import seen_before
from headrace.streams.plane.table_judge import judge_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from confluent_kafka import Message

    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.streams.plane.seen_ids import SeenIds

_ATTEMPTS = 10


class RestoredRows(msgspec.Struct, frozen=True):
    """The end of a restoration: a partition's offsets from ``first`` to below ``end`` had no rows.

    ``restored`` rows were made from Kafka's records. ``lost`` offsets have no record in Kafka any more.
    """

    topic: str
    partition: int
    first: int
    end: int
    restored: int
    lost: int


class LogRestorer:
    """Restores the event log of one stream. Workers may run meanwhile."""

    def __init__(
        self, bootstrap_servers: str, log: EventLog, stream: Stream, reason: str, schemas: SchemaStore | None = None
    ) -> None:
        """``schemas`` are needed by formats whose records name a schema: without them SettingsError is raised."""
        self._servers, self._log, self._stream, self._reason = bootstrap_servers, log, stream, reason
        self._judge = judge_of(stream, schemas)

    def restore(self) -> Iterator[RestoredRows]:
        """Set damaged files aside, and make the missing rows again. Yield each span of missing offsets when it is done.

        The markers of a producer's transactions are such offsets too: Kafka has no record there, so none is restored.
        Offsets that Kafka does not have any more are lost if there was damage. If not, their loss was accepted before.
        An interruption leaves nothing half done, and a second call goes on.

        Raises OSError, BusUnavailableError, OfflineStoreUnavailableError, and SchemaRegistryUnavailableError while the
        registry does not say what a schema is.
        """
        topic, damage = self._stream.topic, self._set_aside()
        if not self._log.exists(topic):
            return
        client, logged = admin(self._servers), LoggedOffsets.read(self._log, topic)
        found = existing_incarnations(client, [topic]).get(topic)
        own = [] if found is None else [SourcePartition(number, found.topic_id) for number in range(found.partitions)]
        if damage:
            yield from self._of_earlier_topics(logged, own)
        for source in own:
            retained = retained_offsets(client, topic, source.partition)
            lowest = min([retained.begins, *(each.lowest for each in damage if each.lowest is not None)])
            for first, end in self._missing(logged, source, lowest):
                if damage or end > retained.begins:
                    yield self._fill(source, first, end, retained)

    def _set_aside(self) -> list[DamagedFile]:
        found: list[DamagedFile] = []
        while damage := find_damage(self._log, self._stream.topic):  # behind a torn commit there may be torn rows
            set_aside(self._log, damage, self._reason)
            found += damage
        return found

    def _of_earlier_topics(self, logged: LoggedOffsets, own: Sequence[SourcePartition]) -> Iterator[RestoredRows]:
        """Yield the missing offsets of incarnations that Kafka does not have any more."""
        now = {source.text for source in own}
        for gap in logged.gaps():
            if gap.source not in now:
                partition = int(gap.source.rpartition("-")[2])
                yield RestoredRows(gap.topic, partition, gap.first, gap.end, 0, gap.end - gap.first)

    def _missing(self, logged: LoggedOffsets, source: SourcePartition, lowest: int) -> list[tuple[int, int]]:
        """Return the spans without rows from ``lowest`` to below D."""
        firsts, ends = logged.runs.get(source, (np.empty(0, np.int64), np.empty(0, np.int64)))
        end = LogWriter(self._log, self._stream).position(source) or 0
        spans = zip([min(lowest, end), *ends.tolist()], [*firsts.tolist(), end], strict=True)
        return [(first, until) for first, until in spans if first < until]

    def _fill(self, source: SourcePartition, first: int, end: int, retained: RetainedOffsets) -> RestoredRows:
        begin, restored = max(first, retained.begins), 0
        clock_us = self._log.clock_us(self._stream.topic, source, first)
        seen = seen_before(self._log, self._stream, source, first, clock_us)
        span = begin, min(end, retained.ends)
        for messages in records_between(self._servers, self._stream.topic, source.partition, *span):
            clock_us = self._append(source, messages, clock_us, seen)
            restored += len(messages)
        lost = min(begin, end) - first + max(end - max(retained.ends, begin), 0)
        return RestoredRows(self._stream.topic, source.partition, first, end, restored, lost)

    def _append(self, source: SourcePartition, messages: list[Message], clock_us: int, seen: SeenIds | None) -> int:
        """Add the rows of these records, and return the partition's clock after them. D does not move."""
        awaited = self._judge.awaited(messages)
        if awaited is not None:
            raise SchemaRegistryUnavailableError(awaited.why)
        records = PartitionRecords.from_messages(messages, with_headers=self._stream.format.reads_headers)
        rows = self._judge.rows(source.topic_id, source.partition, records, clock_us, seen)
        for _ in range(_ATTEMPTS):
            writer = LogWriter(self._log, self._stream)
            end = writer.position(source) or 0
            try:
                writer.append(rows, {source: end}, {source: end})
            except FencedError:  # a worker has committed to the partition just now
                continue
            latest: int = rows.get_column("__available_at").dt.epoch("us").max()  # type: ignore[assignment]
            return latest
        message = f"{self._stream.topic}-{source.partition}: workers commit too often; stop them and try again"
        raise FencedError(message)
