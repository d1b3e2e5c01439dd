"""One stream as a worker logs it: its definition, its table, the fenced handle, and the buffer of unflushed rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.flusher import Flusher
from headrace.streams.plane.seen_ids import seen_before
from headrace.streams.plane.table_judge import judge_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.streams.plane.record_judge import RecordJudge
    from headrace.streams.plane.seen_ids import SeenIds


@dataclass(frozen=True)
class LoggedStream:
    """A stream and its part of the event log. While a commit is under way, only ``flusher`` may use ``writer``."""

    stream: Stream
    log: EventLog
    writer: LogWriter
    flusher: Flusher
    judge: RecordJudge

    @staticmethod
    def open(
        stream: Stream, log: EventLog, monotonic: Callable[[], float], schemas: SchemaStore | None = None
    ) -> LoggedStream:
        """Open the stream's table; make it if it does not exist. Raises OfflineStoreUnavailableError."""
        writer = LogWriter(log, stream)
        return LoggedStream(stream, log, writer, Flusher(writer, monotonic), judge_of(stream, schemas))

    @property
    def topic(self) -> str:
        """The stream's topic."""
        return self.stream.topic

    def clock_us(self, source: SourcePartition, position: int) -> int:
        """Return ``available_at`` of the last logged row below a position, NO_CLOCK if there is none.

        Raises OfflineStoreUnavailableError.
        """
        return self.log.clock_us(self.topic, source, position)

    def seen(self, source: SourcePartition, position: int, clock_us: int) -> SeenIds | None:
        """Return the ids that a partition has had below a position, where its clock is this; None without ``unique=``.

        Raises OfflineStoreUnavailableError.
        """
        return seen_before(self.log, self.stream, source, position, clock_us)
