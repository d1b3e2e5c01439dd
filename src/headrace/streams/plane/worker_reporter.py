"""Sends the reports of a worker about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from headrace.bus.worker_report import MemoryReport, WorkerReport
from headrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.base.times import Clock
    from headrace.bus.consumer import BatchConsumer
    from headrace.bus.report_sender import ReportSender
    from headrace.streams.plane.log_flushes import LogFlushes
    from headrace.streams.plane.partition import Place
    from headrace.streams.plane.partitions import Partitions
    from headrace.streams.plane.plane_config import PlaneConfig
    from headrace.streams.plane.plane_metrics import PlaneMetrics


class WorkerReporter:
    """Sends reports to the topic of observations, and gives them to the metrics.

    It has a producer of its own: a report that cannot be sent must not hold up the log, which waits for copies.
    """

    def __init__(
        self,
        config: PlaneConfig,
        clock: Clock,
        *,
        partitions: Partitions,
        flushes: LogFlushes,
        consumer: BatchConsumer,
        sender: ReportSender,
        meter: PlaneMetrics,
    ) -> None:
        self._worker = config.worker
        self._clock, self._partitions, self._flushes = clock, partitions, flushes
        self._started_us = clock()
        self._consumer, self._sender, self._meter = consumer, sender, meter

    def report(self) -> None:
        """Report the present positions of all partitions."""
        ends = self._consumer.ends()
        report = self._report(ends)
        self._sender.send(self._worker.encode(), report.encode())
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
