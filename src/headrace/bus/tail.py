"""Reads a low-rate topic from its beginning or its end, without a group: for control-plane messages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headrace.bus import kafka_clients
from headrace.bus.consumer import READING_ENDS
from headrace.bus.missing_rights import missing_right
from headrace.bus.watermarks import Watermarks
from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message

_TIMEOUT_S = 10.0
_NEW_TOPIC_S = 5.0


class TopicTail:
    """Follows all partitions of some topics. ``from_beginning=False`` begins with the next record that is produced.

    Raises BusUnavailableError if a topic does not exist. Without this error it would wait for records without end.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topics: Sequence[str],
        *,
        from_beginning: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition  # noqa: PLC0415

        self._servers, self._monotonic = bootstrap_servers, monotonic
        at_once = {"fetch.wait.max.ms": 100}  # answered at once when there is something
        self._consumer = kafka_clients.reader(bootstrap_servers, "tail", at_once)
        self._watermarks = Watermarks(bootstrap_servers, monotonic)
        self._drained: list[Message] = []  # kept when the next request fails
        self._starts: dict[tuple[str, int], int] = {}  # the position of a partition before its first record
        self._ends = {getattr(KafkaError, name) for name in READING_ENDS}
        self.failure: str | None = None
        """The error after which Kafka's client has stopped to read a partition, if there is one."""
        try:
            places = [TopicPartition(topic, number) for topic in topics for number in self._partitions(topic)]
            for place in places:
                low, high = self._watermarks.offsets(place.topic, place.partition)
                start = self._starts[place.topic, place.partition] = low if from_beginning else high
                place.offset = OFFSET_BEGINNING if from_beginning and low == 0 else start
            self._consumer.assign(places)
        except KafkaException as error:
            self._consumer.poll(0)  # it hears why; nothing is assigned
            why = kafka_clients.refusal(bootstrap_servers) or error
            message = f"topics {list(topics)} at {bootstrap_servers} cannot be read: {why}"
            raise BusUnavailableError(message) from error

    def _partitions(self, topic: str) -> list[int]:
        """Return the topic's partitions. A topic that was just made may be unknown for a moment.

        Raises BusUnavailableError.
        """
        deadline = self._monotonic() + _NEW_TOPIC_S
        while not (found := self._consumer.list_topics(topic, _TIMEOUT_S).topics[topic]).partitions:
            if why := missing_right(found.error, "Describe", topic):
                raise BusUnavailableError(f"topic {topic!r} at {self._servers} cannot be read{why}")
            if self._monotonic() > deadline:
                raise BusUnavailableError(f"there is no topic {topic!r} at {self._servers}: has a worker been started?")
            time.sleep(0.05)
        return list(found.partitions)

    def poll(self, timeout_s: float) -> list[Message]:
        """Return the records that have come: at once if there are any, else after the timeout at the latest."""
        messages = self._consumer.consume(1, timeout_s)
        if messages:
            messages += self._consumer.consume(1_000, 0)
        return [message for message in messages if self._is_record(message)]

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is not None and error.code() in self._ends:
            self.failure = error.str() + missing_right(error, "Read", message.topic() or "")
        return error is None

    def drain(self) -> list[Message]:
        """Return all records up to the present end of the topics.

        Raises BusUnavailableError; then the next call returns them all. After a :attr:`failure` that is for ever: open
        the topics again.
        """
        while self._behind():
            if self.failure is not None:
                raise BusUnavailableError(f"the topics at {self._servers} cannot be read any further: {self.failure}")
            self._drained += self.poll(0.05)
        found, self._drained = self._drained, []
        return found

    def _behind(self) -> bool:
        from confluent_kafka import KafkaException  # noqa: PLC0415

        try:
            return self._reads_on()
        except KafkaException as error:
            raise BusUnavailableError(f"the ends of the topics at {self._servers} are not known: {error}") from error

    def _reads_on(self) -> bool:
        for place in self._consumer.position(self._consumer.assignment()):
            low, high = self._watermarks.offsets(place.topic, place.partition)
            at = place.offset if place.offset >= 0 else max(low, self._starts[place.topic, place.partition])
            if at < high:
                return True
        return False

    def end(self, topic: str, partition: int) -> int:
        """Return the high watermark of any partition."""
        return self._watermarks.offsets(topic, partition)[1]

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
        self._watermarks.close()
