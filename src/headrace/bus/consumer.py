"""A batch consumer: whole batches at once, explicit offsets at each assignment, nothing reset silently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

_ENDS = (
    "_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION",
    "UNKNOWN_TOPIC_ID", "INCONSISTENT_TOPIC_ID", "TOPIC_AUTHORIZATION_FAILED",
)  # fmt: skip
"""After one of these Kafka's client fetches the partition no more; after any other it tries again by itself."""
logger = structlog.get_logger(__name__)


class RebalanceListener(Protocol):
    """Who gets and gives partitions; called from within :meth:`BatchConsumer.poll`."""

    def assigned(self, topic: str, partition: int) -> int | None:
        """Take the partition; return the offset to read from, or None to leave it alone."""
        ...

    def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Finish with these partitions; they are another's after the return."""
        ...

    def lost(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Forget these partitions at once; they are another's already."""
        ...

    def failed(self, topic: str, partition: int, error: str) -> None:
        """The partition cannot be read on by itself, for example as its offset is no longer there."""
        ...


class BatchConsumer:
    """Consumes the topics for one :class:`RebalanceListener`. Auto-commit and auto-reset are off.

    Of the partitions that the group assigns, those are read that the assignee takes; it may :meth:`release` and
    :meth:`resume` each of them meanwhile.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        group: str,
        topics: Sequence[str],
        assignee: RebalanceListener,
        *,
        fetch_wait_ms: int = 100,
    ) -> None:
        from confluent_kafka import Consumer, KafkaError, Message  # noqa: PLC0415 - keeps `import headrace.serving` light

        self._ends = {getattr(KafkaError, name) for name in _ENDS}
        self._assignee, self._error = assignee, Message.error
        self._consumer: Consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "log_level": 2,  # connections come and go: what matters is raised or returned
                "group.id": group,
                "group.protocol": "consumer",
                "auto.offset.reset": "error",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "max.poll.interval.ms": 86_400_000,  # waiting for a store is no reason to lose the partitions
                "fetch.wait.max.ms": fetch_wait_ms,
                "fetch.message.max.bytes": 4 << 20,  # long runs of one partition: fewer entities a batch
                "fetch.queue.backoff.ms": 10,  # how long a full queue stops a partition's fetches: else a second
                "error_cb": _log_error,
            }
        )
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self, count: int, timeout_s: float) -> list[Message]:
        """Up to ``count`` records, at once as soon as there is one."""
        messages = self._consumer.consume(1, timeout_s)
        if messages:
            messages += self._consumer.consume(count - 1, 0)
        if not any(map(self._error, messages)):
            return messages
        return [message for message in messages if self._readable(message)]

    def _readable(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        logger.warning("kafka answered with an error", topic=message.topic(), error=error.str())
        topic, partition = message.topic(), message.partition()
        if topic is not None and partition is not None and error.code() in self._ends:
            self._assignee.failed(topic, partition, error.str())
        return False

    def release(self, topic: str, partition: int) -> None:
        """Read the partition no more; it stays assigned. Not from within a callback."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415

        self._drop(self._consumer, [TopicPartition(topic, partition)])

    def resume(self, topic: str, partition: int, offset: int) -> None:
        """Read an assigned partition that is not read, from there on. Not from within a callback."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415

        self._consumer.incremental_assign([TopicPartition(topic, partition, offset)])

    def commit(self, positions: Sequence[tuple[str, int, int]]) -> None:
        """Commit (topic, partition, next offset), without waiting: for lag monitoring only."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415

        self._consumer.commit(offsets=[TopicPartition(*position) for position in positions], asynchronous=True)

    def ends(self) -> dict[tuple[str, int], int]:
        """The high watermarks of what is read, as Kafka told them with its last answers; asks nobody."""
        known = {
            (place.topic, place.partition): self._consumer.get_watermark_offsets(place, cached=True)
            for place in self._consumer.assignment()
        }
        return {place: found[1] for place, found in known.items() if found[1] >= 0}

    def seek(self, topic: str, partition: int, offset: int) -> bool:
        """Read the partition from there on; False while Kafka does not fetch it. Not from within a callback."""
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

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        taken = []
        for partition in partitions:
            offset = self._assignee.assigned(partition.topic, partition.partition)
            if offset is not None:
                partition.offset = offset
                taken.append(partition)
        consumer.incremental_assign(taken)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assignee.revoked([(p.topic, p.partition) for p in partitions])
        self._drop(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assignee.lost([(p.topic, p.partition) for p in partitions])
        self._drop(consumer, partitions)

    def _drop(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Read them no more: those of them that are read."""
        read = {(p.topic, p.partition) for p in consumer.assignment()}
        consumer.incremental_unassign([p for p in partitions if (p.topic, p.partition) in read])


def _log_error(error: KafkaError) -> None:
    logger.warning("kafka client", error=error.str())
