"""A batch consumer: whole batches at once, explicit offsets at each assignment, nothing reset silently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

logger = structlog.get_logger(__name__)


class Assignee(Protocol):
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
        """The partition cannot be read on, for example as its offset is no longer there."""
        ...


class BatchConsumer:
    """Consumes the topics for one :class:`Assignee`. Auto-commit and auto-reset are off."""

    def __init__(
        self, bootstrap_servers: str, group: str, topics: Sequence[str], assignee: Assignee, *, fetch_wait_ms: int = 100
    ) -> None:
        from confluent_kafka import Consumer  # noqa: PLC0415 - keeps `import headrace.serving` light

        self._assignee = assignee
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
                "fetch.message.max.bytes": 4 << 20,
                "queued.min.messages": 200_000,
                "queued.max.messages.kbytes": 262_144,
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
        return [message for message in messages if self._readable(message)]

    def _readable(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if message.topic() is not None and message.partition() is not None:
            self._assignee.failed(str(message.topic()), int(message.partition()), error.str())  # type: ignore[arg-type]
        logger.warning("kafka answered with an error", topic=message.topic(), error=error.str())
        return False

    def low_watermark(self, topic: str, partition: int, *, timeout_s: float = 10.0) -> int:
        """The oldest offset that the partition still holds. Raises BusUnavailableError."""
        from confluent_kafka import KafkaException, TopicPartition  # noqa: PLC0415

        try:
            low, _ = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=timeout_s)
        except KafkaException as error:
            raise BusUnavailableError(f"the start of {topic}-{partition} is not known: {error}") from error
        return low

    def commit(self, positions: Sequence[tuple[str, int, int]]) -> None:
        """Commit (topic, partition, next offset), without waiting: for lag monitoring only."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415

        self._consumer.commit(offsets=[TopicPartition(*position) for position in positions], asynchronous=True)

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
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assignee.lost([(p.topic, p.partition) for p in partitions])
        consumer.incremental_unassign(partitions)


def _log_error(error: KafkaError) -> None:
    logger.warning("kafka client", error=error.str())
