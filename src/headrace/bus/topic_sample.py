"""The newest records of a topic, for a person who wants to see what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.bus import kafka_clients
from headrace.bus.missing_rights import missing_right
from headrace.bus.topics import incarnations, retained_offsets
from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from confluent_kafka import Message

_TIMEOUT_S = 10.0


def newest_records(bootstrap_servers: str, topic: str, most: int) -> list[Message]:
    """Return about the newest ``most`` records of a topic, equally many of each partition, oldest first.

    Raises BusUnavailableError, also as TopicUnknownError.
    """
    from confluent_kafka import TopicPartition  # noqa: PLC0415 - only who samples needs it

    client = kafka_clients.admin(bootstrap_servers)
    count = incarnations(client, [topic])[topic].partitions
    found = {partition: retained_offsets(client, topic, partition) for partition in range(count)}
    share = max(1, -(-most // count))
    starts = {place: max(held.begins, held.ends - share) for place, held in found.items() if held.ends > held.begins}
    if not starts:
        return []
    consumer = kafka_clients.reader(bootstrap_servers, "sample", {"enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
        return _until_the_end(consumer, topic, len(starts))
    finally:
        consumer.close()


def _until_the_end(consumer: Any, topic: str, partitions: int) -> list[Message]:
    from confluent_kafka import KafkaError  # noqa: PLC0415

    found: list[Message] = []
    left = partitions
    while left:
        messages = consumer.consume(1, _TIMEOUT_S) + consumer.consume(1_000, 0)
        if not messages:
            raise BusUnavailableError(f"topic {topic!r} cannot be read to its end: try again")
        for message in messages:
            if message.error() is None:
                found.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                left -= 1
            else:
                said = message.error().str() + missing_right(message.error(), "Read", topic)
                raise BusUnavailableError(f"topic {topic!r} cannot be read: {said}")
    return found
