"""The records of a partition between two offsets."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headrace.bus import kafka_clients
from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import Message

_BATCH = 20_000
_POLL_S, _SILENT_S = 0.2, 10.0


def records_between(
    bootstrap_servers: str, topic: str, partition: int, first: int, end: int
) -> Iterator[list[Message]]:
    """Yield the records at offsets from ``first`` to below ``end``, in order. Raises BusUnavailableError.

    ``first`` is an offset that the topic still has, and ``end`` at most its end.
    """
    from confluent_kafka import TopicPartition  # noqa: PLC0415

    if first >= end:
        return
    consumer = kafka_clients.reader(bootstrap_servers, "span", {"enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, first)])
    try:
        at, silent_since = first, time.monotonic()
        while at < end:
            found = consumer.consume(_BATCH, _POLL_S)
            records = [each for each in found if each.error() is None and (each.offset() or 0) < end]
            if records:
                yield records
            at = consumer.position([TopicPartition(topic, partition)])[0].offset
            silent_since = time.monotonic() if found else silent_since
            if time.monotonic() - silent_since > _SILENT_S:
                what = f"{topic}-{partition} at offset {at} of {end}"
                raise BusUnavailableError(f"{bootstrap_servers} sends no more records of {what}")
            if any((error := each.error()) is not None and error.name() == "_PARTITION_EOF" for each in found):
                return
    finally:
        consumer.close()
