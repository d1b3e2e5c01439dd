"""The ASGI application."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from headrace.base.times import SECOND, duration_us
from headrace.errors import FeaturesUnknownError, HeadraceError
from headrace.serving.http.feast import FeastLookUps, FeastRequest
from headrace.serving.http.guards import GuardedEndpoint, KeyGuard
from headrace.serving.http.messages import FeaturesRequest, response_of
from headrace.serving.http.metrics import HttpMetrics, MeasuringMiddleware
from headrace.serving.http.openapi import document
from headrace.serving.http.options import HttpOptions
from headrace.serving.http.problems import ProblemError, decoded, of_error, of_http_error, too_large, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from headrace.serving.async_features import LookUpClient

PROBES = ("/livez", "/readyz")
"""Paths that need no key."""


def application(
    client: LookUpClient, options: HttpOptions | None = None, *, within: AbstractAsyncContextManager[Any] | None = None
) -> ASGIApp:
    """Return the application over a client, which it does not close. ``within``: a context, open while it runs."""
    own = options or HttpOptions()
    api = _Endpoints(client, own)
    look_ups: dict[str, ASGIApp] = {
        "/features": GuardedEndpoint(api.features, own.limits),
        "/get-online-features": GuardedEndpoint(api.online_features, own.limits),
    }
    routes = [
        *(Route(path, endpoint, methods=["POST"]) for path, endpoint in look_ups.items()),
        Route("/livez", api.livez),
        Route("/readyz", api.readyz),
        Route("/metrics", api.show_metrics),
        Route("/openapi.json", api.openapi),
    ]
    handlers: dict[Any, Any] = {
        HeadraceError: of_error,
        ProblemError: of_error,
        HTTPException: of_http_error,
        Exception: of_error,
    }

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with within or nullcontext():
            yield

    app: ASGIApp = _DirectRoutes(Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan), look_ups)
    if own.api_keys:
        app = KeyGuard(app, own.api_keys, PROBES)
    return MeasuringMiddleware(app, api.metrics, [route.path for route in routes])


class _DirectRoutes:
    """Middleware: sends look-ups directly to their endpoints, which always answer, and all else to the next app."""

    def __init__(self, app: ASGIApp, look_ups: Mapping[str, ASGIApp]) -> None:
        self._app, self._look_ups = app, look_ups

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        app = self._look_ups.get(scope["path"], self._app) if is_post else self._app
        await app(scope, receive, send)


class _Endpoints:
    """The endpoints."""

    def __init__(self, client: LookUpClient, options: HttpOptions) -> None:
        self._client = client
        self._options = options
        self._feast = FeastLookUps(client)
        self._request = msgspec.json.Decoder(FeaturesRequest)
        self._feast_request = msgspec.json.Decoder(FeastRequest)
        self._document = msgspec.json.encode(document(with_keys=bool(options.api_keys)))
        self.metrics = HttpMetrics()

    async def features(self, body: bytes) -> bytes:
        """Answer `/features`."""
        asked = decoded(self._request, body)
        asked.check()
        self._check_size(len(asked.entities), len(asked.views or ()))
        if asked.service is not None:
            found = await self._client.get(asked.service, asked.entities, as_of=asked.as_of, request=asked.request)
        else:
            found = await self._client.get_views(asked.views or (), asked.entities, as_of=asked.as_of)
        self.metrics.looked_up(found)
        return msgspec.json.encode(response_of(found, offsets=asked.offsets))

    async def online_features(self, body: bytes) -> bytes:
        """Answer `/get-online-features`."""
        asked = decoded(self._feast_request, body)
        self._check_size(max(map(len, asked.entities.values()), default=0), len(asked.views))
        found, response = await self._feast.get(asked)
        self.metrics.looked_up(found)
        return msgspec.json.encode(response)

    def _check_size(self, entities: int, views: int) -> None:
        """Raise ProblemError if a request asks for too much. ``views``: how many it names; 0 for a service."""
        limits = self._options.limits
        if entities > limits.entities:
            raise too_large(f"{entities} entities came; at most {limits.entities} are taken (http.entity_limit)")
        if entities * views > limits.keys:
            came = f"{entities} entities of {views} views came, {entities * views} keys"
            raise too_large(f"{came}; at most {limits.keys} are taken (http.key_limit)")

    async def livez(self, _: Request) -> Response:
        """Answer `/livez`: this process answers."""
        return Response(b"ok\n", media_type="text/plain")

    async def readyz(self, _: Request) -> Response:
        """Answer `/readyz`: the store answers and knows the services. Raises the errors of a look-up."""
        try:
            async with asyncio.timeout(duration_us(self._options.limits.deadline) / SECOND):
                for service in self._options.services:
                    await self._client.get(service, [])
                if not self._options.services:
                    await self._client.get_views((), [])
        except TimeoutError:
            raise unavailable("the online store did not answer in time") from None
        except FeaturesUnknownError as error:
            raise unavailable(str(error)) from error
        return Response(b"ok\n", media_type="text/plain")

    async def show_metrics(self, _: Request) -> Response:
        """Answer `/metrics`."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, _: Request) -> Response:
        """Answer `/openapi.json`."""
        return Response(self._document, media_type="application/json")
