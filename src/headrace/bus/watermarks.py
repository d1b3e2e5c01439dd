"""Asks Kafka for the first and the last offset of partitions, on a connection of its own.

A broker answers the requests of one connection in order. So a fetch that waits for records holds up every later request
on its connection, for up to the fetch's whole wait.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headrace.bus import kafka_clients
from headrace.bus.missing_rights import missing_right

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer

_TIMEOUT_S = 10.0
_UNKNOWN_S = 5.0
_WAIT_S = 0.1


class Watermarks:
    """Asks Kafka for the first and last offsets of partitions."""

    def __init__(self, bootstrap_servers: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._servers, self._monotonic = bootstrap_servers, monotonic
        self._consumer = self._connected()

    def _connected(self) -> Consumer:
        never_joined = {"group.id": "headrace-watermarks"}  # nothing is ever fetched
        return kafka_clients.consumer(self._servers, never_joined)

    def offsets(self, topic: str, partition: int, timeout_s: float = _TIMEOUT_S) -> tuple[int, int]:
        """Return the oldest offset that exists, and the next one to be written. Raises KafkaException.

        It waits for a partition that was made just now and has no leader yet. A broker that has just started, or comes
        back from a pause, may not know its partitions for a moment, and a client that once heard that there is no such
        partition does not ask again for minutes. So new clients ask for 5 seconds before this is believed.
        """
        from confluent_kafka import KafkaError, KafkaException, TopicPartition  # noqa: PLC0415

        unknown = {KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART}  # noqa: SLF001
        no_leader = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
        began_s = self._monotonic()
        while True:
            try:
                return self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout_s)
            except KafkaException as error:
                code, waited_s = error.args[0].code(), self._monotonic() - began_s
                if code in unknown:
                    self._check_right(topic, timeout_s)
                if code in unknown and waited_s < min(_UNKNOWN_S, timeout_s):
                    self._consumer.close()
                    self._consumer = self._connected()
                elif code not in no_leader or waited_s >= timeout_s:
                    raise
            time.sleep(_WAIT_S)

    def _check_right(self, topic: str, timeout_s: float) -> None:
        """Raise KafkaException if Kafka's user may not know the topic: then its partitions are unknown too."""
        from confluent_kafka import KafkaException  # noqa: PLC0415

        error = self._consumer.list_topics(topic, timeout_s).topics[topic].error
        if missing_right(error, "Describe", topic):
            raise KafkaException(error)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
