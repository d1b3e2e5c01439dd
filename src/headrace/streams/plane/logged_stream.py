"""One stream as a worker logs it: its definition, its table, the fenced handle, and the buffer of unflushed rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.flusher import Flusher

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog


@dataclass(frozen=True)
class LoggedStream:
    """A stream and its part of the event log. While a commit is under way, only ``flusher`` may use ``writer``."""

    stream: Stream
    log: EventLog
    writer: LogWriter
    flusher: Flusher

    @staticmethod
    def open(stream: Stream, log: EventLog, monotonic: Callable[[], float]) -> LoggedStream:
        """Open the stream's table; make it if it does not exist. Raises OfflineStoreUnavailableError."""
        writer = LogWriter(log, stream)
        return LoggedStream(stream, log, writer, Flusher(writer, monotonic))

    @property
    def topic(self) -> str:
        """The stream's topic."""
        return self.stream.topic

    def clock_us(self, source: SourcePartition, position: int) -> int:
        """Return ``available_at`` of the last logged row below a position, NO_CLOCK if there is none.

        Raises OfflineStoreUnavailableError.
        """
        if position == 0:
            return NO_CLOCK
        columns = ["__available_at"]
        last = self.log.read_from(self.topic, source, position - 1, position, columns)
        if last.is_empty():  # a gap was accepted there
            last = self.log.read_from(self.topic, source, 0, position, columns)
        latest: int | None = last.get_column("__available_at").dt.epoch("us").max()  # type: ignore[assignment]
        return NO_CLOCK if latest is None else latest
