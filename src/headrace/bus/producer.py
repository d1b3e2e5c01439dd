"""Producing: ordered, idempotent, with bounded memory and a clear error at the bound."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace.base.stopping import stop_signals
from headrace.base.times import SECOND, duration_us, epoch_us, utc_datetime
from headrace.bus import kafka_clients
from headrace.bus.event import plain_value, value_of
from headrace.bus.missing_rights import missing_right
from headrace.bus.stream_spec import AVAILABLE_AT
from headrace.bus.table import Table
from headrace.bus.written_events import written_events
from headrace.errors import BusUnavailableError, CodecError, DefinitionError, RefusedError, TerminalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    import msgspec
    from confluent_kafka import KafkaError, Message, Producer

    from headrace.base.times import Duration
    from headrace.bus.formats.record_format import RecordWriter
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream


_REFUSED = (
    "MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_TIMESTAMP", "INVALID_RECORD", "POLICY_VIOLATION",
    "TOPIC_AUTHORIZATION_FAILED",
)  # fmt: skip
"""Errors that the broker would give for the same record again."""

_SLICE_S, _WHILE_STOPPING_S = 0.2, 2.0
"""A wait for acknowledgements looks this often whether the process was asked to stop, and is this short then."""


@dataclass(frozen=True)
class ProducerRecord:
    """A message that was not delivered. ``more`` holds its timestamp and headers, if it has them.

    ``delivered`` is called with the message as Kafka has it.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    more: Mapping[str, Any]
    delivered: Callable[[Message], None] | None = None


class EventProducer:
    """Produces events and control messages. For one thread at a time.

    ``headrace.connect().producer()`` makes one. A record that it accepts is delivered, or handed back by RefusedError.
    A delivery that fails for another reason is repeated, after the records that were delivered meanwhile. ``linger`` is
    how long a record may wait for others to travel with it: longer gives more throughput. If the queue is full, a call
    waits up to ``timeout`` and then raises BusUnavailableError. ``schemas`` are those of a schema registry, which
    ``Avro()``, ``JsonSchema()`` and ``Protobuf(…)`` need; ``headrace.connect().producer()`` has those of the settings.

    >>> from datetime import UTC, datetime
    >>> import headrace
    >>> from streams.flights import Departure, departures
    >>> with headrace.connect() as hr:
    ...     producer = hr.producer()
    ...     flight = {"flight_id": 7, "carrier": "B6", "origin": "JFK", "dest": "LAX"}
    ...     producer.send(departures, Departure(**flight, departed_at=datetime.now(UTC), delay_minutes=23.0))
    ...     producer.flush()  # returns when Kafka has it
    """

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        linger: Duration = "1ms",
        timeout: Duration = "30s",
        schemas: SchemaStore | None = None,
    ) -> None:
        self._servers, self._schemas = bootstrap_servers, schemas
        self._timeout_s = duration_us(timeout) / SECOND
        self._linger_ms = duration_us(linger) / 1_000
        self._failed: list[tuple[ProducerRecord, KafkaError]] = []
        self._writers: dict[Any, RecordWriter] = {}
        self._producer = self._connect()

    def _connect(self) -> Producer:
        return kafka_clients.producer(
            self._servers,
            {
                "enable.idempotence": True,
                "linger.ms": self._linger_ms,
                "message.timeout.ms": 0,  # the queue is the bound, not time: a broker that is away loses nothing
                "queue.buffering.max.kbytes": 262_144,
                "queue.buffering.max.messages": 500_000,
            },
        )

    def send(self, stream: Stream, event: msgspec.Struct, *, timestamp: datetime | None = None) -> None:
        """Produce an event to its stream, keyed by the stream's key fields.

        ``timestamp`` is the record's, None for now. A topic with the broker's timestamps ignores it. Raises what
        :meth:`put` raises, DefinitionError if the stream's format is not for producers, and
        SchemaRegistryUnavailableError if it needs a schema registry that does not answer.
        """
        self._accept(_record(stream, event, timestamp, self._writer(stream)))

    def deliver(self, stream: Stream, event: msgspec.Struct, *, timestamp: datetime | None = None) -> tuple[int, int]:
        """Produce an event, wait until Kafka has it, and return its partition and its offset.

        Raises what :meth:`put` and :meth:`flush` raise, and TerminalError if Kafka does not say the offset, which can
        happen after the broker has failed.
        """
        places: list[tuple[int | None, int | None]] = []
        record = _record(stream, event, timestamp, self._writer(stream))
        self._accept(replace(record, delivered=lambda message: places.append((message.partition(), message.offset()))))
        self.flush()
        partition, offset = places[0]
        if partition is None or offset is None or offset < 0:
            said = f"{self._servers} has the event of {stream.topic!r}, but does not say its offset"
            raise TerminalError(said)
        return partition, offset

    def delete(self, table: Table, key: Mapping[str, object], *, timestamp: datetime | None = None) -> None:
        """Produce a tombstone: the row with this key, such as ``{"customer_id": 7}``, is deleted.

        ``timestamp`` is as in :meth:`send`. Raises DefinitionError if the key has other fields than the table's, or if
        a connector writes the table, and what :meth:`put` raises.
        """
        self._writer(table)  # raises if producers do not write this format
        if not table.spec.table or sorted(key) != sorted(table.key_fields):
            what = f"the key {list(table.key_fields)}" if table.spec.table else "no rows: it is no table"
            raise DefinitionError(f"{table.topic!r} has {what}; {dict(key)} cannot be deleted")
        written = table.table_keys.written(key[name] for name in table.key_fields)
        try:
            is_whole = None not in table.table_keys.values(table.table_keys.read(written))
        except CodecError as error:
            raise DefinitionError(f"{table.topic!r}: {dict(key)} cannot be deleted. {error}") from error
        if not is_whole:
            raise DefinitionError(f"{table.topic!r}: {dict(key)} cannot be deleted: a row has no null in its key")
        self.put(table.topic, written, None, timestamp=timestamp)

    def put(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        timestamp: datetime | None = None,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        """Produce bytes. Raises BusUnavailableError if the queue stays full.

        ``timestamp`` is the record's, to the millisecond; None for now.
        Raises TerminalError for a message that cannot be sent, and RefusedError for earlier messages that the broker
        refuses. After each of these errors this message is not in the queue.
        """
        more: dict[str, Any] = {} if timestamp is None else {"timestamp": epoch_us(timestamp) // 1_000}
        if headers:
            more["headers"] = list(headers.items())
        self._accept(ProducerRecord(topic, key, value, more))

    def repeat(self, record: ProducerRecord) -> None:
        """Produce a record that was handed back by RefusedError. Raises what :meth:`put` raises."""
        self._accept(record)

    def _writer(self, stream: Stream) -> RecordWriter:
        key = stream.topic, stream.event, stream.format
        if key not in self._writers:
            self._writers[key] = stream.format.writer(stream.topic, stream.event, self._schemas)
        return self._writers[key]

    def _accept(self, record: ProducerRecord) -> None:
        self._producer.poll(0)
        self._send_again()
        self._produce(record)

    def _produce(self, record: ProducerRecord) -> None:
        from confluent_kafka import KafkaException  # noqa: PLC0415

        try:
            try:
                self._hand_over(record)
            except BufferError:
                self._producer.poll(self._timeout_s)
                self._hand_over(record)
        except BufferError as error:
            message = (
                f"the producer's queue to {self._servers} is full for {self._timeout_s:.0f} s: the broker takes nothing"
            )
            raise BusUnavailableError(message) from error
        except KafkaException as error:
            size = len(record.value or b"") + len(record.key or b"")
            message = f"a message of {size} bytes to {record.topic!r} cannot be produced: {error}"
            raise TerminalError(message) from error

    def _hand_over(self, record: ProducerRecord) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failed.append((record, error))
            elif record.delivered is not None:
                record.delivered(message)

        self._producer.produce(record.topic, record.value, record.key, on_delivery=delivered, **record.more)

    def flush(self) -> None:
        """Wait until everything is acknowledged. Raises BusUnavailableError (everything is kept), or RefusedError."""
        left = self._acknowledged_within()
        if self._failed:
            self._send_again()
            left = self._acknowledged_within()
        if left or self._failed:
            why = f": {self._failed[0][1]}" if self._failed else f" after {self._timeout_s:.0f} s"
            message = f"{left + len(self._failed)} messages are not acknowledged by {self._servers}{why}"
            raise BusUnavailableError(message)

    def _acknowledged_within(self) -> int:
        """Wait for acknowledgements up to the timeout, and return how many are missing.

        A process that was asked to stop waits for :data:`_WHILE_STOPPING_S` at most.
        """
        began = time.monotonic()
        while left := self._producer.flush(_SLICE_S):
            most = _WHILE_STOPPING_S if stop_signals.asked.is_set() else self._timeout_s
            if time.monotonic() - began >= most:
                break
        return left

    def _send_again(self) -> None:
        """Produce again, in their order, the records that were not delivered."""
        if not self._failed:
            return
        self._hand_back_refused()
        if any(error.fatal() for _, error in self._failed):
            self._producer = self._connect()  # this client cannot go on; all its messages have failed
        while self._failed:
            record, _ = self._failed[0]
            try:
                self._produce(record)
            except TerminalError as error:  # its topic may be gone
                del self._failed[0]
                raise RefusedError(str(error), [record]) from error
            del self._failed[0]

    def _hand_back_refused(self) -> None:
        codes = refused_codes()
        refused = [(record, error) for record, error in self._failed if error.code() in codes]
        if refused:
            self._failed = [(record, error) for record, error in self._failed if error.code() not in codes]
            record, error = refused[0]
            said = error.str() + missing_right(error, "Write", record.topic)
            message = f"{self._servers} refuses {len(refused)} messages, first one to {record.topic!r}: {said}"
            lacks_right = error.name() == "TOPIC_AUTHORIZATION_FAILED"
            raise RefusedError(message, [record for record, _ in refused], lacks_right=lacks_right)


def refused_codes() -> set[int]:
    """Return the codes of the errors that the broker would give for the same record again."""
    from confluent_kafka import KafkaError  # noqa: PLC0415

    return {getattr(KafkaError, name) for name in _REFUSED}


def record_of(
    stream: Stream, event: msgspec.Struct, writer: RecordWriter, timestamp: datetime | None = None
) -> ProducerRecord:
    """Return the record of an event, keyed by the stream's key fields. It is not sent.

    Without a ``timestamp`` it has the time at which it is sent.
    """
    return _record(stream, event, timestamp, writer)


def _record(
    stream: Stream, event: msgspec.Struct, timestamp: datetime | None, writer: RecordWriter | None = None
) -> ProducerRecord:
    """Return the record of an event, keyed by the stream's key fields."""
    writer = writer or stream.format.writer(stream.topic, stream.event)
    values = (value_of(event, name) for name in stream.key_fields)
    key = stream.table_keys.written(values) if isinstance(stream, Table) else _record_key(values)
    more: dict[str, Any] = {} if timestamp is None else {"timestamp": epoch_us(timestamp) // 1_000}
    written = written_events(stream.event)
    at = utc_datetime(0) if stream.event_time == AVAILABLE_AT else value_of(event, stream.event_time)
    value, headers = writer.write(event if written is None else written.row(event), at)
    if headers:
        more["headers"] = list(headers.items())
    return ProducerRecord(stream.topic, key, value, more)


def _record_key(values: Iterable[object]) -> bytes | None:
    """Return the key of a record; None if the stream has no key fields."""
    parts = [str(plain_value(value)) for value in values]
    return "|".join(parts).encode() if parts else None
