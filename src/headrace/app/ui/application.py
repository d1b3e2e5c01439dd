"""The HTTP application of the live page. It answers GET alone, and changes nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from headrace.app.flow.definition_graph import with_applications
from headrace.app.flow.flow_svg import flow_svg
from headrace.app.snapshot.snapshot import encode
from headrace.app.snapshot.snapshot_metrics import exposition
from headrace.app.ui.pages import PAGES, page
from headrace.app.ui.snapshot_feed import SnapshotFeed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from headrace.app.flow.flow_graph import FlowGraph
    from headrace.app.snapshot.snapshot import Snapshot

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_STATIC = {"page.css": "text/css", "page.js": "text/javascript"}
_WIDE = 60
"""The nodes of a graph beyond which the page shows a part of it: two columns around the node of ``?focus=``."""


class SafeHeaders:
    """Middleware: every answer has the headers that keep a browser from what the page does not need."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        await self._app(scope, receive, with_headers)


class LivePage:
    """The endpoints. ``read`` returns the snapshot of now; it is called in a thread."""

    def __init__(self, read: Callable[[], Snapshot], graph: FlowGraph, namespace: str, viewers: int) -> None:
        self._read, self._graph, self._namespace = read, graph, namespace
        self.feed = SnapshotFeed(lambda: encode(read()), viewers)

    async def show(self, name: str, request: Request) -> Response:
        """Answer with a page."""
        flow = await asyncio.to_thread(self._flow, request.query_params.get("focus")) if name == "now" else ""
        return Response(page(name, self._namespace, flow), media_type="text/html")

    async def snapshot(self, _: Request) -> Response:
        """Answer with the snapshot of now, as `headrace status --json` prints it."""
        return Response(await asyncio.to_thread(lambda: encode(self._read())), media_type="application/json")

    async def metrics(self, _: Request) -> Response:
        """Answer with what no process owns, for Prometheus."""
        return Response(await asyncio.to_thread(lambda: exposition(self._read())), media_type=CONTENT_TYPE_LATEST)

    async def events(self, _: Request) -> Response:
        """Answer with a stream of snapshots, one a second."""
        if self.feed.is_full:
            return PlainTextResponse("too many open pages: see ui.viewers\n", 503, {"retry-after": "10"})
        return StreamingResponse(self.feed.frames(), media_type="text/event-stream")

    def _flow(self, focus: str | None) -> str:
        loaded: dict[str, dict[str, int | None]] = {}
        for each in self._read().applications:
            loaded.setdefault(each.application, {})[each.model] = each.version
        graph, models = with_applications(self._graph, loaded), self._graph.names("model")
        if focus in graph.by_id:
            return flow_svg(graph.focused(focus, 2), f"Flow around {focus}", focus=focus)
        if len(graph.nodes) > _WIDE and models:
            first = f"model:{min(models)}"
            return flow_svg(graph.focused(first, 2), f"Flow around {first}", focus=first)
        return flow_svg(graph, f"Flow of {self._namespace}")


def live_page(
    read: Callable[[], Snapshot], graph: FlowGraph, *, namespace: str, hosts: Sequence[str], viewers: int = 100
) -> Starlette:
    """Return the application. It answers requests for these hosts alone, on any port."""
    own = LivePage(read, graph, namespace, viewers)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        frames = asyncio.create_task(own.feed.run())
        yield
        frames.cancel()
        with suppress(asyncio.CancelledError):
            await frames

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    routes = [
        *(Route("/" if name == "now" else f"/{name}", partial(own.show, name), methods=["GET"]) for name in PAGES),
        *(Route(f"/static/{name}", _file(name, kind), methods=["GET"]) for name, kind in _STATIC.items()),
        Route("/snapshot.json", own.snapshot, methods=["GET"]),
        Route("/events", own.events, methods=["GET"]),
        Route("/metrics", own.metrics, methods=["GET"]),
        Route("/livez", livez, methods=["GET"]),
    ]
    guards = [Middleware(SafeHeaders), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)]
    return Starlette(routes=routes, middleware=guards, lifespan=lifespan)


def _file(name: str, kind: str) -> Callable[[Request], Response]:
    content = files("headrace.app.ui").joinpath("static", name).read_bytes()

    def answer(_: Request) -> Response:
        return Response(content, media_type=kind)

    return answer
