"""Sending what a worker observes of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headrace.bus.producer import RefusedError
from headrace.bus.topics import OBSERVATIONS
from headrace.errors import TransientError
from headrace.streams.plane.worker_report import WorkerReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.base.times import Clock
    from headrace.bus.producer import EventProducer
    from headrace.streams.plane.flusher import Flusher
    from headrace.streams.plane.partition import OwnedPartition, StoppedPartitions

logger = structlog.get_logger(__name__)


class Reporter:
    """Tells ``headrace.observations`` under one worker's name, by its clock."""

    def __init__(self, worker: str, clock: Clock) -> None:
        self._worker, self._clock = worker, clock

    def observe(
        self, partitions: Iterable[OwnedPartition], flushers: Mapping[str, Flusher], stopped: StoppedPartitions
    ) -> WorkerReport:
        """What there is to say now."""
        positions = {topic: flusher.positions() for topic, flusher in flushers.items()}
        observed = [own.observed(positions[own.topic].get(own.source, 0)) for own in partitions]
        return WorkerReport(self._worker, self._clock(), observed, stopped.observed())

    def send(self, producer: EventProducer, observation: WorkerReport) -> None:
        """One that Kafka does not take is no loss: the next one says the same and more."""
        try:
            producer.put(OBSERVATIONS, self._worker.encode(), observation.encode())
        except (TransientError, RefusedError) as error:
            logger.warning("no observation sent", error=str(error))
