"""The partitions that Kafka assigns to a worker: they are opened, given back, stopped, and tried again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from headrace.errors import OnlineStoreUnavailableError, TransientError
from headrace.streams.plane.partition import OwnedPartition, PartitionPhase, Place, StoppedPartition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.base.waiting import UntilAvailable
    from headrace.bus.consumer import BatchConsumer
    from headrace.bus.formats.record_format import AwaitedSchema
    from headrace.streams.plane.acquisition import Acquisition
    from headrace.streams.plane.folding import Folding
    from headrace.streams.plane.imported_partitions import ImportedPartitions
    from headrace.streams.plane.log_flushes import LogFlushes
    from headrace.streams.plane.partitions import Partitions

logger = structlog.get_logger(__name__)


class Ownership:
    """Opens the partitions that Kafka assigns, gives them back, stops those that cannot be read, and tries again.

    It is the consumer's RebalanceListener. It waits while a store does not answer.
    """

    def __init__(
        self,
        partitions: Partitions,
        *,
        opener: ImportedPartitions,
        acquisition: Acquisition,
        folding: Folding,
        flushes: LogFlushes,
        consumer: BatchConsumer,
        until_available: UntilAvailable,
    ) -> None:
        self._partitions, self._opener, self._acquisition = partitions, opener, acquisition
        self._folding, self._flushes, self._consumer = folding, flushes, consumer
        self._until_available = until_available

    # -- partitions come and go (called by the consumer) --------------------------------------------------------------

    def assigned(self, topic: str, partition: int) -> int | None:
        """Open the log, acquire the views' cursors, and begin to catch up to the log's position D.

        Return the offset to read from, or None if the partition cannot be read.
        """
        offset = self._until_available(self._open, topic, partition)
        self._flushes.collect()  # to open a log ends its commit under way, which may have found fenced partitions
        return offset

    def revoked(self, partitions: Sequence[Place]) -> None:
        """Flush the partitions, then forget them.

        They are released first, so a commit of the next owner no longer fences them.
        """
        self._release_stopped(partitions)
        with suppress(OnlineStoreUnavailableError):  # the cursors are right where they are: the next owner folds more
            self._folding.level(wait=False)
        leaving = self._release(partitions)
        self._flushes.flush({owned.topic for owned in leaving})
        self._forget(leaving)
        self._opener.give_up(topic for topic, partition in partitions if partition == 0)

    def lost(self, partitions: Sequence[Place]) -> None:
        """Forget the partitions without a flush, because another worker may already own them."""
        self._release_stopped(partitions)
        self._forget(self._release(partitions))
        self._opener.give_up(topic for topic, partition in partitions if partition == 0)

    def _open(self, topic: str, partition: int) -> int | None:
        """Return the offset to read from, or None if the partition cannot be read. Raises TransientError."""
        opened = self._opener.open(topic, partition)
        if isinstance(opened, StoppedPartition):
            self._stop(opened)
            return None
        self._acquisition.acquire(opened)
        self._partitions.add(opened)
        logger.info("partition opened", topic=topic, partition=partition, position=opened.next_offset)
        return opened.reads_from

    def _stop(self, stopped: StoppedPartition) -> None:
        if stopped.owned is not None and not self._partitions.is_known(stopped):
            self._acquisition.acquire_suspended(stopped.owned)
        self._partitions.stop(stopped)

    def _release_stopped(self, partitions: Sequence[Place]) -> None:
        for place in partitions:
            if not self._partitions.is_read(place):
                self._partitions.release(place)

    def _release(self, partitions: Iterable[Place]) -> list[OwnedPartition]:
        released = [self._partitions.release(place) for place in partitions]
        return [owned for owned in released if owned is not None]

    def _forget(self, leaving: Sequence[OwnedPartition]) -> None:
        for owned in leaving:
            for view in owned.views:
                view.memory.drop(view.source)
            self._flushes.close(owned)

    # -- partitions that cannot be read on ----------------------------------------------------------------------------

    def stop_failed(self, failures: Mapping[Place, str]) -> None:
        """Stop partitions that Kafka's client cannot read any further. The next try finds out whether there is a gap.

        The rows that were read are committed to the log, and *rebuilding* is written into the cursors.
        """
        self._stop_reading([StoppedPartition(*place, why) for place, why in failures.items()])

    def stop_waiting(self, waiting: Mapping[Place, AwaitedSchema]) -> None:
        """Stop partitions whose next record needs a schema that the registry has not given yet. The others go on."""
        self._stop_reading([StoppedPartition(*place, each.why, awaits=each) for place, each in waiting.items()])

    def _stop_reading(self, stopping: Sequence[StoppedPartition]) -> None:
        if stopping:
            self._folding.level()
        for stopped in stopping:
            place, owned = stopped.place, self._partitions.owned(stopped.place)
            if owned is not None:
                self._consumer.release(*place)
                self._flushes.flush([owned.topic])
                self._until_available(self._acquisition.suspend, owned)
                self._partitions.stop(stopped)
                self._forget([owned])

    # -- trying again -------------------------------------------------------------------------------------------------

    def try_again(self) -> None:
        """Open the stopped partitions and acquire the refused and fenced ones, each when its wait is over."""
        for partition in self._partitions.due():
            if isinstance(partition, StoppedPartition):
                self._open_again(partition)
            else:
                self._acquire_again(partition)

    def _open_again(self, stopped: StoppedPartition) -> None:
        why = None if stopped.awaits is None else self._folding.still_awaited(stopped.topic, stopped.awaits)
        if why is not None:
            self._partitions.stop(replace(stopped, why=why))
            return
        try:
            offset = self._open(*stopped.place)
        except TransientError as error:
            logger.warning("a stopped partition has to wait", place=stopped.place, error=str(error))
            self._partitions.later(stopped.place)
            return
        finally:
            self._flushes.collect()
        if offset is not None:
            self._consumer.resume(*stopped.place, offset)

    def _acquire_again(self, owned: OwnedPartition) -> None:
        if owned.phase is PartitionPhase.FENCED:
            if not self._consumer.seek(*owned.place, owned.next_offset):
                self._partitions.later(owned.place)
                return
            self._partitions.rewind(owned)
        if owned.source.partition == 0:
            self._until_available(self._opener.acquire_again, owned.topic)
        logger.info("acquiring again", topic=owned.topic, partition=owned.source.partition)
        self._until_available(self._acquisition.acquire, owned)
