"""The loop of a data plane: one turn after the other, in the steps of docs/reference/exactly-once.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message

    from headrace.bus.consumer import BatchConsumer
    from headrace.streams.plane.acquisition import Acquisition
    from headrace.streams.plane.folding import Folding
    from headrace.streams.plane.housekeeping import Housekeeping
    from headrace.streams.plane.imported_partitions import ImportedPartitions
    from headrace.streams.plane.log_flushes import LogFlushes
    from headrace.streams.plane.ownership import Ownership
    from headrace.streams.plane.partitions import Partitions
    from headrace.streams.plane.plane_config import PlaneConfig

_ON_ITS_WAY_S, _ALONE_AFTER_S = 0.01, 1.0
"""A requested flush waits this long for records that were sent before it. After this time without records, slices of a
catch-up are larger, as no live view waits for them."""


@dataclass(frozen=True)
class PlaneSignals:
    """The requests of other threads to the loop: to end, and to commit everything that is buffered."""

    stop: threading.Event
    flush: threading.Event


@dataclass(frozen=True)
class PlaneParts:
    """The parts of a running plane: what reads, folds, commits, and keeps the partitions."""

    consumer: BatchConsumer
    folding: Folding
    flushes: LogFlushes
    partitions: Partitions
    acquisition: Acquisition
    ownership: Ownership
    housekeeping: Housekeeping
    imported: ImportedPartitions


class PlaneLoop:
    """Runs the turns, on one thread. Writes, commits and reads of the log run on threads of their own."""

    def __init__(
        self, config: PlaneConfig, parts: PlaneParts, signals: PlaneSignals, monotonic: Callable[[], float]
    ) -> None:
        self._config, self._parts, self._signals, self._monotonic = config, parts, signals, monotonic
        self._next_flush = self._next_beat = self._last_read = 0.0
        self._has_slices = False

    def step(self) -> None:
        """Run one turn."""
        began = self._monotonic()

        # 1. Read: a batch is polled. During this call, partitions are assigned, revoked and lost.
        messages = self._poll(0.0 if self._has_slices else self._config.poll_s)

        # 2. Flush: the result of an ended commit is processed: it shows fenced partitions. A commit that is due begins.
        self._flush_if_due()

        # 3. Keep house: each second imports, deployments, heartbeats, expiry and the report.
        self._beat_if_due()

        # 4. Fold: the batch is judged, buffered, folded and written. Without a batch the cursors are levelled.
        self._fold(messages)

        # 5. Flush on request: what was sent before the request is read and committed.
        self._flush_if_requested()

        # 6. Stop: partitions that Kafka's client cannot read any further, or that wait for a schema, are stopped.
        self._parts.ownership.stop_failed(self._parts.consumer.failures())
        self._parts.ownership.stop_waiting(self._parts.folding.waiting())

        # 7. Try again: stopped partitions are opened, refused and fenced ones are acquired, each when its wait is over.
        self._try_again()

        # 8. Catch up: views that are behind fold more rows, a slice at a time, for as long as steps 1 to 7 took.
        self._has_slices = self._catch_up(self._monotonic() - began)

    # -- reading and folding ------------------------------------------------------------------------------------------

    def _poll(self, timeout_s: float) -> Sequence[Message]:
        return self._parts.consumer.poll(self._config.batch_rows, timeout_s)

    def _fold(self, messages: Sequence[Message]) -> None:
        if messages:
            self._last_read = self._monotonic()
            self._parts.folding.fold(messages)
            self._parts.housekeeping.bound_memory()
        else:
            self._parts.folding.level()
        self._parts.folding.pass_by(self._parts.consumer.reached())

    # -- flushing -----------------------------------------------------------------------------------------------------

    def _flush_if_due(self) -> None:
        """Begin a commit if it is due. At this step the store has usually answered the write of the last batch."""
        pending = self._parts.flushes.pending
        if self._monotonic() >= self._next_flush or pending >= self._config.flush_rows:
            self._flush(wait=pending >= self._config.most_pending)
        else:
            self._parts.flushes.collect()

    def _flush_if_requested(self) -> None:
        if self._signals.flush.is_set():
            self._signals.flush.clear()
            messages = self._poll(_ON_ITS_WAY_S)
            self._parts.flushes.collect()  # a partition that is fenced takes none of them
            self._fold(messages)
            self._flush(wait=True)

    def _flush(self, *, wait: bool) -> None:
        self._next_flush = self._monotonic() + self._config.flush_s
        self._parts.folding.level()  # D never passes a cursor: the next owner has nothing to catch up with
        if wait:
            self._parts.flushes.flush()
        else:
            self._parts.flushes.start()
        self._commit_offsets()

    def _commit_offsets(self) -> None:
        positions = [
            (topic, source.partition, position)
            for topic, by_source in self._parts.flushes.positions().items()
            for source, position in by_source.items()
            if self._parts.partitions.is_read((topic, source.partition))
        ]
        if positions:
            self._parts.consumer.commit(positions)

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _beat_if_due(self) -> None:
        now = self._monotonic()
        if now >= self._next_beat:
            self._next_beat = now + self._config.heartbeat_s
            self._parts.imported.step()
            self._parts.housekeeping.beat()

    def _try_again(self) -> None:
        if self._parts.partitions.has_due():
            self._parts.folding.settle()
            self._parts.housekeeping.deploy()
            self._parts.ownership.try_again()

    def _catch_up(self, for_s: float) -> bool:
        """Fold slices for about ``for_s`` seconds, at least one. Return whether there is more to fold at once."""
        until = self._monotonic() + for_s
        while self._parts.acquisition.advance(alone=self._monotonic() - self._last_read > _ALONE_AFTER_S):
            self._parts.housekeeping.bound_memory()
            if self._config.catch_up_pause_s:
                self._signals.stop.wait(self._config.catch_up_pause_s)
            if self._monotonic() >= until:
                return True
        return False
