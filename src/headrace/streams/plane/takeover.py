"""Beginning with a partition that Kafka assigns: its incarnation, its place in the log, or why it cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.topics import RetainedOffsets, incarnations, retained_offsets
from headrace.errors import FencedError, TopicUnknownError
from headrace.features.definitions.spec import spec_hash, view_name
from headrace.streams.plane import gap
from headrace.streams.plane.partition import OwnedPartition, StoppedPartition
from headrace.streams.views.view_memory import ViewMemory
from headrace.streams.views.view_partition import ViewPartition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka.admin import AdminClient

    from headrace.event_log.event_log import EventLog
    from headrace.event_log.log_writer import LogWriter
    from headrace.features.online.store import OnlineStore
    from headrace.streams.plane.flusher import Flusher


@dataclass(frozen=True)
class LogEnd:
    """Where one stream's rows go: the handle, and the flusher that has it."""

    writer: LogWriter
    flusher: Flusher


class Takeover:
    """Looks at a topic and its log. ``specs`` are the views' by topic, ``ends`` the streams' ends of the log."""

    def __init__(
        self,
        client: AdminClient,
        store: OnlineStore,
        log: EventLog,
        specs: Mapping[str, Sequence[Mapping[str, Any]]],
        ends: Mapping[str, LogEnd],
    ) -> None:
        self._client, self._store, self._log, self._specs, self._ends = client, store, log, specs, ends
        self._memories: WeakValueDictionary[str, ViewMemory] = WeakValueDictionary()

    def take(self, topic: str, partition: int) -> OwnedPartition | StoppedPartition:
        """The partition, its part of the log open, its cursors not acquired yet; or why it has to be left alone.

        Raises TransientError while the broker or a store does not answer.
        """
        try:
            incarnation = incarnations(self._client, [topic])[topic]
            found = retained_offsets(self._client, topic, partition)
        except TopicUnknownError as error:
            return StoppedPartition(topic, partition, str(error))
        source = SourcePartition(partition, incarnation.topic_id)
        owned = self._open(topic, source, incarnation.partitions, found)
        missing = gap.find(topic, source, found, self._ends[topic].writer)
        if missing is None:
            return owned
        self._ends[topic].flusher.close(source)
        try:
            gap.note_cut(missing, self._ends[topic].writer)
        except FencedError as error:  # another worker is at it: the next try sees more
            return StoppedPartition(topic, partition, str(error))
        return StoppedPartition(topic, partition, missing.why, missing, owned)

    def views(self, owned: OwnedPartition) -> list[ViewPartition]:
        """What a partition's views are by now: those that it has already are the same objects."""
        known = {view.view: view for view in owned.views}
        names = [(view_name(spec, spec_hash(spec)), spec) for spec in self._specs[owned.topic]]
        return [known.get(name) or self._view(spec, owned.source) for name, spec in names]

    def _view(self, spec: Mapping[str, Any], source: SourcePartition) -> ViewPartition:
        """All partitions of a view share its memory, which goes with the last of them."""
        name = view_name(spec, spec_hash(spec))
        memory = self._memories.get(name)
        if memory is None:
            memory = self._memories[name] = ViewMemory(spec, self._store)
        return ViewPartition(spec, source, self._store, memory)

    def _open(self, topic: str, source: SourcePartition, partitions: int, found: RetainedOffsets) -> OwnedPartition:
        position = self._ends[topic].flusher.open(source) or 0
        views = [self._view(spec, source) for spec in self._specs[topic]]
        return OwnedPartition(
            topic,
            source,
            views,
            next_offset=position,
            reads_from=min(position, found.ends),
            partitions=partitions,
            available_us=self.available(topic, source, position),
        )

    def available(self, topic: str, source: SourcePartition, position: int) -> int:
        """``available_at`` of the last row below a position; NO_CLOCK if there is none."""
        if position == 0:
            return NO_CLOCK
        columns = ["__available_at"]
        last = self._log.read_from(topic, source, position - 1, position, columns)
        if last.is_empty():  # a gap was accepted there
            last = self._log.read_from(topic, source, 0, position, columns)
        latest: int | None = last.get_column("__available_at").dt.epoch("us").max()  # type: ignore[assignment]
        return NO_CLOCK if latest is None else latest
