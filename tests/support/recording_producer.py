"""A producer of events that keeps what it is given, and fails as a test says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.bus.producer import ProducerRecord
from headrace.errors import RefusedError, TerminalError

if TYPE_CHECKING:
    from collections.abc import Callable


class RecordingProducer:
    """Keeps events. ``error`` is raised by the next flush. ``too_large`` says which events cannot be sent at all.

    Kafka refuses the whole batch if ``refused`` is true for one of its events.
    """

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.flushed: list[Any] = []
        self.error: Exception | None = None
        self.too_large: Callable[[Any], bool] = lambda _: False
        self.refused: Callable[[Any], bool] = lambda _: False

    def send(self, stream: Any, event: Any) -> None:
        if self.too_large(event):
            raise TerminalError("a message of 9 bytes cannot be produced: too large")
        self.sent.append(event)

    def repeat(self, record: Any) -> None:
        self.sent.append(record.more["event"])

    def flush(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        batch, self.sent = self.sent, []
        if any(map(self.refused, batch)):
            records = [ProducerRecord("t", None, repr(event).encode(), {"event": event}) for event in batch]
            raise RefusedError("Kafka refuses them: too large for the topic", records)
        self.flushed += batch
