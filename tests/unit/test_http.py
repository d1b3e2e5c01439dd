"""Look-ups over HTTP, over a store in memory and a real server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace.base.times import utc_datetime
from headrace.errors import OnlineStoreUnavailableError, SettingsError
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient, FeatureVectors
from headrace.serving.http import HttpOptions, RequestLimits, application
from tests.support.http_scene import InThreads, ask, serving
from tests.support.lookups_scene import MINUTE, SOURCES, START_US, Worker, sale, shops, tills
from tests.support.waiting import until

Serve = Callable[..., str]
AT_US = START_US + 4 * MINUTE
AS_OF = utc_datetime(AT_US).isoformat()
A1, B1 = {"shop": "a", "till": 1}, {"shop": "b", "till": 1}


@pytest.fixture(scope="module")
def client() -> InThreads:
    """Of shops and tills: a sold for 1 and 2 at minutes 1 and 2, b for nothing known at minute 3."""
    store = MemoryOnlineStore()
    worker = Worker(store)
    worker.fold(0, sale("a", 1, 1.0), sale("b", 3, None))
    worker.fold(1, sale("a", 2, 2.0, till=2))
    return InThreads(FeatureClient(store, heartbeat_bound="1000000s"))


@pytest.fixture(scope="module")
def serve(client: InThreads) -> Iterator[Serve]:
    """Serves what is asked for until the module ends."""
    with ExitStack() as stack:

        def serve(over: Any = client, **options: Any) -> str:
            return stack.enter_context(serving(application(over, HttpOptions(**options))))

        yield serve


@pytest.fixture(scope="module")
def url(serve: Serve) -> str:
    return serve(services=("risk",))


def request(*entities: Any, **more: Any) -> dict[str, Any]:
    return {"service": "risk", "entities": list(entities), "as_of": AS_OF, **more}


# -- answers ----------------------------------------------------------------------------------------------------------


def test_many_entities_come_back_in_order_with_statuses_and_ages(url: str) -> None:
    answered = ask(f"{url}/features", request(A1, B1, {"shop": "zz", "till": 1, "more": 1.5}, {"shop": "a"}))
    assert (answered.status, answered.headers["content-type"]) == (200, "application/json")
    assert answered.json == {
        "at": AS_OF.replace("+00:00", "Z"),
        "columns": ["shop__n_10m", "shop__amount_10m", "till__n_1h", "till__last_1h"],
        "rows": [[2, 3.0, 1, 1.0], [1, 0.0, 1, None], [0, 0.0, 0, None], [2, 3.0, 0, None]],
        "views": [
            {
                "view": "shop",
                "version": shops.version,
                "statuses": ["present", "present", "missing", "present"],
                "ages_s": [120.0, 60.0, None, 120.0],
            },
            {
                "view": "till",
                "version": tills.version,
                "statuses": ["present", "present", "missing", "missing"],
                "ages_s": [180.0, 60.0, None, None],
            },
        ],
    }


def test_an_answer_has_offsets_when_the_request_asks(url: str) -> None:
    found = ask(f"{url}/features", request(A1, offsets=True)).json
    assert found["views"][0]["offsets"] == [{SOURCES[0].text: 2, SOURCES[1].text: 1}]


def test_views_may_be_asked_by_version_and_no_entity_is_none(url: str) -> None:
    asked = {"views": [f"till@{tills.version}"], "entities": [], "as_of": AS_OF}
    found = ask(f"{url}/features", asked).json
    assert (found["columns"], found["rows"]) == (["till__n_1h", "till__last_1h"], [])


@pytest.mark.parametrize(
    "as_of", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"]
)
def test_every_time_of_the_calendar_has_an_answer(url: str, as_of: str) -> None:
    found = ask(f"{url}/features", request(A1, as_of=as_of)).json
    assert found["at"] == as_of
    assert found["rows"][0][0] in {None, 0}


def test_a_request_without_a_time_is_answered_as_of_now(url: str) -> None:
    found = ask(f"{url}/features", {"service": "risk", "entities": [A1]}).json
    assert found["at"] > "2026"
    assert found["views"][0]["statuses"] == ["stale"]


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "problem", "says"),
    [
        (b"{", (400, "malformed"), "a JSON object is wanted"),
        (b'{"service": "risk", "entities": [{"shop": "\\ud800"}]}', (400, "malformed"), "a JSON object"),
        (b'{"service": "\xff", "entities": []}', (400, "malformed"), "utf-8"),
        ([], (422, "invalid"), "Expected `object`, got `array`"),
        ({"service": "risk"}, (422, "invalid"), "missing required field `entities`"),
        (request(A1, typo=1), (422, "invalid"), "unknown field `typo`"),
        (request({"shop": ["a"]}), (422, "invalid"), "$.entities[0]"),
        ({"entities": []}, (422, "invalid"), "neither"),
        (request(A1, views=["till@x"]), (422, "invalid"), "both"),
        ({"views": ["a@1", "b@1", "a@1"], "entities": []}, (422, "invalid"), "['a@1'] came more than once"),
        ({"service": "risk", "entities": [], "as_of": "2020-01-01T00:00:00"}, (422, "invalid"), "as_of"),
        (request(A1, as_of="9999-12-31T23:59:59.999999-23:59"), (422, "wrong-value"), "in no year from 1 to 9999"),
        (request(A1, as_of="0001-01-01T00:00:00+00:01"), (422, "wrong-value"), "in no year from 1 to 9999"),
        (request({"shop": 7, "till": 1}), (422, "wrong-key"), "join key value 7 is int; wanted str"),
        (request({"shop": "a", "till": 2**70}), (422, "wrong-key"), "64 bits"),
        ({"service": "nothing", "entities": []}, (404, "unknown"), "no feature service 'nothing'"),
        ({"views": ["shop@0"], "entities": []}, (404, "unknown"), "no feature view 'shop@0'"),
    ],
)
def test_a_wrong_request_is_a_problem_that_says_why(url: str, body: Any, problem: tuple[int, str], says: str) -> None:
    answered = ask(f"{url}/features", body)
    assert answered.problem == problem
    assert says in answered.json["detail"]


def test_unknown_paths_and_methods_are_problems(url: str) -> None:
    assert ask(f"{url}/nothing").problem == (404, "http")
    answered = ask(f"{url}/features")
    assert answered.problem == (405, "http")
    assert answered.headers["allow"] == "POST"


def test_too_many_entities_and_too_large_bodies_are_refused(serve: Serve) -> None:
    url = serve(limits=RequestLimits(body_bytes=300, entities=2))
    assert ask(f"{url}/features", request(A1, A1)).status == 200
    answered = ask(f"{url}/features", request(A1, A1, A1))
    assert answered.problem == (413, "too-large")
    assert "3 entities came; at most 2" in answered.json["detail"]
    assert ask(f"{url}/features", b"{" + b" " * 300).problem == (413, "too-large")


def test_more_keys_than_may_be_asked_at_a_time_are_refused(serve: Serve) -> None:
    url = serve(limits=RequestLimits(keys=3), services=("risk",))
    views = [f"shop@{shops.version}", f"till@{tills.version}"]
    features = {"features": ["shop:n_10m", "shop:amount_10m", "till:n_1h"]}
    one, two = ({"shop": ["a"] * n, "till": [1] * n} for n in (1, 2))
    assert ask(f"{url}/features", {"views": views, "entities": [A1]}).status == 200
    assert ask(f"{url}/features", request(A1, A1, A1)).status == 200  # a service is as large as its owner wants
    assert ask(f"{url}/get-online-features", {**features, "entities": one}).status == 200
    assert ask(f"{url}/get-online-features", {"feature_service": "risk", "entities": two}).status == 200
    for path, asked in (
        ("/features", {"views": views, "entities": [A1, A1]}),
        ("/get-online-features", {**features, "entities": two}),
    ):
        answered = ask(f"{url}{path}", asked)
        assert answered.problem == (413, "too-large")
        assert "2 entities of 2 views came, 4 keys; at most 3 are taken (http.key_limit)" in answered.json["detail"]


def test_a_body_that_grows_too_large_in_pieces_is_refused(serve: Serve) -> None:
    parts = serve(limits=RequestLimits(body_bytes=300)).partition("//")[2].partition(":")
    with socket.create_connection((parts[0], int(parts[2]))) as connection:
        connection.sendall(b"POST /features HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(4):
            connection.sendall(b"64\r\n" + b" " * 100 + b"\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413 ")


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic second"}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": "secon"}, 401),
        ({"X-API-Key": "\xff"}, 401),
        ({"X-API-Key": "first"}, 200),
        ({"Authorization": "bearer second"}, 200),
    ],
)
def test_a_server_with_keys_refuses_requests_without_a_key(
    serve: Serve, headers: Mapping[str, str], status: int
) -> None:
    url = serve(api_keys=("first", "second"))
    answered = ask(f"{url}/features", request(A1), headers=headers)
    assert answered.status == status
    assert ask(f"{url}/metrics", headers=headers).status == status
    assert ask(f"{url}/livez").status == ask(f"{url}/readyz").status == 200
    if status == 401:
        assert answered.problem == (401, "unauthorized")
        assert answered.headers["www-authenticate"] == "Bearer"
        assert "first" not in answered.body.decode()


# -- time and failure -------------------------------------------------------------------------------------------------


class Slow:
    """Answers nothing until `let_go` is set."""

    def __init__(self) -> None:
        self.asked, self.let_go = threading.Event(), threading.Event()

    async def get(self, *_: Any, **__: Any) -> FeatureVectors:
        self.asked.set()
        while not self.let_go.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.01)
        raise OnlineStoreUnavailableError("let go")

    async def get_views(self, *_: Any, **__: Any) -> FeatureVectors:
        return await self.get()


class Broken:
    """Raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def get(self, *_: Any, **__: Any) -> FeatureVectors:
        raise self._error

    async def get_views(self, *_: Any, **__: Any) -> FeatureVectors:
        raise self._error


def test_an_answer_that_takes_too_long_is_given_up(serve: Serve) -> None:
    url = serve(Slow(), limits=RequestLimits(deadline="500ms"))
    answer = ask(f"{url}/features", request(A1))
    assert answer.problem == (504, "deadline")
    assert "within 0.5 s" in answer.json["detail"]
    assert ask(f"{url}/livez").body == b"ok\n"
    assert ask(f"{url}/readyz").problem == (503, "unavailable")


def test_no_request_waits_for_the_slow_answer_of_another_one(serve: Serve) -> None:
    slow = Slow()
    url = serve(slow, limits=RequestLimits(deadline="120s"))
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(ask(f"{url}/features", request(A1))))
    asking.start()
    assert slow.asked.wait(20)
    assert ask(f"{url}/livez").body == b"ok\n"
    assert answers == []
    slow.let_go.set()
    asking.join()
    assert answers[0].problem == (503, "unavailable")


def test_a_body_that_does_not_come_is_given_up(serve: Serve) -> None:
    parts = serve(limits=RequestLimits(deadline="200ms")).partition("//")[2].partition(":")
    with socket.create_connection((parts[0], int(parts[2]))) as connection:
        connection.sendall(b"POST /features HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 408 ")


def test_a_store_that_does_not_answer_is_503_with_a_time_to_come_again(serve: Serve) -> None:
    text = "the online store at redis://x does not answer: refused"
    url = serve(Broken(OnlineStoreUnavailableError(text)))
    with capture_logs() as logged:
        for answered in (ask(f"{url}/features", request(A1)), ask(f"{url}/readyz")):
            assert answered.problem == (503, "unavailable")
            assert answered.headers["retry-after"] == "1"
            assert "the online store does not answer; " in answered.json["detail"]
            assert "redis" not in answered.body.decode()
    assert [entry["error"] for entry in logged] == [text, text]
    assert ask(f"{url}/livez").status == 200


def test_an_unexpected_error_is_500_without_its_text(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as logged:
        for error in (RuntimeError("a secret"), SettingsError("a secret")):
            answered = ask(f"{serve(Broken(error))}/features", request(A1))
            assert answered.problem == (500, "internal")
            assert "secret" not in answered.body.decode()
    assert [entry["error"] for entry in logged] == ["a secret"]

    def told() -> list[str]:
        return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]

    until(lambda: bool(told()), 20)  # uvicorn logs the other, after it was answered
    assert told() == ["a secret"]


def test_the_server_is_ready_when_the_store_knows_its_services(serve: Serve, url: str) -> None:
    assert ask(f"{url}/readyz").body == b"ok\n"
    answered = ask(f"{serve(services=('risk', 'later'))}/readyz")
    assert answered.status == 503
    assert "'later'" in answered.json["detail"]


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_count_requests_entities_and_statuses(serve: Serve) -> None:
    url = serve()
    before = metrics(url)  # Feast, once it is imported, has every counter of the process share its files
    ask(f"{url}/features", request(A1, B1, {"shop": "zz", "till": 1}))
    ask(f"{url}/features", b"{")
    ask(f"{url}/{'x' * 9}")
    after = metrics(url)
    counted = {line: value - before.get(line, 0.0) for line, value in after.items()}
    assert counted['headrace_http_requests_total{path="/features",status="200"}'] == 1
    assert counted['headrace_http_requests_total{path="/features",status="400"}'] == 1
    assert counted['headrace_http_requests_total{path="other",status="404"}'] == 1
    assert counted['headrace_http_request_seconds_count{path="/features"}'] == 2
    assert counted['headrace_http_entities_bucket{le="2.0"}'] == 0
    assert counted['headrace_http_entities_bucket{le="5.0"}'] == 1
    assert counted['headrace_http_statuses_total{status="present",view="shop"}'] == 2
    assert counted['headrace_http_statuses_total{status="missing",view="shop"}'] == 1


def metrics(url: str) -> dict[str, float]:
    """Each line without a comment, and its number."""
    answered = ask(f"{url}/metrics")
    assert answered.headers["content-type"].startswith("text/plain; version=")
    lines = [line.rsplit(" ", 1) for line in answered.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}
