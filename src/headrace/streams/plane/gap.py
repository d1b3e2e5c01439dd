"""Gaps between the event log and its topic: a worker finds them, an operator accepts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.topics import RetainedOffsets
    from headrace.event_log.log_writer import LogWriter


@dataclass(frozen=True)
class LogGap:
    """The log of a partition ends at ``log_ends`` (D), the topic holds [``topic_begins``, ``topic_ends``).

    There are two kinds. If the topic begins beyond D, some records are gone and the log never had them. If the topic
    ends below D, it was cut, or restored from older data. Its next records would repeat offsets that the log has.
    """

    topic: str
    source: SourcePartition
    log_ends: int
    topic_begins: int
    topic_ends: int

    @property
    def is_cut(self) -> bool:
        """True if the topic was cut, so that it ends below D."""
        return self.topic_ends < self.log_ends

    @property
    def rows_lost(self) -> int:
        """The number of offsets that have no row of this topic if the gap is accepted."""
        return max(self.topic_begins - self.log_ends, 0) + max(self.log_ends - self.topic_ends, 0)

    @property
    def goes_on_at(self) -> int:
        """The offset from which an accepted partition is logged."""
        return max(self.log_ends, self.topic_begins)

    @property
    def why(self) -> str:
        """The gap in words."""
        if self.is_cut:
            return f"the topic ends at {self.topic_ends}, below the event log's end at {self.log_ends}"
        return f"the topic begins at {self.topic_begins}, beyond the event log's end at {self.log_ends}"

    def to_json(self) -> dict[str, Any]:
        """Return the gap as plain JSON."""
        return {
            "topic": self.topic, "partition": self.source.partition, "topic_id": self.source.topic_id.hex(),
            "log_ends": self.log_ends, "topic_begins": self.topic_begins, "topic_ends": self.topic_ends,
            "rows_lost": self.rows_lost, "why": self.why,
        }  # fmt: skip


def find_gap(topic: str, source: SourcePartition, retained: RetainedOffsets, writer: LogWriter) -> LogGap | None:
    """Return the gap of a partition. Return None if there is no gap, or if it was accepted.

    Raises OfflineStoreUnavailableError.
    """
    log_ends, cut = writer.position(source) or 0, writer.cut(source)
    ends = retained.ends if cut is None or cut >= 0 else min(retained.ends, -1 - cut)
    if retained.begins <= log_ends and (ends >= log_ends or cut == log_ends):
        return None
    return LogGap(topic, source, log_ends, retained.begins, ends)


def is_beginning(gap: LogGap, writer: LogWriter) -> bool:
    """Return whether the log has no row of this partition, of any incarnation of its topic.

    Then nothing is lost that a worker had to read: Kafka deleted the records before headrace was there. Raises
    OfflineStoreUnavailableError.
    """
    return writer.position(gap.source) is None and not gap.is_cut and not writer.has_rows(gap.source.partition)


def note_cut(gap: LogGap, writer: LogWriter) -> None:
    """Write a note about a cut into the log. Without the note, a topic that grows beyond D again would hide the cut.

    Raises FencedError and OfflineStoreUnavailableError.
    """
    cut = -1 - gap.topic_ends
    if gap.is_cut and writer.cut(gap.source) != cut:
        writer.note(gap.source, gap.log_ends, gap.log_ends, cut=cut, why={"headrace.gap": gap.why})


def accept_gap(gap: LogGap, writer: LogWriter, reason: str) -> None:
    """Let the log go on behind the gap. Raises FencedError if the log has moved since the gap was found."""
    why = {"headrace.gap": gap.why, "headrace.accepted-loss": str(gap.rows_lost), "headrace.reason": reason}
    cut = gap.goes_on_at if gap.is_cut else None
    writer.note(gap.source, gap.log_ends or None, gap.goes_on_at, cut=cut, why=why)
