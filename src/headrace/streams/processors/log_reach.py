"""Up to which time the event log of some topics is complete: no row that was available by then is still to come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.base.times import wall_clock
from headrace.bus.kafka_clients import admin
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.topics import incarnations, stamped_by_producers
from headrace.bus.watermarks import Watermarks
from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from headrace.base.times import Clock
    from headrace.bus.stream_spec import StreamSpec
    from headrace.event_log.readable_log import ReadableLog

CLOCKS_US = 1_000_000
"""How far the clocks of brokers and of this machine may be apart, and how long a stamped record may stay unseen."""


@dataclass
class TopicEnds:
    """Asks Kafka for the ends of a topic's partitions. Its double in tests has them in memory."""

    servers: str
    _watermarks: Watermarks | None = None
    _stamped: dict[str, bool] = field(default_factory=dict)

    def of(self, topic: str) -> dict[SourcePartition, int]:
        """Return the next offset of each partition of the topic as it is now. Raises BusUnavailableError."""
        from confluent_kafka import KafkaException  # noqa: PLC0415

        self._watermarks = self._watermarks or Watermarks(self.servers)
        incarnation = incarnations(admin(self.servers), [topic])[topic]
        try:
            return {
                SourcePartition(partition, incarnation.topic_id): self._watermarks.offsets(topic, partition)[1]
                for partition in range(incarnation.partitions)
            }
        except KafkaException as error:
            raise BusUnavailableError(f"the ends of {topic!r} are not known: {error}") from error

    def stamped_by_brokers(self, topic: str) -> bool:
        """Return whether the broker's clock stamps the records of the topic. Raises BusUnavailableError."""
        if topic not in self._stamped:
            self._stamped[topic] = not stamped_by_producers(admin(self.servers), [topic])
        return self._stamped[topic]


@dataclass(frozen=True)
class Ends:
    """The ends of topics' partitions, and when they were asked for: on the wall clock and on the monotonic one."""

    asked_us: int
    asked_s: float
    of: Mapping[str, Mapping[SourcePartition, int]]


@dataclass
class LogReach:
    """Says of which partitions rows may still come that were available by some time.

    A partition is complete up to a time once it has a row of later. A partition that brings nothing is complete too if
    the log has all its records, and the broker stamps them: a record that comes later is stamped later. Where producers
    stamp the records, or a field says when a record was available, only ``silent_after_us`` ends the wait.
    """

    streams: Mapping[str, StreamSpec]
    ends: TopicEnds
    silent_after_us: int | None = None
    clock: Clock = wall_clock
    monotonic: Callable[[], float] = time.monotonic
    _known: dict[tuple[str, SourcePartition], tuple[int, float]] = field(default_factory=dict)

    def asked(self, topics: Iterable[str]) -> Ends:
        """Ask for the ends of topics. What is read from the log afterwards may reach them.

        Raises BusUnavailableError.
        """
        asked_us, now_s = self.clock(), self.monotonic()
        found = {topic: self.ends.of(topic) for topic in topics}
        for topic, of_topic in found.items():
            for source, end in of_topic.items():
                if self._known.get((topic, source), (-1, 0.0))[0] != end:
                    self._known[topic, source] = end, now_s
        return Ends(asked_us, now_s, found)

    def awaited(
        self,
        log: ReadableLog,
        ends: Ends,
        clocks: Mapping[str, Mapping[SourcePartition, int]],
        until: Mapping[str, int],
    ) -> list[str]:
        """Return the partitions that are waited for, as phrases. ``until`` has the time in us for each topic.

        ``clocks`` are those of the rows that were read from ``log``, after the ends were asked for.
        """
        found = []
        for topic, until_us in until.items():
            behind = {q: end for q, end in ends.of[topic].items() if clocks[topic].get(q, NO_CLOCK) <= until_us}
            if not behind:
                continue
            table = log.newest(topic)
            for source, end in behind.items():
                place = f"partition {source.partition} of {topic!r}"
                if (table.transaction_version(source.text) or 0) < end:
                    found.append(f"{place}, of which workers have not logged all records")
                elif not self._is_over(topic, source, until_us, ends):
                    found.append(f"{place}, which brings nothing new")
        return found

    def _is_over(self, topic: str, source: SourcePartition, until_us: int, ends: Ends) -> bool:
        """Return whether no record of an earlier time comes to a partition of which the log has everything."""
        if self.silent_after_us is not None:
            since_s = self._known[topic, source][1]
            if (ends.asked_s - since_s) * 1e6 >= self.silent_after_us:
                return True
        is_stamped = self.streams[topic].available_at == "record" and self.ends.stamped_by_brokers(topic)
        return is_stamped and until_us < ends.asked_us - CLOCKS_US
