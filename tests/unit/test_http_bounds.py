"""Whatever comes over a socket, and whatever does not come, other clients are answered."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import Response

from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.serving.http import ConnectionLimits, HttpOptions, RequestLimits, application
from headrace.serving.http.server import ServerOptions, configuration, serve
from headrace.serving.http.worker_processes import DrainingServer
from tests.support.http_fuzz import ANY_BODY, ANY_BYTES, LIVEZ, PATHS
from tests.support.http_scene import InThreads, ask, serving
from tests.support.lookups_scene import filled
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.slow  # a second and more for its scenes

LIMITS = ConnectionLimits(head_bytes=2_000, head_timeout="400ms", connections=20, answered="2s")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    store = MemoryOnlineStore()
    filled(store)
    client = InThreads(FeatureClient(store))
    options = HttpOptions(limits=RequestLimits(body_bytes=100_000, deadline="1s"))
    with serving(application(client, options), LIMITS) as found:
        yield found


def connected(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), 20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def answer(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    pieces = []
    with suppress(ConnectionResetError, BrokenPipeError):
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def sent_until_closed(connection: socket.socket, piece: bytes, most: int, pause_s: float = 0.0) -> int:
    """How many bytes the server takes before it closes; ``most`` if it never does."""
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError, TimeoutError):
        while sent < most:
            connection.sendall(piece)
            sent += len(piece)
            time.sleep(pause_s)
    return sent


def problem(answered: bytes) -> tuple[int, str]:
    head, _, body = answered.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    found = json.loads(body)
    assert int(head.split()[1]) == found["status"]
    return found["status"], found["type"].removeprefix("urn:headrace:")


# -- the head ----------------------------------------------------------------------------------------------------------

TOO_LARGE = {
    "an endless URL": (b"GET /", b"a" * 500),
    "an endless query": (b"GET /livez?", b"a=b&" * 100),
    "an endless header": (b"GET /livez HTTP/1.1\r\nX: ", b"a" * 500),
    "an endless name of a header": (b"GET /livez HTTP/1.1\r\n", b"a" * 500),
    "endless headers": (b"GET /livez HTTP/1.1\r\n", b"X: a\r\n" * 100),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_a_head_that_does_not_end_is_refused(url: str, kind: str) -> None:
    begin, piece = TOO_LARGE[kind]
    with closing(connected(url)) as connection:
        connection.sendall(begin)
        for _ in range(8):
            connection.sendall(piece)
            time.sleep(0.01)
        assert problem(answer(connection)) == (431, "head-too-large")


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_the_server_stops_reading_who_does_not_stop_sending(url: str, kind: str) -> None:
    begin, piece = TOO_LARGE[kind]
    with closing(connected(url)) as connection:
        connection.sendall(begin)
        until_closed = threading.Thread(target=sent_until_closed, args=(connection, piece, 10**15), daemon=True)
        until_closed.start()
        assert ask(f"{url}/livez").status == 200
        until_closed.join(20)
        assert not until_closed.is_alive()


def test_a_large_head_that_comes_at_once_is_refused_too(url: str) -> None:
    with closing(connected(url)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"a" * 5_000 + b"\r\n\r\n")
        assert problem(answer(connection)) == (431, "head-too-large")


def test_a_head_up_to_the_limit_and_a_large_body_are_taken(url: str) -> None:
    assert ask(f"{url}/livez", headers={"X": "a" * 1_800}).status == 200
    assert ask(f"{url}/features", b" " * 90_000).problem == (400, "malformed")
    with closing(connected(url)) as connection:  # the head of the next request in one piece with a body
        body = b" " * 50_000
        first = b"POST /features HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n" + body
        connection.sendall(first + LIVEZ[:-2])
        connection.sendall(b"Connection: close\r\n\r\n")
        answered = answer(connection)
    assert answered.count(b"HTTP/1.1 400") == answered.count(b"HTTP/1.1 200") == 1


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [b"G", b"GET /livez", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nX: a"])
def test_half_a_head_is_given_up(url: str, begin: bytes) -> None:
    with closing(connected(url)) as connection:
        connection.sendall(begin)
        assert problem(answer(connection)) == (408, "too-slow")


def test_half_a_head_after_a_request_is_given_up(url: str) -> None:
    with closing(connected(url)) as connection:
        connection.sendall(LIVEZ)
        assert connection.recv(1_000).endswith(b"ok\n")
        connection.sendall(b"GET /liv")
        assert problem(answer(connection)) == (408, "too-slow")


@pytest.mark.parametrize("begin", [b"", LIVEZ], ids=["new", "after a request"])
@pytest.mark.parametrize("piece", [b"\r\n", b"a"])
def test_a_byte_now_and_then_buys_no_time(url: str, begin: bytes, piece: bytes) -> None:
    with closing(connected(url)) as connection:
        connection.sendall(begin)
        started = time.monotonic()
        sent_until_closed(connection, piece, 10**6, pause_s=0.05)
        assert time.monotonic() - started < 30


def test_a_connection_on_which_nothing_comes_is_closed(url: str) -> None:
    with closing(connected(url)) as connection:
        assert answer(connection) == b""


def test_a_body_that_goes_on_after_its_answer_is_read_for_a_while_only(url: str) -> None:
    with closing(connected(url)) as connection:
        connection.sendall(b"POST /features HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        assert sent_until_closed(connection, piece, 10**15, pause_s=0.001) > 100_000


def test_trailers_without_end_are_given_up(url: str) -> None:
    with closing(connected(url)) as connection:
        connection.sendall(b"POST /features HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        sent_until_closed(connection, b"X: a\r\n" * 100, 10**15, pause_s=0.001)
    assert ask(f"{url}/livez").status == 200


# -- connections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [b"", b"GET /livez HTTP/1.1\r\nX: a", LIVEZ])
def test_connections_that_wait_give_way_to_new_ones(begin: bytes) -> None:
    limits = ConnectionLimits(connections=20, head_timeout="120s")
    with serving(application(InThreads(FeatureClient(MemoryOnlineStore()))), limits) as url, ExitStack() as stack:
        for _ in range(100):
            connection = stack.enter_context(closing(connected(url)))
            with suppress(ConnectionError):
                connection.sendall(begin)
            if begin == LIVEZ:
                assert connection.recv(1_000).endswith(b"ok\n")
        for _ in range(10):
            assert ask(f"{url}/livez").status == 200


class Held:
    """An application that answers when it may."""

    def __init__(self) -> None:
        self.may_answer, self.asked = threading.Event(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        import asyncio

        if scope["type"] != "http":
            return
        self.asked += 1
        while not self.may_answer.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.01)
        await Response(b"ok\n")(scope, receive, send)


def test_when_every_connection_is_in_use_a_new_one_is_told_so_and_none_is_cut() -> None:
    held: Any = Held()
    limits = ConnectionLimits(connections=16, answered="120s")
    with serving(held, limits) as url, ExitStack() as stack:
        busy = [stack.enter_context(closing(connected(url))) for _ in range(16)]
        for connection in busy:
            connection.sendall(LIVEZ)
        until(lambda: held.asked == 16, 20)
        with closing(connected(url)) as connection:
            assert problem(answer(connection)) == (503, "busy")
        held.may_answer.set()
        for connection in busy:
            assert connection.recv(1_000).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_read_its_answer_is_ended() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await Response(b"a" * 50_000_000)(scope, receive, send)

    with serving(app, ConnectionLimits(answered="500ms")) as url, closing(connected(url)) as connection:
        connection.sendall(LIVEZ + LIVEZ)
        time.sleep(1.5)
        assert len(answer(connection)) < 50_000_000


# -- any bytes ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(ANY_BYTES)
def test_no_bytes_stop_the_server(url: str, pieces: list[bytes]) -> None:
    with closing(connected(url)) as connection:
        with suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        answered = answer(connection)
        assert b" 500 " not in answered.partition(b"\r\n")[0]
    assert ask(f"{url}/livez").status == 200


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(PATHS), ANY_BODY)
def test_no_json_is_a_fault_of_the_server(url: str, path: str, body: Any) -> None:
    answered = ask(f"{url}{path}", json.dumps(body).encode())
    assert answered.status in {200, 400, 404, 413, 422}, answered.body


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_server_that_stops_answers_what_still_comes_and_says_that_it_closes() -> None:
    app = application(InThreads(FeatureClient(MemoryOnlineStore())))
    server = DrainingServer(configuration(lambda: app, ServerOptions(grace="20s")))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        until(lambda: server.started, 20)
        idle = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1])
        idle.request("GET", "/livez")
        assert idle.getresponse().read() == b"ok\n"
        server.should_exit = True
        time.sleep(0.5)
        idle.request("GET", "/livez")
        response = idle.getresponse()
        assert (response.read(), response.getheader("connection")) == (b"ok\n", "close")
        thread.join(20)
        assert not thread.is_alive()


def test_a_server_on_port_0_says_which_port_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DrainingServer, "run", lambda *_: None)
    said: list[int] = []
    serve(
        lambda: application(InThreads(FeatureClient(MemoryOnlineStore()))), ServerOptions(port=0), listens=said.append
    )
    assert len(said) == 1
    assert said[0] > 0
