"""The gaps between topics and the event log, for the operator who decides about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.bus.source_partition import SourcePartition
from headrace.bus.topics import existing_incarnations, retained_offsets
from headrace.errors import FencedError
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.gap import LogGap, accept_gap, find_gap, is_beginning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka.admin import AdminClient

    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog


def find_gaps(client: AdminClient, log: EventLog, streams: Sequence[Stream]) -> list[LogGap]:
    """Return the gaps that nobody has accepted, by topic and partition. A topic that does not exist has none.

    A partition that no worker has read has none either: it begins where its topic begins.

    Raises BusUnavailableError and OfflineStoreUnavailableError.
    """
    return [found for stream in streams for found in _gaps_of(client, log, stream)]


def _gaps_of(client: AdminClient, log: EventLog, stream: Stream) -> list[LogGap]:
    incarnation = existing_incarnations(client, [stream.topic]).get(stream.topic)
    if incarnation is None:
        return []
    writer = LogWriter(log, stream)
    sources = [SourcePartition(partition, incarnation.topic_id) for partition in range(incarnation.partitions)]
    found = [
        find_gap(stream.topic, source, retained_offsets(client, stream.topic, source.partition), writer)
        for source in sources
    ]
    return [gap for gap in found if gap is not None and not is_beginning(gap, writer)]


def accept_loss(log: EventLog, stream: Stream, gap: LogGap, reason: str) -> None:
    """Accept a gap of a stream. It is durable at once; workers go on within seconds, or at their next start.

    Raises FencedError if the log's end has moved since the gap was found.
    """
    try:
        accept_gap(gap, LogWriter(log, stream), reason)
    except FencedError:  # a worker may have noted the gap just now, which does not move D: try a fresh handle
        accept_gap(gap, LogWriter(log, stream), reason)
