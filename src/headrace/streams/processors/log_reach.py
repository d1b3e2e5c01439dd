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
    from collections.abc import Callable, Mapping

    from headrace.base.times import Clock
    from headrace.bus.stream_spec import StreamSpec
    from headrace.event_log.readable_log import ReadableLog

CLOCKS_US = 1_000_000
"""How far the clocks of brokers and of this machine may be apart, and how long a stamped record may stay unseen."""

_AGE_S = 5.0


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
    """The ends of a topic's partitions, and when they were asked for: on the wall clock and on the monotonic one."""

    asked_us: int
    asked_s: float
    of: Mapping[SourcePartition, int]


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
    _ends: dict[str, Ends] = field(default_factory=dict)
    _known: dict[tuple[str, SourcePartition], tuple[int, float]] = field(default_factory=dict)

    def awaited(
        self, log: ReadableLog, clocks: Mapping[str, Mapping[SourcePartition, int]], until: Mapping[str, int]
    ) -> list[str]:
        """Return the partitions that are waited for, as phrases. ``until`` has the time in us for each topic.

        ``clocks`` are those of the rows that were read from ``log``. Raises BusUnavailableError.
        """
        return [phrase for topic, us in until.items() for phrase in self._of_topic(log, topic, clocks[topic], us)]

    def _of_topic(
        self, log: ReadableLog, topic: str, clocks: Mapping[SourcePartition, int], until_us: int
    ) -> list[str]:
        """Return what is waited for. If the ends that are known do not end the wait, they are asked for anew.

        Ends of before ``until_us`` lack a partition that was made since.
        """
        known = self._ends.get(topic)
        if known is not None and until_us < known.asked_us - CLOCKS_US and self.monotonic() < known.asked_s + _AGE_S:
            awaited = self._behind(log, topic, clocks, until_us, known)
            if not awaited:
                return awaited
        return self._behind(log, topic, clocks, until_us, self._asked(topic))

    def _asked(self, topic: str) -> Ends:
        asked_us, now_s = self.clock(), self.monotonic()
        found = Ends(asked_us, now_s, self.ends.of(topic))
        for source, end in found.of.items():
            if self._known.get((topic, source), (-1, 0.0))[0] != end:
                self._known[topic, source] = end, now_s
        self._ends[topic] = found
        return found

    def _behind(
        self, log: ReadableLog, topic: str, clocks: Mapping[SourcePartition, int], until_us: int, ends: Ends
    ) -> list[str]:
        found = []
        is_over, table = self._is_over(topic, until_us, ends), None
        for source, end in ends.of.items():
            if clocks.get(source, NO_CLOCK) > until_us:
                continue
            table = table or log.newest(topic)
            place = f"partition {source.partition} of {topic!r}"
            if (table.transaction_version(source.text) or 0) < end:
                found.append(f"{place}, of which workers have not logged all records")
            elif not is_over and not self._is_silent(topic, source, ends):
                found.append(f"{place}, which brings nothing new")
        return found

    def _is_over(self, topic: str, until_us: int, ends: Ends) -> bool:
        """Return whether each record that comes after the ends were asked for is stamped later."""
        is_stamped = self.streams[topic].available_at == "record" and self.ends.stamped_by_brokers(topic)
        return is_stamped and until_us < ends.asked_us - CLOCKS_US

    def _is_silent(self, topic: str, source: SourcePartition, ends: Ends) -> bool:
        since_s = self._known[topic, source][1]
        return self.silent_after_us is not None and (ends.asked_s - since_s) * 1e6 >= self.silent_after_us
