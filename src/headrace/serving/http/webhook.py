"""A webhook: events that are posted over HTTP are produced to the topic of a stream."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from headrace.bus.event_intake import EventIntake
from headrace.bus.formats.cloud_events import CloudEvents
from headrace.bus.message import problem
from headrace.errors import CodecError, RefusedError, TerminalError, TransientError
from headrace.serving.http.guards import GuardedEndpoint, KeyGuard
from headrace.serving.http.problems import ProblemError, of_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from headrace.bus.event import Event
    from headrace.bus.formats.record_format import Headers
    from headrace.bus.stream import Stream
    from headrace.serving.http.acknowledged_events import AcknowledgedEvents
    from headrace.serving.http.options import RequestLimits

logger = structlog.get_logger(__name__)
_JSON, _STRUCTURED, _BATCH = "application/json", "application/cloudevents+json", "application/cloudevents-batch+json"
_WANTED = (
    f"send JSON ({_JSON}), or CloudEvents 1.0 in structured mode ({_STRUCTURED}, {_BATCH}) or in binary mode (headers "
    f"ce-… and {_JSON})"
)


def webhooks(endpoints: Mapping[str, ASGIApp], tokens: Sequence[str]) -> ASGIApp:
    """Return the application with an endpoint for each path. A request must have one of ``tokens``, if any."""
    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in endpoints.items()]
    handlers: dict[Any, Any] = {HTTPException: _of_http_error, Exception: of_error}
    app: ASGIApp = Starlette(routes=routes, exception_handlers=handlers)
    return KeyGuard(app, tokens, ()) if tokens else app


def _of_http_error(_: Request, error: Exception) -> Response:
    found: Any = error
    detail = f"{found.detail}: POST events to the path of a table [[ingest]] of the server's headrace.toml"
    return ProblemError(found.status_code, "http", detail, found.headers).response()


class PostedEvents:
    """Reads the body of a request as events of one stream."""

    def __init__(self, stream: Stream) -> None:
        self._plain, self._cloud = EventIntake(stream), EventIntake(stream, CloudEvents())

    def read(self, body: bytes, headers: Mapping[str, str]) -> list[Event]:
        """Return the events: of one JSON object, of an array of objects, or of CloudEvents.

        ``headers`` have small letters. Raises ProblemError: 415 for another media type, 400 for a body that is no
        JSON or has an item that is no event. Then none of its events is taken.
        """
        encoding, content = headers.get("content-encoding", "identity"), headers.get("content-type", "")
        kind = content.partition(";")[0].strip().lower()
        if encoding.lower() != "identity":
            raise _unsupported(f"the body has the content-encoding {encoding!r}; send it without")
        if "ce-specversion" in headers:
            if kind and not kind.endswith(("/json", "+json")):
                raise _unsupported(f"the data of the CloudEvent is {content!r}; {_WANTED}")
            return [self._one(self._cloud, body, _cloud_headers(headers))]
        match kind:
            case "application/json":
                return self._objects(self._plain, body, ())
            case "application/cloudevents+json":
                return [self._one(self._cloud, body, _cloud_headers({"content-type": _STRUCTURED}))]
            case "application/cloudevents-batch+json":
                return self._objects(self._cloud, body, _cloud_headers({"content-type": _STRUCTURED}), is_list=True)
        came = f"the content-type {content!r} came" if content else "no content-type came"
        raise _unsupported(f"{came}; {_WANTED}")

    def _objects(self, intake: EventIntake, body: bytes, headers: Headers, *, is_list: bool = False) -> list[Event]:
        """Return the events of an array, or of one object."""
        if not is_list and not body.lstrip().startswith(b"["):
            return [self._one(intake, body, headers)]
        events, wrong = list[Any](), list[str]()
        for number, item in enumerate(_items(body), 1):
            try:
                events.append(intake.read(bytes(item), headers))
            except CodecError as error:
                wrong.append(f"item {number}: {error}")
        if wrong:
            more = f"; {len(wrong) - 1} more items are no events" if len(wrong) > 1 else ""
            raise _no_event(f"{wrong[0]}{more}. None of the {len(events) + len(wrong)} items was taken")
        return events

    def _one(self, intake: EventIntake, body: bytes, headers: Headers) -> Event:
        try:
            return intake.read(body, headers)
        except CodecError as error:
            raise _no_event(f"item 1: {error}") from error


class WebhookEndpoint(GuardedEndpoint):
    """The endpoint of one path. It answers 202 with the number of events when Kafka has all of them.

    ``counted`` gets the status of each answer and the number of events that were taken.
    """

    status, table = HTTPStatus.ACCEPTED, "webhook"

    def __init__(
        self,
        stream: Stream,
        events: AcknowledgedEvents,
        limits: RequestLimits,
        counted: Callable[[int, int], None] = lambda _status, _count: None,
    ) -> None:
        super().__init__(_nothing, limits)
        self._stream, self._events, self._counted = stream, events, counted
        self._posted = PostedEvents(stream)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counted(message["status"], scope.get("headrace_events", 0))
            await send(message)

        await super().__call__(scope, receive, counting)

    async def respond(self, scope: Scope, body: bytes) -> bytes:
        """Produce the events of a body."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        events = self._posted.read(body, headers)
        try:
            await self._events.put(self._stream, events)
        except TransientError as error:  # its text names Kafka's host, so only the log has it
            logger.warning("Kafka does not take the events of a webhook", topic=self._stream.topic, error=str(error))
            raise _away("Kafka has not acknowledged all events: send them again later") from error
        except RefusedError as error:
            logger.warning("Kafka refuses events of a webhook", topic=self._stream.topic, error=str(error))
            raise _away("Kafka refuses an event: the log of the server says why") from error
        except TerminalError as error:
            raise _no_event(f"an event cannot be sent: {error}") from error
        scope["headrace_events"] = len(events)
        return msgspec.json.encode({"accepted": len(events)})

    def late(self, *, has_come: bool) -> ProblemError:
        """Return the problem of a request that took too long."""
        return (
            _away("Kafka has not acknowledged all events in time: send them again")
            if has_come
            else super().late(has_come=False)
        )


async def _nothing(_: bytes) -> bytes:
    return b""


def _items(body: bytes) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(body, type=list[msgspec.Raw])
    except Exception as error:
        detail = f"{problem(error)}; an array of JSON objects is wanted"
        raise ProblemError(HTTPStatus.BAD_REQUEST, "malformed", detail) from error


def _cloud_headers(headers: Mapping[str, str]) -> list[tuple[str, bytes | None]]:
    """Return the headers of HTTP as those of a record: ``ce-id`` is ``ce_id`` there."""
    return [
        (f"ce_{name[3:]}" if name.startswith("ce-") else name, value.encode("latin-1"))
        for name, value in headers.items()
        if name.startswith("ce-") or name == "content-type"
    ]


def _unsupported(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported", detail)


def _no_event(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, "no-event", detail)


def _away(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "not-acknowledged", detail, {"Retry-After": "1"})
