"""The newest and the oldest records of a topic, for a person who wants to see what is there."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from headrace.bus import kafka_clients
from headrace.bus.missing_rights import missing_right
from headrace.bus.topics import incarnations, retained_offsets
from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message

    from headrace.bus.topics import RetainedOffsets

_TIMEOUT_S = 10.0


def newest_records(bootstrap_servers: str, topic: str, most: int) -> list[Message]:
    """Return about the newest ``most`` records of a topic, equally many of each partition, oldest first.

    Raises BusUnavailableError, also as TopicUnknownError.
    """
    found = _retained(bootstrap_servers, topic)
    share = max(1, -(-most // len(found)))
    starts = {place: max(held.begins, held.ends - share) for place, held in found.items() if held.ends > held.begins}
    if not starts:
        return []
    with closing(_reader(bootstrap_servers, topic, starts)) as reader:
        return _until_the_end(reader, topic, len(starts))


def oldest_records(bootstrap_servers: str, topic: str) -> list[Message]:
    """Return the oldest record that each partition of a topic still has. Raises what :func:`newest_records` raises."""
    found = _retained(bootstrap_servers, topic)
    starts = {place: held.begins for place, held in found.items() if held.ends > held.begins}
    return [_first(bootstrap_servers, topic, place, start) for place, start in starts.items()]


def _retained(bootstrap_servers: str, topic: str) -> dict[int, RetainedOffsets]:
    client = kafka_clients.admin(bootstrap_servers)
    count = incarnations(client, [topic])[topic].partitions
    return {partition: retained_offsets(client, topic, partition) for partition in range(count)}


def _reader(bootstrap_servers: str, topic: str, starts: Mapping[int, int]) -> Any:
    """Return a consumer that begins at these offsets of the partitions."""
    from confluent_kafka import TopicPartition  # noqa: PLC0415 - only who samples needs it

    reader = kafka_clients.reader(bootstrap_servers, "sample", {"enable.partition.eof": True})
    reader.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
    return reader


def _first(bootstrap_servers: str, topic: str, partition: int, start: int) -> Message:
    with closing(_reader(bootstrap_servers, topic, {partition: start})) as reader:
        found: list[Message] = reader.consume(1, _TIMEOUT_S)
    error = found[0].error() if found else None
    if not found or error is not None:
        said = "no answer" if error is None else error.str() + missing_right(error, "Read", topic)
        raise BusUnavailableError(f"topic {topic!r} cannot be read: {said}")
    return found[0]


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
