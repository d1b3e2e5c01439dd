"""Runs one processor: reads its stream, calls its function, and writes what it gives, exactly once."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from headrace.bus.consumer import BatchConsumer
from headrace.bus.kafka_clients import admin
from headrace.bus.message import problem
from headrace.bus.producer import ProducerRecord, record_of
from headrace.bus.source_partition import SourcePartition
from headrace.bus.topics import incarnations, retained_offsets
from headrace.errors import BusUnavailableError, FeaturesUnknownError, RefusedError, TerminalError, TransientError
from headrace.streams.plane.rejected_copies import letter_id
from headrace.streams.processors.input_batch import InputReader
from headrace.streams.processors.output_transactions import OutputTransactions
from headrace.streams.processors.processor_metrics import ProcessorMetrics

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from confluent_kafka import Message
    from confluent_kafka.admin import AdminClient

    from headrace.bus.event import Event
    from headrace.bus.formats.record_format import RecordWriter
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.streams.processors.event_features import EventFeatures
    from headrace.streams.processors.input_batch import InputBatch
    from headrace.streams.processors.logged_input import LoggedInput
    from headrace.streams.processors.processor import Processor

    Duplicates = Callable[[Sequence[Message]], Collection[tuple[int, int]]]

REASON = "processor"
"""The header ``headrace_reason`` of the dead letters of a processor."""
_POLL_S, _ASK_S = 0.5, 5.0
logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ProcessorOptions:
    """Where a processor runs. ``batch_rows``: the most records of a call. ``duplicates`` makes what finds duplicates.

    ``transactional_id`` is stable for one place in which it runs, and no other place has it at the same time.
    ``enriched`` makes what gives the events of records in place of the function, from the id of the source's topic.
    """

    servers: str
    group: str
    transactional_id: str
    batch_rows: int = 5_000
    schemas: SchemaStore | None = None
    duplicates: Callable[[], Duplicates] | None = None
    enriched: Callable[[bytes], EventFeatures] | None = None


@dataclass
class _BatchOutcome:
    """What a batch gives: records to write, how many of its events failed, and the events by topic."""

    records: list[ProducerRecord] = field(default_factory=list)
    failed: int = 0
    produced: Counter[str] = field(default_factory=Counter)


class ProcessorRun:
    """Runs a processor. Each :meth:`look` takes one batch. For one thread at a time.

    What the function gives, the dead letters and the offsets are in one transaction: so each is there once, whenever
    the process is killed. The function itself may be called more than once for an event.
    """

    def __init__(
        self, processor: Processor, options: ProcessorOptions, metrics: ProcessorMetrics | None = None
    ) -> None:
        self._processor, self._options = processor, options
        self._metrics = metrics or ProcessorMetrics([processor])
        self._writers: dict[str, RecordWriter] = {
            stream.topic: stream.format.writer(stream.topic, stream.event, options.schemas) for stream in processor.into
        }
        self._consumer: BatchConsumer | None = None
        self._transactions: OutputTransactions | None = None
        self._admin: AdminClient | None = None
        self._reader: InputReader | None = None
        self._source_id = b""
        self._features: EventFeatures | None = None
        self._next: dict[tuple[str, int], int] = {}  # the offset of each partition that is committed next
        self._asked_s = 0.0

    def look(self, stopping: threading.Event) -> None:
        """Process the next records.

        Raises BusUnavailableError, FencedError, RefusedError if Kafka's user may not write,
        SchemaRegistryUnavailableError, and each TransientError of the function: then the records are read again.
        """
        messages: Sequence[Message] | None = None
        is_done = False
        try:
            consumer = self._joined()
            polled = consumer.poll(self._options.batch_rows, _POLL_S)
            self._check(consumer)
            messages = owned_records(polled, self._next)
            ends = _ends(messages) | self._ends_of_transactions(consumer, messages)
            if messages:
                self._process(messages, ends)
            elif ends:
                self._write(_BatchOutcome(), ends, 0)
            self._report(consumer)
            is_done = True
        finally:
            if not is_done:
                self._metrics.given_up(self._processor.name)
            if stopping.is_set() or not (is_done or self._is_rewound(messages)):
                self.close()

    def _is_rewound(self, messages: Sequence[Message] | None) -> bool:
        """Go back to what is committed. Return False if that has to be asked for."""
        if self._consumer is None or self._transactions is None or self._transactions.is_open or messages is None:
            return False
        self._reader = self._new_reader()
        return all(place in self._next and self._consumer.seek(*place, self._next[place]) for place in _ends(messages))

    def close(self) -> None:
        """Leave the group, so that another process can go on at once. What is not committed is read again."""
        consumer, self._consumer = self._consumer, None
        if self._transactions is not None and self._transactions.is_open:
            self._transactions = None
        if consumer is not None:
            consumer.close()

    # -- reading ----------------------------------------------------------------------------------------------------

    def replay(self, read: Callable[[bytes, Mapping[int, int]], LoggedInput]) -> Iterator[tuple[int, int]]:
        """Process the history that ``read`` returns for the id of the topic and the committed offsets.

        Yields how many events are done, and how many there are, after each transaction. Nothing else may run this
        processor meanwhile. Raises what :meth:`look` raises, and OfflineStoreUnavailableError; begun again, it goes on.
        """
        consumer, topic = self._connected(), self._processor.source.topic
        partitions = range(incarnations(admin(self._options.servers), [topic])[topic].partitions)
        known = {partition: consumer.committed(topic, partition) or 0 for partition in partitions}
        logged, done = read(self._source_id, known), 0
        yield done, logged.count
        for batch, ends in logged.batches(self._options.batch_rows):
            self._take(batch, ends)
            done += len(batch.messages)
            yield done, logged.count

    def _joined(self) -> BatchConsumer:
        is_new = self._consumer is None
        consumer = self._connected()
        if is_new:
            consumer.subscribe([self._processor.source.topic], self)
        return consumer

    def _connected(self) -> BatchConsumer:
        options, topic = self._options, self._processor.source.topic
        if self._transactions is None:  # this ends what an attempt has left, before its offsets are read
            self._transactions = OutputTransactions(options.servers, options.transactional_id)
        if self._consumer is None:
            self._admin, self._next = admin(options.servers), {}
            self._source_id = incarnations(self._admin, [topic])[topic].topic_id
            self._reader = self._new_reader()
            self._features = None if options.enriched is None else options.enriched(self._source_id)
            self._consumer = BatchConsumer(options.servers, options.group)
        return self._consumer

    def _new_reader(self) -> InputReader:
        options = self._options
        duplicates = options.duplicates() if options.duplicates is not None else None
        return InputReader(self._processor, self._source_id, options.schemas, duplicates)

    def assigned(self, topic: str, partition: int) -> int:
        """Return the offset from which a partition is read: the committed one, or the first that there is."""
        assert self._consumer is not None  # noqa: S101 - it calls this method
        assert self._admin is not None  # noqa: S101
        held = retained_offsets(self._admin, topic, partition)
        known = self._consumer.committed(topic, partition)
        place = {"processor": self._processor.name, "topic": topic, "partition": partition}
        self._reader = self._new_reader()  # its memory of duplicates ends where this process stopped to read
        if known is not None and held.begins <= known <= held.ends:
            self._next[topic, partition] = known
            return known
        if known is None:
            logger.info("a partition is read from its beginning", **place, offset=held.begins)
        else:
            logger.error("records were deleted before they were read, or the topic was made anew: it is read from its "
                         "beginning", **place, committed=known, begins=held.begins, ends=held.ends)  # fmt: skip
        self._next[topic, partition] = held.begins
        return held.begins

    def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Nothing is under way between two looks."""
        self.lost(partitions)

    def lost(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Nothing is under way between two looks."""
        for place in partitions:
            self._next.pop(place, None)

    def _check(self, consumer: BatchConsumer) -> None:
        topic = self._processor.source.topic
        said = consumer.refusal() or next(iter(consumer.failures().values()), "")
        if said:
            raise BusUnavailableError(f"processor {self._processor.name!r}: {topic!r} cannot be read: {said}")
        now_s = time.monotonic()
        if now_s - self._asked_s >= _ASK_S:  # a Kafka that is away is silent
            self._asked_s = now_s
            assert self._admin is not None  # noqa: S101 - made before the consumer
            incarnation = incarnations(self._admin, [topic])[topic]
            if incarnation.topic_id != self._source_id:
                raise BusUnavailableError(f"processor {self._processor.name!r}: the topic {topic!r} was made anew")

    def _report(self, consumer: BatchConsumer) -> None:
        ends = consumer.ends()
        behind = sum(max(end - self._next.get(place, end), 0) for place, end in ends.items())
        self._metrics.behind(self._processor.name, behind)

    def _ends_of_transactions(self, consumer: BatchConsumer, messages: Sequence[Message]) -> dict[tuple[str, int], int]:
        """Return the ends of partitions that lie beyond the last record, behind the ends of transactions.

        They are committed: if Kafka deletes all that is below one of them, it deletes nothing that was not read.
        """
        ends = self._next | _ends(messages)
        return {place: end for place, end in consumer.reached().items() if end > ends.get(place, end)}

    # -- processing -------------------------------------------------------------------------------------------------

    def _process(self, messages: Sequence[Message], ends: Mapping[tuple[str, int], int]) -> None:
        assert self._reader is not None  # noqa: S101 - made before the consumer
        batch = self._reader.read(messages)
        self._metrics.left(self._processor.name, len(messages) - len(batch.messages))
        self._take(batch, ends)

    def _take(self, batch: InputBatch, ends: Mapping[tuple[str, int], int]) -> None:
        """Process a batch in one transaction. If the broker refuses a record, each half has one of its own."""
        outcome, count = self._outcome(batch), len(batch.messages)
        try:
            self._write(outcome, ends, count)
        except RefusedError as error:
            if error.lacks_right or not count:
                raise
            if count == 1:
                self._give_up(batch, str(error), ends)
                return
            half = count // 2
            self._take(batch.part(0, half), _ends(batch.messages[:half]))
            self._take(batch.part(half, count), ends)

    def _write(self, outcome: _BatchOutcome, ends: Mapping[tuple[str, int], int], count: int) -> None:
        assert self._transactions is not None  # noqa: S101 - made before the consumer
        assert self._consumer is not None  # noqa: S101
        self._transactions.write(outcome.records, self._consumer, ends)
        self._next |= ends
        self._metrics.committed(self._processor.name, count, outcome.failed, outcome.produced)

    def _give_up(self, batch: InputBatch, reason: str, ends: Mapping[tuple[str, int], int]) -> None:
        """Make a dead letter of the one event whose output is refused. One that is too large has no value."""
        letter = self._letter(batch.messages[0], reason)
        try:
            self._write(_BatchOutcome([letter], failed=1), ends, 1)
        except RefusedError as error:
            if error.lacks_right:
                raise
            self._write(_BatchOutcome([ProducerRecord(letter.topic, None, None, letter.more)], failed=1), ends, 1)

    def _outcome(self, batch: InputBatch) -> _BatchOutcome:
        """Return what the function gives for a batch; if it raises, for each event by itself."""
        outcome = _BatchOutcome()
        if not batch.messages:
            return outcome
        events = batch.events()  # if they cannot be read, the function is not to blame
        try:
            self._call(batch, events, outcome)
        except (MemoryError, TransientError, FeaturesUnknownError):  # the events are not to blame
            raise
        except (Exception, SystemExit) as error:
            if self._features is not None and not isinstance(error, TerminalError):  # no code of the user
                raise
            if len(batch.messages) == 1:
                self._fail(batch.messages[0], error, outcome)
                return outcome
        else:
            return outcome
        for number in range(len(batch.messages)):
            one = self._outcome(batch.part(number, number + 1))
            outcome.records += one.records
            outcome.failed += one.failed
            outcome.produced.update(one.produced)
        return outcome

    def _call(self, batch: InputBatch, events: Any, outcome: _BatchOutcome) -> None:
        found: Iterable[tuple[Stream, Event, datetime | None]]
        if self._features is None:
            found = ((stream, event, batch.at) for stream, event in self._processor.outputs(events))
        else:
            found = self._features.outputs(batch.messages, events)
        written = [  # one after the other: a function may change an event that it has yielded, and yield it again
            (stream.topic, record_of(stream, event, self._writers[stream.topic], at)) for stream, event, at in found
        ]
        outcome.records = [record for _, record in written]
        outcome.produced = Counter(topic for topic, _ in written)

    def _fail(self, message: Message, error: BaseException, outcome: _BatchOutcome) -> None:
        said = f"{type(error).__name__}: {problem(error)}" if isinstance(error, Exception) else repr(error)
        if not outcome.failed:
            logger.warning("the function failed for an event, which becomes a dead letter", error=said,
                           processor=self._processor.name, partition=message.partition(), offset=message.offset(),
                           topic=self._processor.dead_letters)  # fmt: skip
        outcome.records, outcome.failed = [self._letter(message, said)], 1

    def _letter(self, message: Message, reason: str) -> ProducerRecord:
        source = SourcePartition(message.partition() or 0, self._source_id)
        texts = {"headrace_id": letter_id(source, message.offset() or 0), "headrace_reason": REASON}
        headers = [(name, text.encode()) for name, text in {**texts, "headrace_error": reason}.items()]
        return ProducerRecord(self._processor.dead_letters, message.key(), message.value(), {"headers": headers})


def owned_records(messages: Sequence[Message], begins: Mapping[tuple[str, int], int]) -> list[Message]:
    """Return the records of the partitions in ``begins``, from these offsets on, each once.

    A partition may change hands within a poll, when its first records are in the caller's hands already. Kafka does not
    refuse their offsets: it knows members of a group, not who has which partition.
    """
    found, expected = [], dict(begins)
    for message in messages:
        place, offset = (str(message.topic()), message.partition() or 0), message.offset() or 0
        if place in expected and offset >= expected[place]:
            expected[place] = offset + 1
            found.append(message)
    return found


def _ends(messages: Sequence[Message]) -> dict[tuple[str, int], int]:
    """Return the offset behind the last record of each partition."""
    return {(str(each.topic()), each.partition() or 0): (each.offset() or 0) + 1 for each in messages}
