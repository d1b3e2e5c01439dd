"""The report that each worker sends each second.

It has positions, never increments, so a repeated report changes nothing.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from headrace.bus import message

FORMAT = 1


class ViewReport(msgspec.Struct, frozen=True):
    """One view over one source partition, by its cursor: folded below ``next_offset``, the rows so far, its clock."""

    next_offset: int
    rows_total: int
    clock_us: int


class PartitionReport(msgspec.Struct, frozen=True):
    """One source partition: consumed below ``next_offset``, in the log below ``logged_offset``.

    ``rejected`` and ``late`` count since the worker opened the partition. Late rows are accepted; their event time lies
    further behind the partition's ``available_at`` than the stream's lateness. ``duplicates`` counts the duplicates
    since then, of a stream that has ``unique=``.
    """

    topic: str
    source: str
    next_offset: int
    logged_offset: int
    available_us: int
    rejected: int
    views: dict[str, ViewReport]
    late: int = 0
    duplicates: int | UnsetType = UNSET


class StoppedReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A partition that is assigned to the worker and cannot be read. The offsets are given if there is a gap."""

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
    format: int = FORMAT

    def encode(self) -> bytes:
        """Return the JSON bytes."""
        return msgspec.json.encode(self)


def decode(data: bytes | None) -> WorkerReport:
    """Return the report in these bytes. Raises CodecError, and NewerFormatError for a report of a later release."""
    return message.decode(data, WorkerReport, FORMAT, "a report of a worker")
