"""One source partition in a worker's hands, read or stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.streams.plane.worker_report import PartitionReport, StoppedReport, ViewReport

if TYPE_CHECKING:
    from headrace.streams.plane.gap import Gap
    from headrace.streams.plane.retries import Retries
    from headrace.streams.views.view_partition import ViewPartition

logger = structlog.get_logger(__name__)


@dataclass
class OwnedPartition:
    """A source partition: where it is read, its ``available_at`` so far, its views, and counts since it was taken.

    Kafka is read from ``reads_from``, which lies below ``next_offset`` where a cut topic was accepted; what comes below
    ``next_offset`` is dropped. ``partitions`` is how many the topic has, which its cursors tell look-ups. ``behind``
    are the views that have yet to catch up; the others are :attr:`live`. ``rewind``: Kafka has yet to be told to go on
    from ``next_offset``; what it brings before that is dropped.
    """

    topic: str
    source: SourcePartition
    views: list[ViewPartition]
    next_offset: int
    reads_from: int
    partitions: int
    available_us: int = NO_CLOCK
    rewind: bool = False
    behind: list[ViewPartition] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: {"rejected": 0, "late": 0})

    @property
    def live(self) -> list[ViewPartition]:
        """The views that fold what is read."""
        return [view for view in self.views if view not in self.behind]

    @property
    def place(self) -> tuple[str, int]:
        """What Kafka calls it: topic and partition number."""
        return self.topic, self.source.partition

    def count(self, partitions: int) -> None:
        """The topic has this many partitions now; the next heartbeat says so."""
        self.partitions = partitions
        for view in self.views:
            view.count(partitions)

    def observed(self, logged_offset: int) -> PartitionReport:
        """What the worker says of it, where the log is complete below that offset."""
        return PartitionReport(
            topic=self.topic,
            source=self.source.text,
            next_offset=self.next_offset,
            logged_offset=logged_offset,
            available_us=self.available_us,
            rejected=self.counts["rejected"],
            late=self.counts["late"],
            views={view.view: ViewReport(view.written, view.rows_total, view.clock) for view in self.views},
        )


@dataclass(frozen=True)
class StoppedPartition:
    """A partition that is this worker's and is not read, and why. ``owned`` is what could be told of it, if any."""

    topic: str
    partition: int
    why: str
    gap: Gap | None = field(default=None, compare=False)
    owned: OwnedPartition | None = field(default=None, compare=False)

    @property
    def place(self) -> tuple[str, int]:
        """What Kafka calls it: topic and partition number."""
        return self.topic, self.partition

    def observed(self) -> StoppedReport:
        """What the worker says of it."""
        if self.gap is None:
            return StoppedReport(self.topic, self.partition, self.why)
        gap = self.gap
        return StoppedReport(
            self.topic, self.partition, self.why, gap.source.text, gap.log_ends, gap.topic_begins, gap.topic_ends
        )


class StoppedPartitions:
    """The stopped partitions of one worker, each tried again at its time."""

    def __init__(self, retries: Retries[tuple[str, int]]) -> None:
        self._retries = retries
        self._stopped: dict[tuple[str, int], StoppedPartition] = {}

    def knows(self, stopped: StoppedPartition) -> bool:
        """Whether it is stopped already, for the same reason."""
        return self._stopped.get(stopped.place) == stopped

    def add(self, stopped: StoppedPartition) -> None:
        """Keep it for another try; an error log says so if it is news."""
        self._retries.later(stopped.place)
        if self.knows(stopped):
            return
        self._stopped[stopped.place] = stopped
        logger.error(
            "partition stopped: its look-ups say rebuilding until it is read again",
            topic=stopped.topic, partition=stopped.partition, why=stopped.why,
            do="it is tried again by itself" if stopped.gap is None
            else "restore the topic, or accept the loss with `headrace repair --accept-loss`",
        )  # fmt: skip

    def due(self) -> list[tuple[str, int]]:
        """The partitions to be tried again now."""
        return self._retries.due()

    def later(self, place: tuple[str, int]) -> None:
        """Try it another time: a store did not answer."""
        self._retries.later(place)

    def read_again(self, place: tuple[str, int]) -> None:
        """The partition is read; that it lasts is told by :meth:`held`."""
        if self._stopped.pop(place, None) is not None:
            logger.info("stopped partition is read again", topic=place[0], partition=place[1])

    def held(self, place: tuple[str, int]) -> None:
        """A heartbeat was applied: the next trouble is a new one."""
        self._retries.settled(place)

    def forget(self, place: tuple[str, int]) -> None:
        """The partition is no longer ours."""
        self._stopped.pop(place, None)
        self._retries.forget(place)

    def observed(self) -> list[StoppedReport]:
        """What the worker says of them."""
        return [stopped.observed() for stopped in self._stopped.values()]
