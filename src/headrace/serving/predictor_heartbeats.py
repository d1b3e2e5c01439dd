"""What a predictor says of itself: the version that answers, the version that should, and what it has answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from headrace.base.redaction import without_secrets
from headrace.base.times import Clock, epoch_us, wall_clock
from headrace.bus.heartbeats import EVERY_US, ApplicationHeartbeat
from headrace.version import __version__

if TYPE_CHECKING:
    from headrace.bus.report_sender import HeartbeatSender
    from headrace.serving.answer_counts import CountingAnswerer
    from headrace.serving.subscriber import ModelSubscriber

_LONGEST_ERROR = 500


class PredictorHeartbeats:
    """The state of one predictor of an application's process. Safe from any thread.

    ``is_driven``: the subscriber has no thread, and follows when it is told to. Then it is no error that it waits.
    """

    def __init__(
        self,
        application: str,
        model: str,
        subscriber: ModelSubscriber,
        answerer: CountingAnswerer,
        *,
        is_driven: bool = False,
        clock: Clock = wall_clock,
    ) -> None:
        self._application, self._model = application, model
        self._subscriber, self._answerer, self._clock = subscriber, answerer, clock
        self._started_us, self._is_driven = clock(), is_driven

    def sender(self, bootstrap_servers: str, topic: str) -> HeartbeatSender:
        """Return what sends its heartbeats. The first one is sent with its ``start``."""
        from headrace.bus.report_sender import HeartbeatSender, ReportSender, process_name  # noqa: PLC0415

        process = process_name()
        sender = HeartbeatSender(
            ReportSender(bootstrap_servers, topic), f"{process} {self._model}", lambda: self.state(process)
        )
        self._subscriber.changed = sender.beat
        return sender

    def state(self, process: str) -> ApplicationHeartbeat:
        """Return the heartbeat as it is now."""
        current, status = self._subscriber.current, self._subscriber.status
        loaded_at = self._subscriber.loaded_at
        return ApplicationHeartbeat(
            process=process,
            application=self._application,
            release=__version__,
            model=self._model,
            started_us=self._started_us,
            observed_us=self._clock(),
            every_us=EVERY_US,
            predicted=self._answerer.counts.predicted,
            failed=self._answerer.failures,
            version=UNSET if current is None else current.version,
            event_id=UNSET if current is None else current.event.id,
            loaded_us=UNSET if current is None or loaded_at is None else epoch_us(loaded_at),
            wanted=UNSET if status.wanted is None else status.wanted,
            error=(not self._is_driven and without_secrets(status.error, _LONGEST_ERROR)) or UNSET,
        )
