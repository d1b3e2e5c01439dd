"""Reads the last decision record of each model from the end of the topic on, so that mostly no years of it are read."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from headrace.bus import kafka_clients
from headrace.bus.unreadable_records import readable
from headrace.bus.watermarks import Watermarks
from headrace.errors import BusUnavailableError
from headrace.trainers.runs.messages import DecisionRecord, decode

if TYPE_CHECKING:
    from collections.abc import Collection

    from confluent_kafka import Consumer, Message

_FIRST, _MOST = 1_000, 64_000
"""The records that are read at first, and at most at once."""
_BACK_MS = 86_400_000
_SILENT_S = 30.0


def last_decisions(
    servers: str, topic: str, models: Collection[str], decided: Collection[str] | None = None
) -> dict[str, DecisionRecord]:
    """Return the last record of each of these models that has one.

    The models in ``decided`` are known to have a record, so the whole topic is searched for them. If it is None, that
    holds for all models. For the others only the last day of the topic is searched, which ends with its newest record:
    rules that are evaluated have a record an hour. Raises BusUnavailableError.
    """
    from confluent_kafka import KafkaException  # noqa: PLC0415

    found: dict[str, DecisionRecord] = {}
    options = {"enable.partition.eof": True, "fetch.wait.max.ms": 100}
    try:
        consumer = kafka_clients.reader(servers, "last-decisions", options)
        with closing(consumer), closing(Watermarks(servers)) as marks:
            for partition in consumer.list_topics(topic, _SILENT_S).topics[topic].partitions:
                begins, ends = marks.offsets(topic, partition)
                wanted = set(models) - set(found)
                sure = wanted if decided is None else wanted & set(decided)
                found |= _last_of_partition(consumer, topic, partition, (begins, ends), wanted=wanted, sure=sure)
    except KafkaException as error:
        raise BusUnavailableError(f"topic {topic!r} at {servers} cannot be read: {error}") from error
    return found


def _last_of_partition(
    consumer: Consumer, topic: str, partition: int, offsets: tuple[int, int], *, wanted: set[str], sure: set[str]
) -> dict[str, DecisionRecord]:
    """Read from the end of a partition towards its beginning, in steps that grow. After a day only ``sure`` count."""
    begins, until = offsets
    found: dict[str, DecisionRecord] = {}
    size, newest_ms = _FIRST, None
    while until > begins and wanted - set(found):
        start = max(begins, until - size)
        records = _between(consumer, topic, partition, start, until)
        decoded = list(readable(records, lambda record: decode(record.value(), DecisionRecord)))
        for each in reversed(decoded):
            if each.model in wanted:
                found.setdefault(each.model, each)
        if records:
            newest_ms = newest_ms or records[-1].timestamp()[1]
            if records[0].timestamp()[1] < newest_ms - _BACK_MS:
                wanted = sure
        until, size = start, min(size * 4, _MOST)
    return found


def _between(consumer: Consumer, topic: str, partition: int, start: int, until: int) -> list[Message]:
    """Return the records with offsets from ``start`` to below ``until``. Raises KafkaException."""
    from confluent_kafka import KafkaError, KafkaException, TopicPartition  # noqa: PLC0415

    consumer.assign([TopicPartition(topic, partition, start)])
    records: list[Message] = []
    heard = time.monotonic()
    while time.monotonic() < heard + _SILENT_S:
        for message in consumer.consume(1_000, 0.1):
            error, heard = message.error(), time.monotonic()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's name
                raise KafkaException(error)
            if error is not None or (message.offset() or 0) >= until:
                return records
            records.append(message)
        if records and (records[-1].offset() or 0) >= until - 1:
            return records
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - librdkafka's name for it
