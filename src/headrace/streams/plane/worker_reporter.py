"""Sends the reports of a worker about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headrace.bus.control_topics import ControlTopics
from headrace.bus.worker_report import WorkerReport
from headrace.errors import RefusedError, TransientError

if TYPE_CHECKING:
    from headrace.base.times import Clock
    from headrace.bus.consumer import BatchConsumer
    from headrace.bus.producer import EventProducer
    from headrace.streams.plane.log_flushes import LogFlushes
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
        self._consumer, self._producer, self._meter = consumer, producer, meter

    def report(self) -> None:
        """Report the present positions of all partitions."""
        report = self._report()
        self._send(report)
        self._meter.reported(report, self._consumer.ends())

    def _report(self) -> WorkerReport:
        positions = self._flushes.positions()
        read = [own.report(positions[own.topic].get(own.source, 0)) for own in self._partitions.of_topics()]
        return WorkerReport(self._worker, self._clock(), read, [each.report() for each in self._partitions.stopped()])

    def _send(self, report: WorkerReport) -> None:
        """Send a report. If Kafka does not take it, nothing is lost: the next report has newer positions."""
        try:
            self._producer.put(self._topic, self._worker.encode(), report.encode())
        except (TransientError, RefusedError) as error:
            logger.warning("no observation sent", error=str(error))
