"""The log of exclusions on Kafka: one partition, kept for ever."""

from __future__ import annotations

import msgspec

from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import EXCLUSIONS, FOR_EVER, TopicPlan, ensure_topics
from headrace.trainers.exclusions import Change, Excluded, decode, fold


class KafkaExclusions:
    """Reads the topic's rest with each look. Not for several threads at once."""

    def __init__(self, bootstrap_servers: str, topic: str = EXCLUSIONS) -> None:
        """Make the topic if it is not there. Raises BusUnavailableError."""
        self._servers = bootstrap_servers
        self._topic = topic
        ensure_topics(bootstrap_servers, [TopicPlan(topic, 1, FOR_EVER)])
        self._tail = TopicTail(bootstrap_servers, [topic], from_beginning=True)
        self._records: list[bytes | None] = []  # all of them, as one that cannot be read must be met again

    def append(self, change: Change) -> None:
        """Produce it and wait for the broker."""
        producer = EventProducer(self._servers)
        producer.put(self._topic, None, msgspec.json.encode(change))
        producer.flush()

    def in_force(self) -> dict[str, Excluded]:
        """The fold of the topic up to its present end."""
        self._records += [message.value() for message in self._tail.drain()]
        return fold([decode(record) for record in self._records])

    def close(self) -> None:
        """Let go of the connection."""
        self._tail.close()
