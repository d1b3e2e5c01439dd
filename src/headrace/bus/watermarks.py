"""Where partitions begin and end, asked on a connection of its own.

A broker answers a connection's requests in order, so one that waits for records to fetch holds up whatever is asked
behind it: up to the fetch's whole wait.
"""

from __future__ import annotations

_TIMEOUT_S = 10.0


class Watermarks:
    """Asks for the offsets of any partitions."""

    def __init__(self, bootstrap_servers: str) -> None:
        from confluent_kafka import Consumer  # noqa: PLC0415 - keeps `import headrace.serving` light

        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "log_level": 2,  # connections come and go: what matters is raised or returned
                "group.id": "headrace-watermarks",  # never joined: nothing is ever fetched
            }
        )

    def of(self, topic: str, partition: int, timeout_s: float = _TIMEOUT_S) -> tuple[int, int]:
        """The oldest offset still there and the next one to be written. Raises KafkaException."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415

        return self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout_s)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()
