"""What the tests of the HTTP server share: the server in a thread, over a socket of its own, and a plain client."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headrace.serving.http import ConnectionLimits
from headrace.serving.http.server import ServerOptions, configuration
from headrace.serving.http.worker_processes import DrainingServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from starlette.types import ASGIApp

    from headrace.serving.features import FeatureClient, FeatureVectors


class InThreads:
    """A FeatureClient, over whatever store, as the server wants one."""

    def __init__(self, client: FeatureClient) -> None:
        self._client = client

    async def get(self, service: str, entities: Any, **options: Any) -> FeatureVectors:
        return await asyncio.to_thread(self._client.get, service, entities, **options)

    async def get_views(self, views: str | Sequence[str], entities: Any, **options: Any) -> FeatureVectors:
        return await asyncio.to_thread(self._client.get_views, views, entities, **options)


@dataclass(frozen=True)
class Answered:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> tuple[int, str]:
        """Status and kind of a problem, which is checked for its form."""
        assert self.headers["content-type"] == "application/problem+json"
        found = self.json
        assert found["status"] == self.status
        assert found["title"]
        assert found["detail"]
        return self.status, found["type"].removeprefix("urn:headrace:")


@contextmanager
def serving(app: ASGIApp, limits: ConnectionLimits | None = None) -> Iterator[str]:
    """The application on a port of its own, as `headrace serve` runs it: its URL."""
    config = configuration(lambda: app, ServerOptions(limits=limits or ConnectionLimits()))
    server = DrainingServer(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def ask(
    url: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    context: Any = None,
) -> Answered:
    """One request; a body that is no bytes goes as JSON, and with a body the method is POST."""
    parts = urlsplit(url)
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    with_tls = {"context": context} if parts.scheme == "https" else {}
    kind: Any = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=20, **with_tls)
    try:
        sent = {} if body is None else {"Content-Type": "application/json"}
        connection.request(
            method or ("GET" if body is None else "POST"), parts.path, content, sent | dict(headers or {})
        )
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answered(response.status, found, response.read())
    finally:
        connection.close()
