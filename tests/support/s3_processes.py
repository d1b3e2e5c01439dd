"""S3 servers in processes of their own: Delta holds the interpreter's lock while it waits for an answer."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.support.artifact_servers import BUCKET
from tests.support.processes import end_with_the_test_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

_MOMENT_S, _NOT_THERE = 0.05, 404
_NOT_PASSED_ON = {"content-length", "connection", "transfer-encoding", "server", "date"}


@contextmanager
def s3_process() -> Iterator[str]:
    """An S3 server with the bucket :data:`BUCKET`: its address."""
    with _served(_moto) as address:
        yield address


@contextmanager
def s3_without_conditions(address: str) -> Iterator[str]:
    """A look-alike of S3: it passes requests on to the server at ``address``, without their conditions."""
    with _served(_forwarding, address, "") as own:
        yield own


@contextmanager
def s3_that_looks_first(address: str) -> Iterator[str]:
    """A look-alike of S3: it looks whether an object exists, and passes the request on a moment later."""
    with _served(_forwarding, address, "looks first") as own:
        yield own


@contextmanager
def _served(target: Callable[..., None], *arguments: str) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(sender, *arguments), daemon=True)
    process.start()
    try:
        assert receiver.poll(60), "the server does not start"
        yield receiver.recv()
    finally:
        process.kill()
        process.join()


def _moto(ready: Connection) -> None:
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import S3FileSystem

    end_with_the_test_run()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    maker = S3FileSystem(
        access_key="key", secret_key="secret", endpoint_override=f"{host}:{port}", scheme="http",
        region="us-east-1", allow_bucket_creation=True,
    )  # fmt: skip
    maker.create_dir(BUCKET)
    ready.send(f"http://{host}:{port}")
    multiprocessing.Event().wait()


def _forwarding(ready: Connection, address: str, how: str) -> None:
    end_with_the_test_run()
    handler = _handler(address.removeprefix("http://"), looks_first=bool(how))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    ready.send(f"http://127.0.0.1:{server.server_address[1]}")
    server.serve_forever()


def _handler(host: str, *, looks_first: bool) -> type[BaseHTTPRequestHandler]:
    class Forwarding(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if looks_first and "If-None-Match" in self.headers and self.exists():
                self.send_response(412)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() != "if-none-match"}
            connection = HTTPConnection(host)
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _NOT_PASSED_ON:
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        def exists(self) -> bool:
            connection = HTTPConnection(host)
            connection.request("HEAD", self.path)
            status = connection.getresponse().status
            connection.close()
            time.sleep(_MOMENT_S)
            return status != _NOT_THERE  # without credentials, what is there is forbidden

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815 - the base class looks for these

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            """Print nothing."""

    return Forwarding
