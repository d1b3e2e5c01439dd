"""The log of model events on Kafka, by confluent-kafka: assigned, never subscribed, so no group and no rebalance."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType

from headrace.base.times import SECOND, duration_us
from headrace.bus import kafka_clients
from headrace.bus.missing_rights import missing_right
from headrace.bus.topics import FOR_EVER
from headrace.bus.unreadable_records import UNREADABLE, place_of
from headrace.bus.watermarks import Watermarks
from headrace.errors import BusUnavailableError, CodecError, DefinitionError
from headrace.models.model_event_log import ModelLogEntry, entry
from headrace.models.model_events import Acknowledgement, ModelEvent, encode, encode_acknowledgement, record_of
from headrace.models.publication_signing import SIGNATURE, UNSIGNED

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer, Message
    from confluent_kafka.admin import AdminClient

    from headrace.base.times import Duration
    from headrace.bus.tail import TopicTail
    from headrace.models.publication_signing import PublicationSigning

_BATCH = 500
_NOT_YET = frozenset(
    {
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - librdkafka's names for them
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
    }
)


def ensure_topic(bootstrap_servers: str, topic: str, *, timeout_s: float = 30.0) -> None:
    """Create the topic with one partition, kept for ever, unless it exists. An existing one needs no right to make it.

    Raises DefinitionError for an existing topic that has more partitions or deletes records, and BusUnavailableError if
    there is no broker.
    """
    admin = kafka_clients.admin(bootstrap_servers)
    try:
        if topic not in admin.list_topics(timeout=timeout_s).topics and _is_created(admin, topic, timeout_s):
            return
    except (KafkaException, TimeoutError) as error:
        why = missing_right(error, "Create (or Describe, if it exists)", topic)
        raise _unavailable(f"create topic {topic!r}", bootstrap_servers, error, why) from error
    try:
        _check_topic(admin, topic, timeout_s)
    except (KafkaException, TimeoutError) as error:
        why = missing_right(error, "DescribeConfigs", topic)
        raise _unavailable(f"read the configuration of topic {topic!r}", bootstrap_servers, error, why) from error


def _is_created(admin: AdminClient, topic: str, timeout_s: float) -> bool:
    """Create the topic. Return False if it exists."""
    new = NewTopic(topic, num_partitions=1, config=FOR_EVER)
    try:
        admin.create_topics([new], operation_timeout=timeout_s, request_timeout=timeout_s)[topic].result(timeout_s)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
        return False
    return True


def _check_topic(admin: AdminClient, topic: str, timeout_s: float) -> None:
    partitions = len(admin.list_topics(topic, timeout=timeout_s).topics[topic].partitions)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    config = admin.describe_configs([resource])[resource].result(timeout_s)
    found = {name: config[name].value for name in FOR_EVER}
    if partitions != 1 or found != FOR_EVER:
        message = (
            f"topic {topic!r} has {partitions} partitions and {found}; the log of model events needs one order and is "
            f"never forgotten: 1 partition and {FOR_EVER}. Alter its configuration, or name another topic"
        )
        raise DefinitionError(message)


class KafkaModelEventLog:
    """Appends with an idempotent producer, reads partition 0 to its end. One thread may read while others append.

    ``topic`` is the ``models`` of a namespace's control topics.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        *,
        signing: PublicationSigning = UNSIGNED,
        timeout: Duration = "30s",
    ) -> None:
        self._servers = bootstrap_servers
        self._signing = signing
        self._topic = topic
        self._timeout_s = duration_us(timeout) / SECOND
        self._writer = _SingleRecordProducer(bootstrap_servers, topic, self._timeout_s)
        self._reading = threading.Lock()
        self._consumer: Consumer | None = None
        self._watermarks = Watermarks(bootstrap_servers)
        self._position: int | None = None
        self.signed_keys: set[bytes] = set()
        """The keys of the records that were read and have a signature, valid or not. A key is the name of a model."""

    def append(self, event: ModelEvent) -> int:
        """Produce the event and wait for the broker."""
        record = self._signing.signed(encode(event))
        return self._writer.write(record.key, record.value, record.headers)

    def read(self, start: int = 0, *, wait: Duration = "0s") -> list[ModelLogEntry]:
        """The entries from ``start`` to the high watermark."""
        wait_s = duration_us(wait) / SECOND
        with self._reading:
            consumer = self._assigned(start)
            try:
                end = self._watermarks.offsets(self._topic, 0, self._timeout_s)[1]
                entries = (self._until(consumer, end) if end > start else []) or self._next(consumer, wait_s)
            except KafkaException as error:
                self._position = None
                why = missing_right(error, "Read", self._topic)
                raise _unavailable(f"read topic {self._topic!r}", self._servers, error, why) from error
            self._position = max([start, end, *(e.offset + 1 for e in entries)])
            return entries

    def close(self) -> None:
        """Close the consumer and flush the producer."""
        self._writer.flush()
        with self._reading:
            if self._consumer is not None:
                self._consumer.close()
            self._consumer, self._position = None, None
            self._watermarks.close()

    def _assigned(self, start: int) -> Consumer:
        if self._consumer is None:
            options = {"enable.partition.eof": True, "fetch.wait.max.ms": 100}
            self._consumer = kafka_clients.reader(self._servers, "models", options)
        if self._position != start:
            self._consumer.assign([TopicPartition(self._topic, 0, start)])
        return self._consumer

    def _until(self, consumer: Consumer, end: int) -> list[ModelLogEntry]:
        """Return all entries below ``end``.

        Transaction markers have offsets too, so the end is known by its EOF or by a later record.
        """
        entries: list[ModelLogEntry] = []
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            messages = consumer.consume(1, 1.0) + consumer.consume(_BATCH, 0)
            found = [(self._entry(message), message.offset() or 0) for message in messages]
            entries += [e for e, _ in found if e is not None]
            if any(offset >= end - (e is not None) for e, offset in found):
                return entries
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - librdkafka's name for it

    def _next(self, consumer: Consumer, wait_s: float) -> list[ModelLogEntry]:
        deadline = time.monotonic() + wait_s
        while True:
            left = max(0.0, deadline - time.monotonic())
            found = [self._entry(message) for message in consumer.consume(1, left) + consumer.consume(_BATCH, 0)]
            entries = [e for e in found if e is not None]
            if entries or time.monotonic() >= deadline:
                return entries

    def _entry(self, message: Any) -> ModelLogEntry | None:
        """Return the entry of a message; None for an end of partition, or an unknown one. Raises KafkaException."""
        error = message.error()
        if error is not None:
            if error.code() in _NOT_YET or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                return None
            raise KafkaException(error)
        return self._of_message(message)

    def _of_message(self, message: Message) -> ModelLogEntry:
        """Return the entry of a record, readable or not."""
        place = place_of(message)
        try:
            record = record_of(message)
            if SIGNATURE in record.headers:
                self.signed_keys.add(record.key)
            found = entry(place.offset, record, self._signing)
        except CodecError as error:
            found = ModelLogEntry(place.offset, None, str(error))
        if found.event is None:
            UNREADABLE.skip(place, CodecError(found.error))
        return found


class SignedTail:
    """Follows topics as ``tail`` does. On ``signed``, the topic of model events, it leaves out what is not signed."""

    def __init__(self, tail: TopicTail, signing: PublicationSigning, signed: str) -> None:
        self._tail, self._signing, self._signed = tail, signing, signed

    def poll(self, timeout_s: float) -> list[Message]:
        """Return the messages that have come."""
        return [message for message in self._tail.poll(timeout_s) if self._counts(message)]

    def drain(self) -> list[Message]:
        """Return all messages up to the present end."""
        return [message for message in self._tail.drain() if self._counts(message)]

    def _counts(self, message: Message) -> bool:
        if message.topic() != self._signed:
            return True
        try:
            self._signing.check(message.offset() or 0, record_of(message))
        except CodecError as error:
            UNREADABLE.skip(place_of(message), error)
            return False
        return True


class KafkaAcknowledgements:
    """Acknowledgements on their topic, keyed by model."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        *,
        timeout: Duration = "30s",
    ) -> None:
        self._writer = _SingleRecordProducer(bootstrap_servers, topic, duration_us(timeout) / SECOND)

    def send(self, message: Acknowledgement) -> None:
        """Produce it and wait for the broker."""
        self._writer.write(message.model.encode(), encode_acknowledgement(message), {})


class _SingleRecordProducer:
    """A synchronous, idempotent producer of single records."""

    def __init__(self, bootstrap_servers: str, topic: str, timeout_s: float) -> None:
        self._servers = bootstrap_servers
        self._topic = topic
        self._timeout_s = timeout_s
        self._producer = kafka_clients.producer(
            bootstrap_servers,
            {
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.timeout.ms": int(timeout_s * 1000),
            },
        )

    def write(self, key: bytes, value: bytes, headers: dict[str, bytes]) -> int:
        """Return the offset of the record, once it is durable."""
        done: list[tuple[Any, Any]] = []
        self._producer.produce(self._topic, value, key, headers=list(headers.items()), on_delivery=_into(done))
        self._producer.flush(self._timeout_s + 1)
        error, message = done[0] if done else (KafkaError(KafkaError._TIMED_OUT), None)  # noqa: SLF001
        if error is not None:
            why = missing_right(error, "Write", self._topic)
            raise _unavailable(f"write to topic {self._topic!r}", self._servers, error, why)
        return int(message.offset()) if message is not None else -1

    def flush(self) -> None:
        self._producer.flush(self._timeout_s)


def _into(done: list[tuple[Any, Any]]) -> Callable[[Any, Any], None]:
    return lambda error, message: done.append((error, message))


def _unavailable(what: str, servers: str, error: object, missing: str = "") -> BusUnavailableError:
    said = str(error) or "no answer in time"
    why = missing or f"; {kafka_clients.refusal(servers) or 'is the broker up and the address right?'}"
    return BusUnavailableError(f"could not {what} on {servers}: {said}{why}")
