"""The commits of all streams of a worker, and the partitions that are fenced by another worker's commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.base.waiting import UntilAvailable
    from headrace.bus.source_partition import SourcePartition
    from headrace.streams.plane.flusher import FlushResult
    from headrace.streams.plane.logged_stream import LoggedStream
    from headrace.streams.plane.partition import OwnedPartition
    from headrace.streams.plane.partitions import Partitions
    from headrace.streams.plane.plane_metrics import PlaneMetrics
    from headrace.streams.plane.rejected_copies import RejectedCopies

logger = structlog.get_logger(__name__)


class LogFlushes:
    """Begins commits, processes their outcome, and fences the partitions whose log another worker has moved.

    It waits while the log or the broker does not answer. The copies of rejected rows are acknowledged before their rows
    are committed.
    """

    def __init__(
        self,
        streams: Mapping[str, LoggedStream],
        partitions: Partitions,
        copies: RejectedCopies,
        until_available: UntilAvailable,
        meter: PlaneMetrics,
    ) -> None:
        self._streams, self._partitions, self._copies = streams, partitions, copies
        self._until_available, self._meter = until_available, meter

    @property
    def pending(self) -> int:
        """The largest number of rows of one stream that are not in the log yet."""
        return max((stream.flusher.pending for stream in self._streams.values()), default=0)

    def positions(self) -> dict[str, Mapping[SourcePartition, int]]:
        """Return D of each partition, by topic."""
        return {topic: stream.flusher.positions() for topic, stream in self._streams.items()}

    def collect(self) -> None:
        """Process the outcome of the commits that have ended."""
        for stream in self._streams.values():
            self._take_in(stream, self._until_available(stream.flusher.collect))

    def start(self) -> None:
        """Begin a commit of everything buffered, for each stream that has no commit under way."""
        self._until_available(self._copies.flush)
        self.collect()
        for stream in self._streams.values():
            stream.flusher.start()

    def flush(self, topics: Iterable[str] | None = None) -> None:
        """Commit everything that is buffered for these topics (None: for all), and wait until it is in the log."""
        self._until_available(self._copies.flush)
        streams = [self._streams[topic] for topic in (self._streams if topics is None else topics)]
        for stream in streams:
            stream.flusher.start()  # so the commits of several streams run at the same time
        for stream in streams:
            self._take_in(stream, self._until_available(stream.flusher.flush))

    def close(self, owned: OwnedPartition) -> None:
        """Wait for the commit under way, process its outcome, then forget the partition with its unflushed rows."""
        stream = self._streams[owned.topic]
        self._until_available(stream.flusher.close, owned.source)
        self._take_in(stream, self._until_available(stream.flusher.collect))

    def _take_in(self, stream: LoggedStream, result: FlushResult) -> None:
        for commit in result.commits:
            self._meter.flushed(stream.topic, commit.rows, commit.seconds)
        for source in result.fenced:
            owned = self._partitions.owned((stream.topic, source.partition))
            if owned is not None and owned.source == source:
                self._fence(stream, owned)

    def _fence(self, stream: LoggedStream, owned: OwnedPartition) -> None:
        self._partitions.fence(owned)  # first: nothing more of it is folded, whatever fails below
        position = stream.flusher.positions()[owned.source]
        owned.next_offset = position
        owned.available_us = self._until_available(stream.clock_us, owned.source, position)
        owned.seen = self._until_available(stream.seen, owned.source, position, owned.available_us)
        logger.warning(
            "fenced by the event log", topic=owned.topic, partition=owned.source.partition, position=position
        )
