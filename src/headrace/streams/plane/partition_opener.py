"""Opens a partition that Kafka assigns: finds its topic's incarnation and its position in the log.

If the partition cannot be read, the reason is returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import structlog

from headrace.bus.source_partition import SourcePartition
from headrace.bus.topics import RetainedOffsets, incarnations, retained_offsets
from headrace.errors import FencedError, LogDamagedError, TopicUnknownError
from headrace.streams.plane.gap import accept_gap, find_gap, is_beginning, note_cut
from headrace.streams.plane.partition import OwnedPartition, StoppedPartition
from headrace.streams.views.view_memory import ViewMemory
from headrace.streams.views.view_partition import ViewPartition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka.admin import AdminClient

    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.online.store import OnlineStore
    from headrace.streams.plane.logged_stream import LoggedStream

logger = structlog.get_logger(__name__)
_BEGINS = "the partition is read for the first time, and Kafka has deleted its oldest records before"


class PartitionOpener:
    """Opens partitions of some streams, with the views that ``specs`` has for their topics at the time of the call."""

    def __init__(
        self,
        client: AdminClient,
        store: OnlineStore,
        streams: Mapping[str, LoggedStream],
        specs: Mapping[str, Sequence[ViewSpec]],
    ) -> None:
        self._client, self._store, self._streams, self._specs = client, store, streams, specs
        self._memories: WeakValueDictionary[str, ViewMemory] = WeakValueDictionary()

    def open(self, topic: str, partition: int) -> OwnedPartition | StoppedPartition:
        """Open the partition's log and return the partition; its cursors are not acquired yet.

        If it cannot be read, return a StoppedPartition with the reason.

        Raises TransientError while the broker or a store does not answer.
        """
        try:
            incarnation = incarnations(self._client, [topic])[topic]
            found = retained_offsets(self._client, topic, partition)
        except TopicUnknownError as error:
            return StoppedPartition(topic, partition, str(error))
        stream, source = self._streams[topic], SourcePartition(partition, incarnation.topic_id)
        try:
            owned = self._open(stream, source, incarnation.partitions, found)
        except LogDamagedError as error:
            stream.flusher.close(source)
            return StoppedPartition(topic, partition, str(error))
        gap = find_gap(topic, source, found, stream.writer)
        if gap is None:
            return owned
        stream.flusher.close(source)
        try:
            if is_beginning(gap, stream.writer):
                accept_gap(gap, stream.writer, _BEGINS)
                logger.warning(_BEGINS, topic=topic, partition=partition, begins_at=gap.topic_begins)
                return self._open(stream, source, incarnation.partitions, found)
            note_cut(gap, stream.writer)
        except FencedError as error:  # another worker notes it just now: the next try sees more
            return StoppedPartition(topic, partition, str(error))
        return StoppedPartition(topic, partition, gap.why, gap, owned)

    def open_import(self, topic: str, source: SourcePartition) -> OwnedPartition:
        """Return the partition of an import, as far as the log has it; its cursors are not acquired yet.

        Raises OfflineStoreUnavailableError.
        """
        position = self._streams[topic].flusher.open(source) or 0
        views = [self._view(spec, source, topic) for spec in self._specs[topic]]
        return OwnedPartition(topic, source, views, next_offset=position, reads_from=position, partition_count=1)

    def view_names(self, topic: str) -> list[str]:
        """Return the names and versions of the views of a topic."""
        return [spec.versioned_name for spec in self._specs[topic]]

    def views(self, owned: OwnedPartition) -> list[ViewPartition]:
        """Return the views that the partition has now. A view that it had before is the same object."""
        known = {view.view: view for view in owned.views}
        names = [(spec.versioned_name, spec) for spec in self._specs[owned.topic]]
        return [known.get(name) or self._view(spec, owned.source, owned.topic) for name, spec in names]

    def _view(self, spec: ViewSpec, source: SourcePartition, topic: str) -> ViewPartition:
        """Return a new view of a partition. Its memory is shared by all partitions, and ends with the last of them."""
        name = spec.versioned_name
        memory = self._memories.get(name)
        if memory is None:
            memory = self._memories[name] = ViewMemory(spec, self._store)
        return ViewPartition(spec, source, self._store, memory, topic=topic)

    def _open(
        self, stream: LoggedStream, source: SourcePartition, partition_count: int, found: RetainedOffsets
    ) -> OwnedPartition:
        position = stream.flusher.open(source) or 0
        clock_us = stream.clock_us(source, position)
        views = [self._view(spec, source, stream.topic) for spec in self._specs[stream.topic]]
        return OwnedPartition(
            stream.topic,
            source,
            views,
            next_offset=position,
            reads_from=min(position, found.ends),
            partition_count=partition_count,
            available_us=clock_us,
            seen=stream.seen(source, position, clock_us),
        )
