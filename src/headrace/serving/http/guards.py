"""The checks before a look-up: the API key, the size of the body, the deadline."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from headrace.base.times import SECOND, duration_us
from headrace.errors import HeadraceError
from headrace.serving.http.problems import ProblemError, problem_of, too_large

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from headrace.serving.http.options import RequestLimits


class KeyGuard:
    """Middleware: lets a request pass if it has one of the keys, or if its path is open to everybody.

    The key is in ``Authorization: Bearer …`` or in ``X-API-Key``. Keys are compared in constant time.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], open_paths: Collection[str]) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["path"] in self._open or self._knows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        error = ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "send one of the server's keys as `Authorization: Bearer <key>` or `X-API-Key: <key>`",
            {"WWW-Authenticate": "Bearer"},
        )
        await error.response()(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        digest = _digest(given)
        return sum(hmac.compare_digest(digest, own) for own in self._digests) > 0  # all are compared: no early end


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class GuardedEndpoint:
    """An endpoint that turns the bytes of a body into an answer, within the limits.

    ``status`` is that of the answer, and ``table`` has the settings of the limits.
    """

    status, table = HTTPStatus.OK, "http"

    def __init__(self, answer: Callable[[bytes], Awaitable[bytes]], limits: RequestLimits) -> None:
        self._answer = answer
        self._limits = limits
        self._deadline_s = duration_us(limits.deadline) / SECOND

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request. An unexpected error is raised again after the answer, so that the server logs it."""
        try:
            content = await self._content(scope, receive)
        except ClientDisconnect:
            return
        except Exception as error:
            await problem_of(error).response()(scope, receive, send)
            if not isinstance(error, ProblemError | HeadraceError):
                raise
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": int(self.status), "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _content(self, scope: Scope, receive: Receive) -> bytes:
        """Return the body of the answer. Raises ProblemError and the errors of a look-up."""
        body = None
        try:
            async with asyncio.timeout(self._deadline_s):
                body = await self._body(scope, receive)
                return await self.respond(scope, body)
        except TimeoutError:
            raise self.late(has_come=body is not None) from None

    async def respond(self, scope: Scope, body: bytes) -> bytes:  # noqa: ARG002 - others look at the headers
        """Return the body of the answer to a body that has come whole."""
        return await self._answer(body)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._limits.body_bytes:
            raise self._too_large(int(announced))
        pieces, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._limits.body_bytes:
                raise self._too_large(size)
            more = message.get("more_body", False)
        return b"".join(pieces)

    def _too_large(self, size: int) -> ProblemError:
        most = self._limits.body_bytes
        return too_large(f"the body has {size} bytes or more; at most {most} are taken ({self.table}.body_limit)")

    def late(self, *, has_come: bool) -> ProblemError:
        """Return the problem of a request that took too long. ``has_come``: its body is there."""
        limit = f"within {self._deadline_s:g} s ({self.table}.deadline)"
        if not has_come:
            return ProblemError(HTTPStatus.REQUEST_TIMEOUT, "too-slow", f"the body did not come {limit}")
        detail = f"the online store did not answer {limit}: try again, ask for less, or look at the store"
        return ProblemError(HTTPStatus.GATEWAY_TIMEOUT, "deadline", detail)
