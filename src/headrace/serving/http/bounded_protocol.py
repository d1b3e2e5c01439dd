"""One connection to the server, within bounds: so that nobody can keep others out by what they send, or do not send."""

from __future__ import annotations

import resource
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.base.times import SECOND, duration_us
from headrace.serving.http.options import DEFAULT_LIMITS
from headrace.serving.http.problems import MEDIA_TYPE, ProblemError

if TYPE_CHECKING:
    import asyncio

_LEAST_CONNECTIONS = 16
_LINGER_S = 1.0


class BoundedConfig(uvicorn.Config):
    """The configuration of a server whose connections have limits. ``waiting`` are those without a request, in order.

    The first of them has waited longest. It is closed when a new connection comes and there are too many.
    """

    limits = DEFAULT_LIMITS

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, http=BoundedProtocol, ws="none", **options)
        self.waiting: dict[BoundedProtocol, None] = {}

    @property
    def most_connections(self) -> int:
        """The largest number of connections: the limit, or half of the files that the process may open."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(_LEAST_CONNECTIONS, min(self.limits.connections, files // 2))


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on the bytes and the time of a head, on the time of a request, and on connections.

    A head that is too large gets 431, one that is too slow 408. A connection without a request counts as waiting.
    """

    def __init__(self, config: BoundedConfig, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self._limits, self._waiting, self._most = config.limits, config.waiting, config.most_connections
        self._head_s = duration_us(config.limits.head_timeout) / SECOND
        self._answered_s = duration_us(config.limits.answered) / SECOND
        self._timer: asyncio.TimerHandle | None = None
        self._in_head, self._has_begun, self._is_refused = False, False, False
        self._head_bytes, self._open_bytes = 0, 0  # of the head's finished parts, and of the part that is coming

    # -- the connection -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection. If there are too many, the one that has waited longest gives way."""
        super().connection_made(transport)
        if len(self.connections) > self._most and not self._make_room():
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "every connection is in use: try again later")
            transport.close()
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._waiting.pop(self, None)
        self._stop_timer()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Let the connection be: the server answers what comes on it with ``connection: close``, or it ends by time.

        A client that is about to send would lose its request if an idle connection were closed now.
        """

    def _make_room(self) -> bool:
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        self._waiting.pop(oldest)
        oldest.transport.abort()
        return True

    def _wait(self) -> None:
        self._waiting[self] = None
        self._start_timer()

    # -- the head of a request ----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes. The bytes of a head are counted."""
        if self._is_refused:
            return
        if self._timer is None:  # a keep-alive connection, which uvicorn does not watch from now on
            self._start_timer()
        self._has_begun = False
        super().data_received(data)
        if self._in_head and not self._has_begun:
            self._open_bytes += len(data)
        self._check_head()

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head, self._has_begun = True, True
        self._head_bytes = self._open_bytes = 0
        if not self._is_answering:
            self._start_timer()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the URL. One that is too long is not kept."""
        self._head_bytes += len(url)
        if self._head_bytes <= self._limits.head_bytes:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. One beyond the limit is not kept."""
        self._head_bytes, self._open_bytes = self._head_bytes + len(name) + len(value), 0
        if self._head_bytes <= self._limits.head_bytes:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, unless its head was too large."""
        self._check_head()
        self._in_head = False
        if self._is_refused:
            return
        self._waiting.pop(self, None)
        self._start_timer(self._answered_s)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        if not self._is_refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request. The rest of a body that nobody reads has the time of a head."""
        super().on_response_complete()
        if self.transport.is_closing() or self.pipeline or self._in_head:
            return
        self._waiting[self] = None
        if self.cycle.more_body:
            self._start_timer()
        elif self.transport.get_write_buffer_size():
            self._start_timer(self._answered_s)  # the client has not read its answer
        else:
            self._stop_timer()  # uvicorn's own time for keep-alive runs

    def _check_head(self) -> None:
        largest = self._limits.head_bytes
        if not self._is_refused and self._head_bytes + (self._open_bytes if self._in_head else 0) > largest:
            detail = f"the head of the request has more than {largest} bytes (http.head_limit)"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", detail)

    # -- time ---------------------------------------------------------------------------------------------------------

    def _start_timer(self, seconds: float | None = None) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self._head_s if seconds is None else seconds, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        """End a connection whose time is over. A head of which something has come gets an answer."""
        self._timer = None
        if not self._in_head or self._is_refused:
            self.transport.abort()
            return
        detail = f"the head of the request did not come within {self._head_s:g} s (http.head_timeout)"
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "too-slow", detail)

    @property
    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _refuse(self, status: int, kind: str, detail: str) -> None:
        """Answer with a problem, unless an answer is on its way, and close.

        Bytes that still come are read for a moment and dropped. Otherwise the system would take the answer back.
        """
        self._is_refused = True
        if self._is_answering:
            self.cycle.keep_alive = False  # the connection ends with that answer
            self._start_timer(self._answered_s)
            return
        body = msgspec.json.encode(ProblemError(status, kind, detail).problem)
        head = (
            f"HTTP/1.1 {int(status)} {HTTPStatus(status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._start_timer(_LINGER_S)
        else:
            self.transport.close()
