"""Sends the reports of a worker about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from msgspec import UNSET

from headrace.bus.control_topics import ControlTopics
from headrace.bus.worker_report import MemoryReport, WorkerReport
from headrace.errors import RefusedError, TransientError
from headrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.base.times import Clock
    from headrace.bus.consumer import BatchConsumer
    from headrace.bus.producer import EventProducer
    from headrace.streams.plane.log_flushes import LogFlushes
    from headrace.streams.plane.partition import Place
    from headrace.streams.plane.partitions import Partitions
    from headrace.streams.plane.plane_config import PlaneConfig
    from headrace.streams.plane.plane_metrics import PlaneMetrics

logger = structlog.get_logger(__name__)


class WorkerReporter:
    """Sends reports to the topic of observations, and gives them to the metrics."""

    def __init__(
        self,
        config: PlaneConfig,
        clock: Clock,
        *,
        partitions: Partitions,
        flushes: LogFlushes,
        consumer: BatchConsumer,
        producer: EventProducer,
        meter: PlaneMetrics,
    ) -> None:
        self._worker, self._topic = config.worker, ControlTopics(config.namespace).observations
        self._clock, self._partitions, self._flushes = clock, partitions, flushes
        self._started_us = clock()
        self._consumer, self._producer, self._meter = consumer, producer, meter

    def report(self) -> None:
        """Report the present positions of all partitions."""
        ends = self._consumer.ends()
        report = self._report(ends)
        self._send(report)
        self._meter.reported(report, ends)

    def _report(self, ends: Mapping[Place, int]) -> WorkerReport:
        positions = self._flushes.positions()
        return WorkerReport(
            self._worker,
            self._clock(),
            [
                own.report(positions[own.topic].get(own.source, 0), ends.get(own.place))
                for own in self._partitions.of_topics()
            ],
            [each.report() for each in self._partitions.stopped()],
            memory=self._memory() or UNSET,
            release=__version__,
            started_us=self._started_us,
        )

    def _memory(self) -> dict[str, MemoryReport]:
        """Return what is kept of each view. All partitions of a view share one memory."""
        memories = {view.view: view.memory for own in self._partitions.all_owned() for view in own.views}
        return {view: MemoryReport(memory.entities, memory.nbytes) for view, memory in memories.items()}

    def _send(self, report: WorkerReport) -> None:
        """Send a report. If Kafka does not take it, nothing is lost: the next report has newer positions."""
        try:
            self._producer.put(self._topic, self._worker.encode(), report.encode())
        except (TransientError, RefusedError) as error:
            logger.warning("no observation sent", error=str(error))
