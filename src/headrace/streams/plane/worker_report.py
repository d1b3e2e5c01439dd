"""What a worker says of itself each second: positions, never increments, so that replaying one changes nothing."""

from __future__ import annotations

import msgspec


class ViewReport(msgspec.Struct, frozen=True):
    """One view over one source partition, as its cursor says: folded below ``next_offset``, rows so far, its clock."""

    next_offset: int
    rows_total: int
    clock_us: int


class PartitionReport(msgspec.Struct, frozen=True):
    """One source partition: consumed below ``next_offset``, in the log below ``logged_offset``, views below theirs.

    ``rejected`` and ``late`` count since the worker took it: late rows are accepted, and their event time lies further
    behind the partition's ``available_at`` than the stream's lateness.
    """

    topic: str
    source: str
    next_offset: int
    logged_offset: int
    available_us: int
    rejected: int
    views: dict[str, ViewReport]
    late: int = 0


class StoppedReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A partition that is assigned to the worker and cannot be read; the offsets are there if it is for a gap."""

    topic: str
    partition: int
    why: str
    source: str | None = None
    log_ends: int | None = None
    topic_begins: int | None = None
    topic_ends: int | None = None


class WorkerReport(msgspec.Struct, frozen=True, tag_field="type", tag="observation"):
    """All partitions of a worker. ``observed_us`` is the worker's clock."""

    worker: str
    observed_us: int
    partitions: list[PartitionReport]
    stopped: list[StoppedReport] = []
    format: int = 1

    def encode(self) -> bytes:
        """JSON bytes."""
        return msgspec.json.encode(self)
