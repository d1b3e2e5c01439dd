"""Copies another topic to the topic of a stream, with the stream's key and format, at least once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from headrace.base.failpoints import failpoint
from headrace.bus.consumer import BatchConsumer
from headrace.bus.event_intake import EventIntake
from headrace.bus.kafka_clients import admin
from headrace.bus.message import readable_headers
from headrace.bus.topics import has_topic, retained_offsets
from headrace.errors import BusUnavailableError, CodecError, HeadraceError, SourceUnavailableError
from headrace.streams.ingest.event_sender import EventSender
from headrace.streams.ingest.ingest_metrics import IngestMetrics
from headrace.streams.ingest.source_state import rejected_entry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message
    from confluent_kafka.admin import AdminClient

    from headrace.bus.formats.record_format import RecordFormat
    from headrace.bus.producer import EventProducer
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.streams.ingest.source_state import RejectedEntry, SourceState

logger = structlog.get_logger(__name__)
_BATCH, _POLL_S, _ASK_S = 5_000, 0.5, 5.0
"""The records that are produced before their offsets are committed; the wait for one; how often a silent Kafka is asked
whether it is there."""
_NAMED_ROWS = 20


@dataclass(frozen=True)
class TopicOptions:
    """A topic to copy. ``written``: the format of its records; None: that of the stream.

    ``servers`` are those of the topic, and ``group`` is the one that its offsets are committed for.
    """

    name: str
    topic: str
    servers: str
    group: str
    written: RecordFormat | None = None
    schemas: SchemaStore | None = None


class TopicSource:
    """Produces the records of one topic to a stream. Each :meth:`look` takes one batch.

    Offsets are committed after Kafka has the events. So a kill sends up to a batch again. A record that is no event
    goes on as it is, if it is written in the format of the stream: the worker makes it a dead letter. Otherwise it is
    kept with the rejected rows. For one thread at a time.
    """

    def __init__(
        self,
        options: TopicOptions,
        stream: Stream,
        producer: EventProducer,
        state: SourceState,
        *,
        metrics: IngestMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options, self._stream, self._state, self._clock = options, stream, state, clock
        self._metrics = metrics or IngestMetrics([options.name])
        written = options.written or stream.format
        self._is_forwarded = written == stream.format
        self._sender, self._intake = EventSender(stream, producer), EventIntake(stream, written, options.schemas)
        self._consumer: BatchConsumer | None = None
        self._admin: AdminClient | None = None
        self._heard_s = 0.0

    def look(self, stopping: threading.Event) -> None:
        """Produce the next records.

        Raises SourceUnavailableError if the topic cannot be read, BusUnavailableError, RefusedError if Kafka's user may
        not write, and SchemaRegistryUnavailableError.
        """
        try:
            self._sender.begin()
            consumer = self._joined()
            messages = consumer.poll(_BATCH, _POLL_S)
            self._check(consumer)
            if messages:
                self._produce(consumer, messages)
            elif self._clock() - self._heard_s >= _ASK_S:
                self._ask()
        except HeadraceError:
            self.close()  # what was polled is read again, from the committed offsets
            raise
        if stopping.is_set():
            self.close()

    def close(self) -> None:
        """Leave the group, so that another process can go on at once."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _joined(self) -> BatchConsumer:
        if self._consumer is None:
            self._ask()
            self._admin = admin(self._options.servers)
            self._consumer = BatchConsumer(self._options.servers, self._options.group)
            self._consumer.subscribe([self._options.topic], self)
        return self._consumer

    def _ask(self) -> None:
        """Raise SourceUnavailableError if the Kafka of the source does not answer, or has no such topic."""
        topic, servers = self._options.topic, self._options.servers
        try:
            is_there = has_topic(servers, topic)
        except BusUnavailableError as error:
            raise SourceUnavailableError(f"{self._where}: {error}") from error
        if not is_there:
            raise SourceUnavailableError(f"{self._where}: Kafka at {servers} has no topic {topic!r}")
        self._heard_s = self._clock()

    @property
    def _where(self) -> str:
        return f"[[ingest]] {self._options.name!r}"

    def assigned(self, topic: str, partition: int) -> int:
        """Return the offset from which a partition is read: the committed one, or the first that there is."""
        assert self._consumer is not None  # noqa: S101 - it calls this method
        assert self._admin is not None  # noqa: S101
        held = retained_offsets(self._admin, topic, partition)
        known = self._consumer.committed(topic, partition)
        place = {"source": self._options.name, "topic": topic, "partition": partition}
        if known is None:
            logger.info("a partition is read from its beginning", **place, offset=held.begins)
            return held.begins
        if held.begins <= known <= held.ends:
            return known
        logger.error("records were deleted before they were read, or the topic was made anew: it is read from its "
                     "beginning", **place, committed=known, begins=held.begins, ends=held.ends)  # fmt: skip
        return held.begins

    def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Nothing is under way between two looks."""

    def lost(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Nothing is under way between two looks."""

    def _check(self, consumer: BatchConsumer) -> None:
        said = consumer.refusal() or next(iter(consumer.failures().values()), "")
        if said:
            raise SourceUnavailableError(f"{self._where}: topic {self._options.topic!r} cannot be read: {said}")

    def _produce(self, consumer: BatchConsumer, messages: Sequence[Message]) -> None:
        rejected: list[RejectedEntry] = []
        count = 0
        for message in messages:
            reason, kept = self._sent(message)
            count += not reason
            if reason:
                self._name(message, reason, count=len(messages) - count)
            if kept:
                rejected.append(rejected_entry(_place(message), reason, message.value() or b""))
        place = f"{_place(messages[0])} to {_place(messages[-1])}"
        refused = [rejected_entry(place, reason, record.value or b"") for record, reason in self._sender.flush()]
        failpoint("after-ingest-flush")
        self._state.reject([*rejected, *refused])
        ends: dict[tuple[str, int], int] = {}
        for message in messages:
            ends[str(message.topic()), message.partition() or 0] = (message.offset() or 0) + 1
        consumer.commit_now([(*where, offset) for where, offset in ends.items()])
        self._heard_s = self._clock()
        self._metrics.produced(self._options.name, count - len(refused), len(messages) - count + len(refused))

    def _sent(self, message: Message) -> tuple[str, bool]:
        """Hand a record to Kafka. Return why it is no event, if it is none, and whether it has to be kept here."""
        headers, value = readable_headers(message), message.value()
        try:
            reason = self._sender.send(self._intake.read(value, headers))
        except CodecError as error:
            reason = str(error)
            if self._is_forwarded and headers is not None:
                return reason, bool(self._sender.forward(message.key(), value, headers))
        return reason, bool(reason)

    def _name(self, message: Message, reason: str, *, count: int) -> None:
        if count <= _NAMED_ROWS:
            logger.warning("a record is no event", source=self._options.name, at=_place(message), reason=reason)


def _place(message: Message) -> str:
    return f"{message.topic()}-{message.partition()}-{message.offset()}"
