"""The data plane: exactly once from Kafka to Redis and the event log.

docs/reference/exactly-once.md states the protocol. One thread reads and folds; writes to the store and commits to the
log run at the same time on threads of their own. The log is the truth: Kafka is read from the log's position D. A view
whose cursor is behind D catches up from the log, between the batches of the others. A view whose cursor is beyond D
leaves out the rows that it has folded already.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from headrace.base.loop_pulse import LoopPulse
from headrace.base.waiting import UntilAvailable
from headrace.bus.consumer import BatchConsumer
from headrace.bus.control_topics import ControlTopics
from headrace.bus.kafka_clients import admin
from headrace.bus.producer import EventProducer
from headrace.bus.report_sender import ReportSender
from headrace.streams.plane.acquisition import Acquisition
from headrace.streams.plane.catch_up import CatchUp
from headrace.streams.plane.folding import Folding
from headrace.streams.plane.followed_views import FollowedViews, ViewDeployer
from headrace.streams.plane.housekeeping import Housekeeping, Scavenger
from headrace.streams.plane.imported_partitions import ImportedPartitions
from headrace.streams.plane.log_flushes import LogFlushes
from headrace.streams.plane.logged_stream import LoggedStream
from headrace.streams.plane.ownership import Ownership
from headrace.streams.plane.partition_opener import PartitionOpener
from headrace.streams.plane.partitions import Partitions
from headrace.streams.plane.plane_config import PlaneConfig, PlaneEnvironment
from headrace.streams.plane.plane_loop import PlaneLoop, PlaneParts, PlaneSignals
from headrace.streams.plane.plane_metrics import PlaneMetrics
from headrace.streams.plane.rejected_copies import RejectedCopies
from headrace.streams.plane.retries import Retries
from headrace.streams.plane.worker_reporter import WorkerReporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.features.online.store import OnlineStore
    from headrace.streams.plane.followed_views import ViewDefinitions
    from headrace.streams.plane.partition import PartitionPhase, Place

_ENVIRONMENT = PlaneEnvironment()


class DataPlane:
    """Folds and logs every partition that Kafka assigns to it.

    One thread calls :meth:`run`, which returns after :meth:`stop`. ``definitions`` has the views to fold.
    """

    def __init__(
        self,
        config: PlaneConfig,
        streams: Sequence[Stream],
        definitions: ViewDefinitions,
        store: OnlineStore,
        log: EventLog,
        *,
        environment: PlaneEnvironment = _ENVIRONMENT,
        meter: PlaneMetrics | None = None,
    ) -> None:
        self._config, self._streams, self._definitions = config, streams, definitions
        self._store, self._log, self._environment = store, log, environment
        self._meter = meter or PlaneMetrics()
        self._signals = PlaneSignals(stop=threading.Event(), flush=threading.Event())
        self.pulse = LoopPulse()
        """Whether the loop moves, or waits for a store."""
        self._until_available = UntilAvailable(self._signals.stop, self.pulse.moved)
        self._partitions = Partitions(
            Retries(
                config.reacquire_s,
                config.reacquire_most_s,
                monotonic=environment.monotonic,
                chance=environment.chance,
            )
        )

    def run(self) -> None:
        """Consume until stopped. Flush everything before it returns, or raise the error that made this impossible."""
        with self._opened() as loop:
            while not self._signals.stop.is_set():
                self.pulse.moved()
                loop.step()

    # -- from any thread ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask the loop to end."""
        self._signals.stop.set()

    def flush_soon(self) -> None:
        """Ask for a commit of everything that was sent before this call."""
        self._signals.flush.set()

    def leads(self, topic: str) -> bool:
        """Return whether this worker reads the topic's partition 0. While it moves, two workers may read it."""
        return self._partitions.is_read((topic, 0))

    def phases(self) -> Mapping[Place, PartitionPhase]:
        """Return the phase of each partition that Kafka has assigned to it."""
        return self._partitions.phases()

    # -- making the parts ---------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self) -> Iterator[PlaneLoop]:
        """Wait for the stores, and make the loop. At the end close every part, even if another part raises an error."""
        self._until_available(self._definitions.publish)
        with ExitStack() as closing:
            streams: dict[str, LoggedStream] = {}
            for stream in self._streams:
                opened = self._until_available(
                    LoggedStream.open, stream, self._log, self._environment.monotonic, self._environment.schemas
                )
                streams[stream.topic] = opened
                closing.callback(opened.flusher.shutdown)
            catch_up = CatchUp(self._store, streams, piece_rows=self._config.catch_up_rows)
            closing.callback(catch_up.close)
            reports = ReportSender(self._config.bootstrap_servers, ControlTopics(self._config.namespace).observations)
            closing.callback(reports.close)
            parts = self._parts(streams, catch_up, reports)
            closing.callback(parts.folding.close)
            closing.callback(parts.imported.close)
            closing.callback(parts.consumer.close)  # the first to be closed
            parts.consumer.subscribe(list(streams), parts.ownership)
            yield PlaneLoop(self._config, parts, self._signals, self._environment.monotonic)

    def _parts(self, streams: Mapping[str, LoggedStream], catch_up: CatchUp, reports: ReportSender) -> PlaneParts:
        """Make the parts in order. Each part uses the parts before it."""
        config, store, environment = self._config, self._store, self._environment
        partitions, until_available, meter = self._partitions, self._until_available, self._meter
        producer = EventProducer(config.bootstrap_servers)
        consumer = BatchConsumer(config.bootstrap_servers, config.group)
        copies, views = RejectedCopies(producer), FollowedViews(self._definitions)
        opener = PartitionOpener(admin(config.bootstrap_servers), store, streams, views.by_topic)
        flushes = LogFlushes(streams, partitions, copies, until_available, meter)
        acquisition = Acquisition(
            partitions, store, catch_up, new_owner=environment.new_owner, publish=self._definitions.publish
        )
        imported = ImportedPartitions(
            partitions, self._log, store,
            opener=opener, acquisition=acquisition, flushes=flushes, monotonic=environment.monotonic,
        )  # fmt: skip
        folding = Folding(
            streams, store, partitions, copies,
            until_available=until_available, monotonic=environment.monotonic, meter=meter,
        )  # fmt: skip
        ownership = Ownership(
            partitions, opener=imported, acquisition=acquisition, folding=folding, flushes=flushes, consumer=consumer,
            until_available=until_available,
        )  # fmt: skip
        housekeeping = Housekeeping(
            partitions, folding,
            deployer=ViewDeployer(views, partitions, opener, acquisition, until_available),
            scavenger=Scavenger(store, views),
            reporter=WorkerReporter(
                config, environment.clock, partitions=partitions, flushes=flushes, consumer=consumer,
                sender=reports, meter=meter,
            ),
            until_available=until_available, memory_bytes=config.memory_bytes,
        )  # fmt: skip
        return PlaneParts(consumer, folding, flushes, partitions, acquisition, ownership, housekeeping, imported)
