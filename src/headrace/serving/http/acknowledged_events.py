"""Produces the events of requests, and answers each request only when Kafka has all of its events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from headrace.errors import BusUnavailableError, HeadraceError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.bus.event import Event
    from headrace.bus.producer import EventProducer
    from headrace.bus.stream import Stream


class AcknowledgedEvents:
    """Produces for all requests of one event loop. Requests that come while Kafka is asked share the next flush."""

    def __init__(self, producer: EventProducer) -> None:
        self._producer = producer
        self._waiting: list[_Request] = []
        self._running: asyncio.Task[None] | None = None
        self._is_behind = False

    async def put(self, stream: Stream, events: Sequence[Event]) -> None:
        """Produce events, and return when Kafka has them.

        Raises BusUnavailableError, RefusedError, and TerminalError for an event that cannot be sent. After an error
        Kafka may have some of the events. Events of a request that is cancelled before they are sent are not sent.
        """
        request = _Request(stream, events, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._running is None:
            self._running = asyncio.create_task(self._drain())
        await request.ended

    async def _drain(self) -> None:
        try:
            while self._waiting:
                taken = [each for each in self._waiting if not each.ended.done()]
                self._waiting = []
                for request, error in zip(taken, await asyncio.to_thread(self._produced, taken), strict=True):
                    _end(request.ended, error)
        finally:
            self._running = None

    def _produced(self, requests: Sequence[_Request]) -> list[Exception | None]:
        """Return for each request its error, or None if Kafka has its events."""
        try:
            if self._is_behind:  # what an attempt has left goes first: while Kafka is away, the queue does not grow
                self._producer.flush()
                self._is_behind = False
            errors = [self._sent(each) for each in requests]
            self._producer.flush()
        except RefusedError as error:
            return [error] if len(requests) == 1 else [self._produced([each])[0] for each in requests]
        except BusUnavailableError as error:
            self._is_behind = True
            return [error] * len(requests)
        except Exception as error:  # noqa: BLE001 - each request is answered
            return [error] * len(requests)
        return errors

    def _sent(self, request: _Request) -> Exception | None:
        try:
            for event in request.events:
                self._producer.send(request.stream, event)
        except (BusUnavailableError, RefusedError):
            raise
        except HeadraceError as error:
            return error
        return None


class _Request(NamedTuple):
    """The events of a request, and the future that ends when Kafka has them."""

    stream: Stream
    events: Sequence[Event]
    ended: asyncio.Future[None]


def _end(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():  # the request was cancelled meanwhile
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
