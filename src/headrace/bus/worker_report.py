"""The report that each worker sends each second.

It has positions, never increments, so a repeated report changes nothing.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from headrace.bus import message

FORMAT = 1


class ViewReport(msgspec.Struct, frozen=True):
    """One view over one source partition, by its cursor: folded below ``next_offset``, the rows so far, its clock.

    ``catching_up`` is true while batches are not folded into it, because it is brought up to its partition first.
    """

    next_offset: int
    rows_total: int
    clock_us: int
    catching_up: bool | UnsetType = UNSET


class PartitionReport(msgspec.Struct, frozen=True):
    """One source partition: consumed below ``next_offset``, in the log below ``logged_offset``.

    ``rejected`` and ``late`` count since the worker opened the partition. Late rows are accepted; their event time lies
    further behind the partition's ``available_at`` than the stream's lateness. ``duplicates`` counts the duplicates
    since then, of a stream that has ``unique=``. ``reasons`` has the rejected records by reason, if there are any.
    ``end_offset`` is the end of the topic's partition that the worker's client has heard of last, if it has.
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
    reasons: dict[str, int] | UnsetType = UNSET
    end_offset: int | UnsetType = UNSET


class MemoryReport(msgspec.Struct, frozen=True):
    """What a worker keeps in memory of one view: entities, counted in each of its partitions, and bytes.

    The online store may have more entities: a worker forgets those that were used least recently.
    """

    entities: int
    bytes: int


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
    """All partitions of a worker. ``observed_us`` is the worker's clock.

    ``memory`` has the views that it keeps entities of. ``release`` is its release of headrace, ``started_us`` the time
    at which it began. Workers of earlier releases say none of the three.
    """

    worker: str
    observed_us: int
    partitions: list[PartitionReport]
    stopped: list[StoppedReport] = []
    format: int = FORMAT
    memory: dict[str, MemoryReport] | UnsetType = UNSET
    release: str | UnsetType = UNSET
    started_us: int | UnsetType = UNSET

    def encode(self) -> bytes:
        """Return the JSON bytes."""
        return msgspec.json.encode(self)


def decode(data: bytes | None) -> WorkerReport:
    """Return the report in these bytes. Raises CodecError, and NewerFormatError for a report of a later release."""
    return message.decode(data, WorkerReport, FORMAT, "a report of a worker")
