"""The partitions of one worker, and the only place that moves one from phase to phase.

::

    open ──> ASSIGNED ──acquire──> CATCHING_UP ──caught up──> LIVE
                 │                      │                      │
                 └───────refuse────> REFUSED <────refuse───────┘      fence (from any of these) ──> FENCED
                                        │  └──acquire──> CATCHING_UP or LIVE                          │
                                        └<──────────────────────rewind────────────────────────────────┘
    stop (from any of these) ──> STOPPED ──open──> ASSIGNED          release (from any phase) ──> RELEASED
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headrace.streams.plane.partition import OwnedPartition, PartitionPhase, Place, StoppedPartition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.streams.plane.retries import Retries
    from headrace.streams.views.view_partition import ViewPartition

logger = structlog.get_logger(__name__)


class Partitions:
    """Every partition that Kafka assigned to this worker, each in one :class:`PartitionPhase`.

    ``retries`` decides when a refused, fenced or stopped partition is tried again.
    """

    def __init__(self, retries: Retries[Place]) -> None:
        self._retries = retries
        self._by_place: dict[Place, OwnedPartition | StoppedPartition] = {}

    # -- looking; the first two may be called from any thread -----------------------------------------------------

    def phases(self) -> dict[Place, PartitionPhase]:
        """Return the phase of each partition."""
        return {place: partition.phase for place, partition in list(self._by_place.items())}

    def is_read(self, place: Place) -> bool:
        """Return whether the worker reads the partition."""
        return isinstance(self._by_place.get(place), OwnedPartition)

    def owned(self, place: Place) -> OwnedPartition | None:
        """Return the partition if it is read."""
        found = self._by_place.get(place)
        return found if isinstance(found, OwnedPartition) else None

    def all_owned(self) -> list[OwnedPartition]:
        """Return the partitions that are read."""
        return [found for found in self._by_place.values() if isinstance(found, OwnedPartition)]

    def of_topics(self) -> list[OwnedPartition]:
        """Return the partitions of topics that are read: not those of imports."""
        return [owned for owned in self.all_owned() if not owned.source.is_import]

    def written(self) -> list[OwnedPartition]:
        """Return the partitions whose cursors this worker writes now."""
        return [owned for owned in self.all_owned() if owned.is_written]

    def stopped(self) -> list[StoppedPartition]:
        """Return the partitions that are not read."""
        return [found for found in self._by_place.values() if isinstance(found, StoppedPartition)]

    def is_known(self, stopped: StoppedPartition) -> bool:
        """Return whether the partition is already stopped for the same reason."""
        return self._by_place.get(stopped.place) == stopped

    # -- moving from phase to phase -------------------------------------------------------------------------------

    def add(self, opened: OwnedPartition) -> None:
        """Keep a partition that was opened and whose cursors were acquired, or refused."""
        if isinstance(self._by_place.get(opened.place), StoppedPartition):
            logger.info("stopped partition is read again", topic=opened.topic, partition=opened.source.partition)
        self._by_place[opened.place] = opened
        for other in self.all_owned():
            is_extended = other.partition_count != opened.partition_count
            if other.source.topic_id == opened.source.topic_id and is_extended:
                other.extend_topic(opened.partition_count)

    def begin(self, owned: OwnedPartition, behind: Sequence[ViewPartition]) -> None:
        """Note that the partition's cursors are acquired, and that the views ``behind`` have to catch up."""
        owned.behind = list(behind)
        owned.phase = PartitionPhase.CATCHING_UP if behind else PartitionPhase.LIVE

    def caught_up(self, owned: OwnedPartition) -> None:
        """Note that the last view of the partition has caught up."""
        owned.phase = PartitionPhase.LIVE

    def refuse(self, owned: OwnedPartition) -> None:
        """Note that a write was refused or not answered: acquire again later. A fenced partition stays fenced."""
        if owned.phase is not PartitionPhase.FENCED:
            owned.phase = PartitionPhase.REFUSED
        self._retries.later(owned.place)

    def fence(self, owned: OwnedPartition) -> None:
        """Note that another worker has moved the partition's log.

        Its records are dropped until Kafka is read again from D.
        """
        owned.phase = PartitionPhase.FENCED
        self._retries.later(owned.place)

    def rewind(self, owned: OwnedPartition) -> None:
        """Note that Kafka is read again from ``next_offset``. The cursors still have to be acquired."""
        owned.phase = PartitionPhase.REFUSED

    def stop(self, stopped: StoppedPartition) -> None:
        """Stop a partition: do not read it, and try it again later. A new reason is logged as an error."""
        self._retries.later(stopped.place)
        if self.is_known(stopped):
            return
        self._release(stopped.place)
        self._by_place[stopped.place] = stopped
        logger.error(
            "partition stopped: its look-ups say rebuilding until it is read again",
            topic=stopped.topic, partition=stopped.partition, why=stopped.why,
            do="it is tried again by itself" if stopped.gap is None
            else "restore the topic, or accept the loss with `headrace repair --accept-loss`",
        )  # fmt: skip

    def release(self, place: Place) -> OwnedPartition | None:
        """Give up a partition that is not this worker's any more. Return it if it was read, else None."""
        self._retries.forget(place)
        return self._release(place)

    def _release(self, place: Place) -> OwnedPartition | None:
        found = self._by_place.pop(place, None)
        if not isinstance(found, OwnedPartition):
            return None
        found.phase = PartitionPhase.RELEASED
        return found

    # -- trying again ---------------------------------------------------------------------------------------------

    def has_due(self) -> bool:
        """Return whether :meth:`due` would return a partition."""
        return self._retries.has_due()

    def due(self) -> list[OwnedPartition | StoppedPartition]:
        """Return the partitions to try now. The caller gives a partition that fails again to :meth:`later`."""
        return [self._by_place[place] for place in self._retries.due() if place in self._by_place]

    def later(self, place: Place) -> None:
        """Let the partition be tried once more, after a longer wait."""
        self._retries.later(place)

    def confirm(self, owned: OwnedPartition) -> None:
        """Note that a heartbeat was applied, so this worker really owns the partition. Its next wait is short again."""
        self._retries.settled(owned.place)
