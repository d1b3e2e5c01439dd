"""One source partition of a worker, in one phase of its life: read, or stopped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import UNSET

from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.worker_report import PartitionReport, StoppedReport, ViewReport

if TYPE_CHECKING:
    from headrace.bus.formats.record_format import AwaitedSchema
    from headrace.streams.plane.gap import LogGap
    from headrace.streams.plane.seen_ids import SeenIds
    from headrace.streams.views.view_partition import ViewPartition

Place = tuple[str, int]
"""Topic and partition number: Kafka's name of a partition, whatever the topic's incarnation."""


class PartitionPhase(Enum):
    """The phases in the life of a partition with one worker.

    docs/reference/exactly-once.md says what happens in each phase, and
    :class:`~headrace.streams.plane.partitions.Partitions` moves partitions from one to the next.
    """

    ASSIGNED = "its log is open; its cursors are not acquired yet"
    CATCHING_UP = "some of its views are behind it and are brought up to it"
    LIVE = "each batch is folded into all of its views"
    REFUSED = "the store refused a write: batches go to the log alone until its cursors are acquired again"
    FENCED = "the log went on without this worker: batches are dropped until Kafka is read again from D"
    STOPPED = "it is not read, and is tried again"
    RELEASED = "it is not this worker's any more"


@dataclass(eq=False)
class OwnedPartition:
    """A source partition that is read: its position, its views, and what was counted since it was opened.

    ``next_offset``: all records below it were judged and buffered.
    ``reads_from``: the offset from which Kafka is read. After the loss of a cut topic was accepted, it is below
    ``next_offset``. Records below ``next_offset`` are dropped.
    ``partition_count``: the number of the topic's partitions, which the cursors give to look-ups.
    ``available_us``: the partition's clock, the ``available_at`` of its last record.
    ``behind``: the views that have yet to catch up.
    ``rejected``: the rejected records by reason.
    ``seen``: the ids of the records below ``next_offset``, if the stream has ``unique=``.
    """

    topic: str
    source: SourcePartition
    views: list[ViewPartition]
    next_offset: int
    reads_from: int
    partition_count: int
    available_us: int = NO_CLOCK
    phase: PartitionPhase = PartitionPhase.ASSIGNED
    behind: list[ViewPartition] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    late: int = 0
    seen: SeenIds | None = None
    duplicates: int = 0

    @property
    def place(self) -> Place:
        """Kafka's name of the partition. That of an import has its id: no topic has an ``@`` in its name."""
        if self.source.is_import:
            return f"{self.topic}@{self.source.topic_id.hex()}", self.source.partition
        return self.topic, self.source.partition

    @property
    def is_written(self) -> bool:
        """True if this worker writes the partition's cursors and fields."""
        return self.phase in {PartitionPhase.CATCHING_UP, PartitionPhase.LIVE}

    @property
    def live_views(self) -> list[ViewPartition]:
        """The views into which a batch is folded now."""
        return [view for view in self.views if view not in self.behind] if self.is_written else []

    def extend_topic(self, partition_count: int) -> None:
        """Take the new number of the topic's partitions. The next heartbeat writes it into the cursors."""
        self.partition_count = partition_count
        for view in self.views:
            view.extend_topic(partition_count)

    def report(self, logged_offset: int, end_offset: int | None) -> PartitionReport:
        """Return the worker's report of this partition.

        The log is complete below ``logged_offset``. ``end_offset`` is the end of the topic's partition, None if it is
        not known.
        """
        return PartitionReport(
            topic=self.topic,
            source=self.source.text,
            next_offset=self.next_offset,
            logged_offset=logged_offset,
            available_us=self.available_us,
            rejected=self.rejected.total(),
            late=self.late,
            duplicates=UNSET if self.seen is None else self.duplicates,
            reasons=dict(self.rejected) or UNSET,
            end_offset=UNSET if end_offset is None else end_offset,
            views={
                view.view: ViewReport(
                    view.written, view.rows_total, view.clock, catching_up=view in self.behind or UNSET
                )
                for view in self.views
            },
        )


@dataclass(frozen=True)
class StoppedPartition:
    """A partition that Kafka assigned to this worker but that is not read. ``why`` gives the reason.

    ``gap``: the gap between the partition's topic and its log, or None if there is none. If there is a gap, ``owned``
    has the views whose cursors must say *rebuilding*. ``awaits`` is the schema that its next record needs.
    """

    topic: str
    partition: int
    why: str
    gap: LogGap | None = field(default=None, compare=False)
    owned: OwnedPartition | None = field(default=None, compare=False)
    awaits: AwaitedSchema | None = field(default=None, compare=False)

    @property
    def place(self) -> Place:
        """Kafka's name of the partition."""
        return self.topic, self.partition

    @property
    def phase(self) -> PartitionPhase:
        """The phase STOPPED, until the partition is opened again."""
        return PartitionPhase.STOPPED

    def report(self) -> StoppedReport:
        """Return the worker's report of this partition."""
        if self.gap is None:
            return StoppedReport(self.topic, self.partition, self.why)
        gap = self.gap
        return StoppedReport(
            self.topic, self.partition, self.why, gap.source.text, gap.log_ends, gap.topic_begins, gap.topic_ends
        )
