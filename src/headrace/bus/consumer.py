"""A batch consumer: whole batches at once, explicit offsets at each assignment, nothing reset silently."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from headrace.bus import kafka_clients
from headrace.bus.client_errors import ClientErrors
from headrace.bus.missing_rights import missing_right
from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Consumer, Message, Producer, TopicPartition

READING_ENDS = (
    "_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION",
    "UNKNOWN_TOPIC_ID", "INCONSISTENT_TOPIC_ID", "TOPIC_AUTHORIZATION_FAILED",
)  # fmt: skip
"""After one of these errors Kafka's client stops to fetch the partition. After any other it tries again by itself."""
_NEW_PROTOCOL = {"group.protocol": "consumer"}
_CLASSIC_PROTOCOL = {"group.protocol": "classic", "partition.assignment.strategy": "cooperative-sticky"}
_UNKNOWN_PROTOCOL = "ConsumerGroupHeartbeat"
"""It is in the fatal error of a client whose broker does not know the new protocol."""
logger = structlog.get_logger(__name__)


class RebalanceListener(Protocol):
    """Takes over partitions and gives them back. Each method is called from within :meth:`BatchConsumer.poll`."""

    def assigned(self, topic: str, partition: int) -> int | None:
        """Take over a partition that the group assigns. Return the offset to read from, or None not to read it."""
        ...

    def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Finish with partitions that the group takes back. After the return another member has them."""
        ...

    def lost(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Forget at once these partitions, which another member may already have."""
        ...


class BatchConsumer:
    """Consumes topics as a member of a group. Auto-commit and auto-reset are off.

    A partition that the group assigns is read if the listener of :meth:`subscribe` returns an offset for it. The owner
    may :meth:`release` and :meth:`resume` an assigned partition at any time.

    It joins by the group protocol of Kafka 4 (KIP-848), in which a partition changes hands without a stop of the
    others. If the broker does not know that protocol, it joins by the classic one.
    """

    def __init__(self, bootstrap_servers: str, group: str, *, fetch_wait_ms: int = 100) -> None:
        from confluent_kafka import KafkaError, Message  # noqa: PLC0415 - keeps `import headrace.serving` light

        self._ends = {getattr(KafkaError, name) for name in READING_ENDS}
        self._end = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name
        self._error = Message.error
        self._errors = ClientErrors()
        self._failures: dict[tuple[str, int], str] = {}
        self._reached: dict[tuple[str, int], int] = {}
        self._moved: set[tuple[str, int]] = set()  # partitions that changed hands within the poll under way
        self._refused = ""
        self._servers = bootstrap_servers
        self._subscription: tuple[list[str], RebalanceListener] | None = None
        self._options = {
            "group.id": group,
            "auto.offset.reset": "error",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "max.poll.interval.ms": 86_400_000,  # a worker that waits for a store keeps its partitions
            "enable.partition.eof": True,  # the only word about a transaction's end, which is no record
            "fetch.wait.max.ms": fetch_wait_ms,
            "fetch.message.max.bytes": 4 << 20,  # long runs of one partition: fewer entities a batch
            "fetch.queue.backoff.ms": 10,  # how long a full queue stops a partition's fetches: else a second
            "error_cb": self._errors,
        }
        self._consumer = kafka_clients.consumer(bootstrap_servers, self._options | _NEW_PROTOCOL)

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """Join the group for these topics. The first polls call the listener with the partitions that it assigns."""
        self._subscription = list(topics), listener
        self._consumer.subscribe(
            list(topics),
            on_assign=partial(self._on_assign, listener),
            on_revoke=partial(self._on_revoke, listener),
            on_lost=partial(self._on_lost, listener),
        )

    def poll(self, count: int, timeout_s: float) -> list[Message]:
        """Return up to ``count`` records as soon as there is one; none after the timeout."""
        self._moved.clear()
        messages = self._consumer.consume(1, timeout_s)
        if messages:
            messages += self._consumer.consume(count - 1, 0)
        if any(map(self._error, messages)):
            messages = [message for message in messages if self._readable(message)]
        self._errors.polled(has_records=bool(messages))
        return messages

    def _readable(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == self._end:
            self._note_end(str(message.topic()), message.partition() or 0, message.offset() or 0)
            return False
        if error.name() == "_FATAL" and _UNKNOWN_PROTOCOL in error.str() and self._subscription is not None:
            self._join_by_classic_protocol(*self._subscription)
            return False
        topic, partition = message.topic(), message.partition()
        said = error.str() + missing_right(error, "Read", topic or str(self._options["group.id"]))
        logger.warning("kafka answered with an error", topic=topic, error=said)
        if topic is not None and partition is not None and error.code() in self._ends:
            self._failures[topic, partition] = said
        if topic is None and error.name() == "GROUP_AUTHORIZATION_FAILED":
            self._refused = said
        return False

    def _note_end(self, topic: str, partition: int, offset: int) -> None:
        if (topic, partition) not in self._moved:
            self._reached[topic, partition] = offset

    def reached(self) -> dict[tuple[str, int], int]:
        """Return the partitions of which polls since the last call have reached the end, and the offset of the end.

        Every record below it was returned by a poll. It may lie beyond the last record: a transaction's end and records
        that were given up have offsets, too.
        """
        reached, self._reached = self._reached, {}
        return reached

    def _join_by_classic_protocol(self, topics: list[str], listener: RebalanceListener) -> None:
        """Begin again. Nothing was assigned so far."""
        logger.info("the broker knows the classic group protocol only", group=self._options["group.id"])
        self._consumer.close()
        self._consumer = kafka_clients.consumer(self._servers, self._options | _CLASSIC_PROTOCOL)
        self.subscribe(topics, listener)

    def failures(self) -> dict[tuple[str, int], str]:
        """Return the partitions that Kafka's client has stopped to read since the last call, and why.

        It does not read on by itself, for example as the offset does not exist any more.
        """
        failures, self._failures = self._failures, {}
        return failures

    def refusal(self) -> str:
        """Return why Kafka does not let this client into its group; an empty text if it does, or is not known yet."""
        return self._refused

    def release(self, topic: str, partition: int) -> None:
        """Stop reading the partition; it stays assigned. Do not call this method from within a callback."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415

        self._drop(self._consumer, [TopicPartition(topic, partition)])

    def resume(self, topic: str, partition: int, offset: int) -> None:
        """Read an assigned partition from an offset on. Do not call it from within a callback."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415

        self._consumer.incremental_assign([TopicPartition(topic, partition, offset)])

    def commit(self, positions: Sequence[tuple[str, int, int]]) -> None:
        """Commit (topic, partition, next offset) without waiting. Only lag monitoring uses it."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415

        self._consumer.commit(offsets=[TopicPartition(*position) for position in positions], asynchronous=True)

    def committed(self, topic: str, partition: int, *, timeout_s: float = 10.0) -> int | None:
        """Return the offset that the group has committed; None if it has none. Raises BusUnavailableError."""
        from confluent_kafka import KafkaException, TopicPartition  # noqa: PLC0415

        try:
            (found,) = self._consumer.committed([TopicPartition(topic, partition)], timeout_s)
        except KafkaException as error:
            raise self._unanswered("cannot read", error) from error
        return found.offset if found.offset >= 0 else None

    def commit_now(self, positions: Sequence[tuple[str, int, int]]) -> None:
        """Commit (topic, partition, next offset), and wait until the group has it. Raises BusUnavailableError."""
        from confluent_kafka import KafkaException, TopicPartition  # noqa: PLC0415

        try:
            self._consumer.commit(offsets=[TopicPartition(*position) for position in positions], asynchronous=False)
        except KafkaException as error:
            raise self._unanswered("cannot commit", error) from error

    def send_offsets(self, producer: Producer, positions: Sequence[tuple[str, int, int]], timeout_s: float) -> None:
        """Commit (topic, partition, next offset) in the transaction of a producer. Raises KafkaException.

        Kafka refuses it if another member of the group has one of these partitions by now.
        """
        from confluent_kafka import TopicPartition  # noqa: PLC0415

        offsets = [TopicPartition(*position) for position in positions]
        producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), timeout_s)

    def _unanswered(self, what: str, error: Exception) -> BusUnavailableError:
        group = str(self._options["group.id"])
        said = f"{error.args[0].str()}{missing_right(error, 'Read', group)}"
        return BusUnavailableError(f"the group {group!r} {what} its offsets at {self._servers}: {said}")

    def ends(self) -> dict[tuple[str, int], int]:
        """Return the high watermarks of what is read, from Kafka's last answers. No request is sent."""
        known = {
            (place.topic, place.partition): self._consumer.get_watermark_offsets(place, cached=True)
            for place in self._consumer.assignment()
        }
        return {place: found[1] for place, found in known.items() if found[1] >= 0}

    def seek(self, topic: str, partition: int, offset: int) -> bool:
        """Read the partition from an offset on. Return False if Kafka does not fetch it yet.

        Do not call it from within a callback.
        """
        from confluent_kafka import KafkaException, TopicPartition  # noqa: PLC0415

        try:
            self._consumer.seek(TopicPartition(topic, partition, offset))
        except KafkaException as error:
            logger.warning("cannot seek", topic=topic, partition=partition, error=str(error))
            return False
        return True

    def close(self) -> None:
        """Give the partitions back and leave the group."""
        self._consumer.close()

    def _on_assign(self, listener: RebalanceListener, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        read = []
        self._move(partitions)
        for partition in partitions:
            offset = listener.assigned(partition.topic, partition.partition)
            if offset is not None:
                partition.offset = offset
                read.append(partition)
        consumer.incremental_assign(read)

    def _on_revoke(self, listener: RebalanceListener, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._move(partitions)
        listener.revoked([(p.topic, p.partition) for p in partitions])
        self._drop(consumer, partitions)

    def _on_lost(self, listener: RebalanceListener, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._move(partitions)
        listener.lost([(p.topic, p.partition) for p in partitions])
        self._drop(consumer, partitions)

    def _move(self, partitions: Sequence[TopicPartition]) -> None:
        """Forget the ends that belong to another time in which this member had the partitions."""
        places = {(p.topic, p.partition) for p in partitions}
        self._moved |= places
        self._reached = {place: offset for place, offset in self._reached.items() if place not in places}

    def _drop(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Stop reading these partitions. Partitions that are not read are ignored."""
        read = {(p.topic, p.partition) for p in consumer.assignment()}
        consumer.incremental_unassign([p for p in partitions if (p.topic, p.partition) in read])
