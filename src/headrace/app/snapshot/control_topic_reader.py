"""Reads the control topics for snapshots: by hand-assigned partitions, from near their ends, without a group.

Reports and heartbeats are read from the last seconds on, or the last few if there are none: they say when a process was
heard last. Decisions and results are read from the last records on. Model events alone are read from the beginning: a
model's state is the fold of all of them, and they are few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.bus import kafka_clients
from headrace.bus.consumer import READING_ENDS
from headrace.bus.watermarks import Watermarks
from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from confluent_kafka import Consumer, Message, TopicPartition

    from headrace.app.snapshot.snapshot_fold import SnapshotFold
    from headrace.base.times import Clock
    from headrace.bus.control_topics import ControlTopics

_TIMEOUT_S = 5.0
_BATCH, _LAST = 2_000, 10
_LOOK_MS = 10_000
"""A topic that did not exist may exist now, and a topic of a stream may have new partitions."""


class ControlTopicReader:
    """Feeds a fold with new records. It has one consumer, which belongs to the thread that calls.

    ``streams`` are the topics of streams, whose partitions are counted. Nothing is written, joined or committed.
    """

    def __init__(
        self, servers: str, topics: ControlTopics, fold: SnapshotFold, streams: Iterable[str], clock: Clock
    ) -> None:
        self._servers, self._topics, self._fold, self._clock = servers, topics, fold, clock
        self._streams = tuple(streams)
        self._consumer: Consumer | None = None
        self._watermarks = Watermarks(servers)
        self._positions: dict[tuple[str, int], int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._looked_ms = 0

    def poll(self, timeout_s: float) -> int:
        """Read what has come, for at most this time if nothing has, and return the number of records.

        Raises BusUnavailableError if Kafka does not answer. The next call begins again where this one has stopped.
        """
        from confluent_kafka import KafkaException

        try:
            consumer = self._open()
            messages = consumer.consume(1, timeout_s)
            if messages:
                messages += consumer.consume(_BATCH, 0)
            return self._take(messages)
        except KafkaException as error:
            why = kafka_clients.refusal(self._servers) or error.args[0].str()
            self._disconnect()
            self._fold.lost(self._fold.sources, why)
            raise BusUnavailableError(f"the control topics at {self._servers} cannot be read: {why}") from error

    def is_at_end(self) -> bool:
        """Return whether all records were read that were there when the topics were opened or looked for last."""
        return all(self._positions[place] >= end for place, end in self._ends.items())

    def close(self) -> None:
        """Close the connections."""
        self._disconnect()
        self._watermarks.close()

    def _disconnect(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
        self._consumer, self._looked_ms = None, 0

    # -- reading ------------------------------------------------------------------------------------------------------

    def _open(self) -> Consumer:
        """Return the consumer. Every ten seconds it looks for new topics and partitions."""
        now_ms = self._clock() // 1_000
        if self._consumer is None:
            self._consumer = kafka_clients.reader(self._servers, "snapshot", {"fetch.wait.max.ms": 100})
        if now_ms - self._looked_ms > _LOOK_MS:
            self._look(self._consumer, now_ms)
            self._looked_ms = now_ms
        return self._consumer

    def _look(self, consumer: Consumer, now_ms: int) -> None:
        from confluent_kafka import TopicPartition

        known = consumer.list_topics(timeout=_TIMEOUT_S).topics
        self._fold.has_partitions({topic: len(known[topic].partitions) for topic in self._streams if topic in known})
        places = [
            TopicPartition(topic, number)
            for topic in self._fold.sources
            if topic in known
            for number in known[topic].partitions
        ]
        self._ends = {}
        for place in places:
            low, high = self._watermarks.offsets(place.topic, place.partition, _TIMEOUT_S)
            key = (place.topic, place.partition)
            begin = self._positions.get(key)
            if begin is None or begin > high:  # new, or the topic was made again
                begin = self._begin(consumer, place, (low, high), now_ms)
            place.offset = self._positions[key] = max(low, begin)
            self._ends[key] = high
        if {(each.topic, each.partition) for each in consumer.assignment()} != set(self._ends):
            consumer.assign(places)
        self._fold.lost([topic for topic in self._fold.sources if topic in known], None)

    def _begin(self, consumer: Consumer, place: TopicPartition, bounds: tuple[int, int], now_ms: int) -> int:
        """Return the offset from which a partition is read."""
        from confluent_kafka import TopicPartition

        low, high = bounds
        if place.topic == self._topics.models:
            return low
        seconds = {self._topics.observations: 15, self._topics.heartbeats: 30}.get(place.topic)
        if seconds is None:
            return high - _BATCH
        wanted = TopicPartition(place.topic, place.partition, now_ms - seconds * 1_000)
        found = consumer.offsets_for_times([wanted], _TIMEOUT_S)[0].offset
        return found if found >= 0 else high - _LAST

    def _take(self, messages: Sequence[Message]) -> int:
        from confluent_kafka import KafkaError, KafkaException

        ends = {getattr(KafkaError, name) for name in READING_ENDS}
        records = []
        for each in messages:
            error = each.error()
            if error is not None and error.code() in ends:
                self._positions.pop((each.topic() or "", each.partition() or 0), None)
                raise KafkaException(error)
            if error is None:
                records.append(each)
                self._positions[each.topic() or "", each.partition() or 0] = (each.offset() or 0) + 1
        self._fold.take(records)
        return len(records)
