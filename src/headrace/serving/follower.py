"""Predicts every request of a stream as it comes: the simplest application. The demo runs it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from headrace.base.times import duration_us, epoch_us
from headrace.bus.event import plain_value, value_of
from headrace.bus.event_reader import EventReader
from headrace.bus.message import headers_of
from headrace.bus.unreadable_records import readable
from headrace.errors import RefusedError, SchemaRegistryUnavailableError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from confluent_kafka import Message

    from headrace.bus.event import Event
    from headrace.bus.producer import EventProducer
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.source_partition import RecordPlace
    from headrace.bus.stream import Stream
    from headrace.bus.tail import TopicTail
    from headrace.serving.answerer import Answerer, Predicted
    from headrace.serving.own_events import RecordPlaces
    from headrace.serving.subscriber import LoadedModel, ModelSubscriber

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ServedRound:
    """The counts of one round. ``version`` is the live version, 0 before version 1.

    ``requests`` is the sum of ``predicted``, which have a score, and ``failed``, which could not be predicted.
    ``logged`` counts the predictions of all versions.
    """

    requests: int
    predicted: int
    logged: int
    version: int
    failed: int = 0


@dataclass(frozen=True)
class RequestTail:
    """The requests to follow: their stream, the field with a request's time, and the records as they come.

    ``places`` makes the places of the requests' records, for a model with a rule for the own event. ``schemas`` are
    those of a schema registry, if the stream's format needs one. ``duplicates`` returns partition and offset of those
    among records that repeat an earlier one, if the stream has ``unique=``.
    """

    stream: Stream
    at: str
    tail: TopicTail
    places: RecordPlaces | None = None
    schemas: SchemaStore | None = None
    duplicates: Callable[[Sequence[Message]], Collection[tuple[int, int]]] | None = None

    def repeated(self, records: Sequence[Message]) -> Collection[tuple[int, int]]:
        """Return partition and offset of the records that repeat an earlier one: no view counts them.

        Raises TransientError while the earlier records cannot be read.
        """
        return self.duplicates(records) if self.duplicates is not None and records else ()

    def is_rejected(self, event: Event, message: Message) -> bool:
        """Return whether the workers reject a request because of its times: then no view counts it."""
        times = {name: value_of(event, name) for name, _ in self.stream.time_bounds}
        if any(time.tzinfo is None for time in times.values()):
            return True
        _, timestamp_ms = message.timestamp()
        tolerance_us = duration_us(self.stream.tolerance)
        return any(
            epoch_us(times[name]) > tolerance_us + (timestamp_ms * 1_000 if bound is None else epoch_us(times[bound]))
            for name, bound in self.stream.time_bounds
        )

    def content(self, event: Event) -> dict[str, Any]:
        """Return the fields of an event as a request has them; those of nested events by names with dots."""
        return {field.name: plain_value(value_of(event, field.name)) for field in self.stream.fields}

    def place(self, message: Message) -> RecordPlace | None:
        """Return the place of a request's record; None if the model has no use for it."""
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if self.places is None or topic is None or partition is None or offset is None:
            return None
        return self.places.place(topic, partition, offset)


class RequestFollower:
    """Reads a request stream from its beginning. ``serve`` predicts the requests that were read and not predicted yet.

    A record that is no request is left out, as workers reject it. So is a duplicate of a request. ``shadow_first``
    keeps the first live version, which then predicts every request too, as a shadow.
    """

    def __init__(
        self,
        requests: RequestTail,
        *,
        subscriber: ModelSubscriber,
        answerer: Answerer,
        producer: EventProducer,
        shadow_first: bool = False,
    ) -> None:
        self._reader = EventReader(requests.stream, requests.schemas)
        self._requests = requests
        self._subscriber = subscriber
        self._answerer = answerer
        self._producer = producer
        self._shadow_first = shadow_first
        self._first: LoadedModel | None = None
        self._pending: list[tuple[dict[str, Any], RecordPlace | None]] = []
        self._unread: Sequence[Message] = ()
        self.received = 0

    def receive(self, timeout_s: float) -> None:
        """Read the requests that have come. Wait at most ``timeout_s`` seconds for the first one.

        While the schema registry does not answer, the requests that need it wait for the next call. So do requests
        whose earlier records cannot be read.
        """
        if not self._unread:
            self._unread = self._requests.tail.poll(timeout_s)
            self.received += len(self._unread)
        read: list[tuple[Event, Message]] = []
        done = 0
        try:
            for record in self._unread:
                read += [(event, record) for event in readable([record], self._read)]  # the others are dead letters
                done += 1
        except SchemaRegistryUnavailableError as error:
            logger.warning("requests wait for their schema", reason=str(error))
        try:
            repeated = self._requests.repeated(self._unread[:done])
        except TransientError as error:
            logger.warning("requests wait, as the records before them cannot be read", reason=str(error))
            time.sleep(timeout_s)
            return
        self._unread = self._unread[done:]
        for event, record in read:
            if (record.partition(), record.offset()) not in repeated:
                self._take(event, record)

    def _read(self, record: Message) -> Event:
        headers = headers_of(record) if self._requests.stream.format.reads_headers else ()
        return self._reader.read(record.value(), headers)

    def receive_all(self, total: int) -> None:
        """Read requests until ``total`` were received since the start."""
        while self.received < total:
            self.receive(1.0)

    def serve(self, as_of: datetime | None = None) -> ServedRound:
        """Predict the pending requests, in the order of their times, and log the answers durably.

        Raises TransientError and FeaturesUnknownError: then the requests are still pending.
        """
        pending = sorted(self._pending, key=lambda pair: epoch_us(pair[0][self._requests.at]))
        current = self._subscriber.current
        if current is None or not pending:
            self._pending = []
            return ServedRound(len(pending), 0, 0, 0 if current is None else current.version)
        self._first = self._first or current
        shadows = [self._first] if self._shadow_first and self._first.version != current.version else []
        requests, records = [request for request, _ in pending], [place for _, place in pending]
        answers: list[Predicted] = self._answerer.predict_many(requests, as_of=as_of, shadows=shadows, records=records)
        self._pending = []
        self._flush()
        failed = sum(answer.error is not None for answer in answers)
        logged = sum(len(answer.shadows) for answer in answers)
        return ServedRound(len(pending), len(answers) - failed, logged, current.version, failed)

    def _take(self, event: Event, message: Message) -> None:
        """Keep a request until it is predicted. Its time orders it, so a request without one is left out."""
        at = value_of(event, self._requests.at)
        if at is None or at.tzinfo is None:
            logger.warning("a request has no time with a zone", field=self._requests.at, offset=message.offset())
        elif self._requests.is_rejected(event, message):  # the workers keep it as a dead letter
            logger.warning("a request's time has no zone, or lies ahead of its record", offset=message.offset())
        else:
            self._pending.append((self._requests.content(event), self._requests.place(message)))

    def _flush(self) -> None:
        """Wait until the answers are on the bus. The broker may refuse some: the others are waited for."""
        while True:
            try:
                self._producer.flush()
            except RefusedError as error:
                self._answerer.lost(error)
            else:
                return
