"""One source partition in a worker's hands."""

from __future__ import annotations

from dataclasses import dataclass, field

from headrace.features.online import NO_CLOCK, Source
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.streams.view_partition import ViewPartition


@dataclass
class OwnedPartition:
    """A source partition: where it is read, its ``available_at`` so far, its views, and counts since it was taken."""

    topic: str
    source: Source
    views: list[ViewPartition]
    next_offset: int
    available_us: int = NO_CLOCK
    counts: dict[str, int] = field(default_factory=lambda: {"rows": 0, "rejected": 0, "late": 0})

    @property
    def place(self) -> tuple[str, int]:
        """What Kafka calls it: topic and partition number."""
        return self.topic, self.source.partition
