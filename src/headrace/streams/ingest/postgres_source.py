"""Follows a table or a query of Postgres by its watermark: its new rows are produced to a stream, at least once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from headrace.base.failpoints import failpoint
from headrace.bus.event_intake import EventIntake
from headrace.errors import CodecError, HeadraceError, SettingsError
from headrace.streams.ingest.event_sender import EventSender
from headrace.streams.ingest.ingest_metrics import IngestMetrics
from headrace.streams.ingest.postgres_connection import PostgresConnection
from headrace.streams.ingest.postgres_query import PostgresRows, PostgresStatements
from headrace.streams.ingest.read_bounds import ReadBounds
from headrace.streams.ingest.source_state import RejectedEntry, rejected_entry

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator

    from headrace.bus.producer import EventProducer
    from headrace.bus.stream import Stream
    from headrace.streams.ingest.source_state import SourceState

logger = structlog.get_logger(__name__)
_BATCH = 1_000
"""The rows that are produced before the position is kept. More only if they have one watermark and key."""
_NAMED_ROWS = 20


@dataclass(frozen=True)
class PostgresOptions:
    """A database to follow. ``lag_s`` and ``longest_s`` are those of :class:`ReadBounds`."""

    name: str
    url: str
    rows: PostgresRows
    password: str | None = None
    lag_s: float = 5.0
    longest_s: float = 3_600.0


class WatermarkPosition(msgspec.Struct, frozen=True, kw_only=True):
    """How far a source has come: the watermark and the key of its last row, as Postgres writes them.

    ``of`` says of which rows it is a position.
    """

    of: str
    watermark: str
    key: list[str]
    format: int = 1


class _Row(NamedTuple):
    watermark: str
    key: list[str]
    content: str

    @property
    def at(self) -> str:
        return f"{self.watermark}, {', '.join(self.key)}"


class OpenDatabase(NamedTuple):
    """A connection, and the statements for the columns that are there. ``has_unread``: some rows are never read."""

    connection: PostgresConnection
    statements: PostgresStatements
    has_unread: bool


def opened(options: PostgresOptions, stream: Stream) -> OpenDatabase:
    """Connect to a database, and compare it with the stream. Raises SourceUnavailableError and SettingsError."""
    where, rows = f"[[ingest]] {options.name!r}", options.rows
    connection = PostgresConnection(options.url, where, options.password)
    try:
        there = connection.columns(rows.columns_sql())
        statements = PostgresStatements(stream, rows, there, f"{where}, {rows.query or rows.table}")
        return OpenDatabase(connection, statements, connection.value(statements.unread))
    except HeadraceError:
        connection.close()
        raise


class PostgresSource:
    """Produces the rows of one table or query. Each :meth:`look` takes those that are new.

    The position is kept after Kafka has the rows. So a kill sends up to a batch of rows again. For one thread at a
    time.
    """

    def __init__(
        self,
        options: PostgresOptions,
        stream: Stream,
        producer: EventProducer,
        state: SourceState,
        *,
        metrics: IngestMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options, self._stream, self._state, self._clock = options, stream, state, clock
        self._metrics = metrics or IngestMetrics([options.name])
        self._sender, self._intake = EventSender(stream, producer), EventIntake(stream)
        self._where = f"[[ingest]] {options.name!r}"
        self._bounds = ReadBounds(lag_s=options.lag_s, longest_s=options.longest_s)
        self._position = self._known()
        self._database: OpenDatabase | None = None

    def look(self, stopping: threading.Event) -> None:
        """Produce the rows that are new, as far as no transaction that still runs can add a row before them.

        Raises SourceUnavailableError, BusUnavailableError, SettingsError if the table does not fit the stream, and
        RefusedError if Kafka's user may not write.
        """
        self._sender.begin()
        connection, statements = self._connected()
        bound = self._usable_bound(connection, statements)
        if bound is None:
            return
        is_first = self._position is None
        after = [] if self._position is None else [self._position.watermark, *self._position.key]
        with connection.rows(statements.rows(is_first=is_first), [bound, *after], _BATCH) as rows:
            for batch in _batches(map(_Row._make, rows)):
                self._produce(batch)
                if stopping.is_set():
                    return
        self._bounds.was_read()

    def close(self) -> None:
        """Close the connection."""
        database, self._database = self._database, None
        if database is not None:
            database.connection.close()

    def _known(self) -> WatermarkPosition | None:
        found, wanted = self._state.position(WatermarkPosition), self._options.rows.identity
        if found is not None and found.of != wanted:
            raise SettingsError(
                f"{self._where}: its position is one of {found.of!r}, and the settings say {wanted!r}. "
                f"{self._state.remedy}"
            )
        return found

    def _connected(self) -> tuple[PostgresConnection, PostgresStatements]:
        if self._database is None or not self._database.connection.is_open:
            self.close()
            self._database = opened(self._options, self._stream)
            timed = self._database.statements.is_timed  # the bound of a time is itself as old as the lag
            self._bounds = ReadBounds(lag_s=0.0 if timed else self._options.lag_s, longest_s=self._options.longest_s)
            if self._database.has_unread:
                names = ", ".join((self._options.rows.watermark, *self._options.rows.key))
                logger.warning("rows with null in their watermark or key are never read", source=self._options.name,
                               columns=names)  # fmt: skip
        return self._database.connection, self._database.statements

    def _usable_bound(self, connection: PostgresConnection, statements: PostgresStatements) -> str | None:
        newest = connection.value(statements.newest(self._options.lag_s))
        running = connection.running()  # after the bound was chosen
        if newest is not None:
            self._bounds.add(newest, self._clock(), running)
        bound = self._bounds.usable(self._clock(), running)
        if bound is not None and self._bounds.was_given_up:
            logger.error("a transaction is open for longer than is waited for: rows that it adds can be lost",
                         source=self._options.name, longest_s=self._options.longest_s)  # fmt: skip
        return bound

    def _produce(self, batch: list[_Row]) -> None:
        rejected = [entry for row in batch if (entry := self._sent(row)) is not None]
        place = f"{batch[0].at} to {batch[-1].at}"
        refused = [rejected_entry(place, reason, record.value or b"") for record, reason in self._sender.flush()]
        failpoint("after-ingest-flush")
        rejected += refused
        self._state.reject(rejected)
        for entry in rejected[:_NAMED_ROWS]:
            logger.warning("a row is no event and is rejected", source=self._options.name, at=entry.at,
                           reason=entry.reason, kept=str(self._state.rejected))  # fmt: skip
        last = batch[-1]
        self._position = WatermarkPosition(of=self._options.rows.identity, watermark=last.watermark, key=last.key)
        self._state.keep(self._position)
        self._metrics.produced(self._options.name, len(batch) - len(rejected), len(rejected))
        logger.info("rows are produced", source=self._options.name, rows=len(batch) - len(rejected),
                    rejected=len(rejected), watermark=last.watermark, topic=self._stream.topic)  # fmt: skip

    def _sent(self, row: _Row) -> RejectedEntry | None:
        """Hand a row to Kafka, or return why it is none."""
        content = row.content.encode()
        try:
            reason = self._sender.send(self._intake.read(content))
        except CodecError as error:
            reason = str(error)
        return rejected_entry(row.at, reason, content) if reason else None


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Yield the rows in batches. Rows with one watermark and key stay together: a position is between two of them."""
    batch: list[_Row] = []
    for _, same in groupby(rows, key=itemgetter(0, 1)):
        batch += same
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
