"""One source partition in a worker's hands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.features.online import NO_CLOCK, Source

if TYPE_CHECKING:
    from headrace.streams.view_partition import ViewPartition


@dataclass
class OwnedPartition:
    """A source partition: where it is read, its ``available_at`` so far, its views, and counts since it was taken.

    ``partitions`` is how many the topic has, which its cursors tell look-ups.
    ``rewind``: Kafka has yet to be told to go on from ``next_offset``; what it brings before that is dropped.
    """

    topic: str
    source: Source
    views: list[ViewPartition]
    next_offset: int
    partitions: int
    available_us: int = NO_CLOCK
    rewind: bool = False
    counts: dict[str, int] = field(default_factory=lambda: {"rejected": 0})

    @property
    def place(self) -> tuple[str, int]:
        """What Kafka calls it: topic and partition number."""
        return self.topic, self.source.partition
