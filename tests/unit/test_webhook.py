"""A webhook: which bodies are events, what is said of others, and when a request is answered."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from headrace.bus.formats.json_format import Json
from headrace.errors import BusUnavailableError, CodecError, RefusedError
from headrace.serving.http import RequestLimits
from headrace.serving.http.acknowledged_events import AcknowledgedEvents
from headrace.serving.http.problems import ProblemError
from headrace.serving.http.webhook import PostedEvents, WebhookEndpoint, webhooks
from tests.support.http_scene import ask, serving
from tests.support.payments_stream import NOON, ROW, Payment, payments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.http_scene import Answered

STREAM = payments(Json())
JSON = {"content-type": "application/json; charset=utf-8"}
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-type": "Payment", **JSON}


def row(card: Any = "c7", **more: Any) -> dict[str, Any]:
    return {**ROW, "card": card, **more}


def cloud(card: Any = "c7", **more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/shop", "type": "Payment", "data": row(card), **more}


def read(body: Any, headers: dict[str, str]) -> list[str]:
    found: Any = PostedEvents(STREAM).read(body if isinstance(body, bytes) else json.dumps(body).encode(), headers)
    return [event.card for event in found]


def test_each_kind_of_body_is_read() -> None:
    assert read(row(), JSON) == ["c7"]
    assert read([row("a"), row("b")], JSON) == ["a", "b"]
    assert read([], JSON) == []
    assert read(cloud("s"), STRUCTURED) == ["s"]
    assert read([cloud("s"), cloud("t")], BATCH) == ["s", "t"]
    assert read(row("b"), BINARY) == ["b"]
    assert read(row("b"), {name: text for name, text in BINARY.items() if name != "content-type"}) == ["b"]


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"{", JSON, "item 1: Input data was truncated"),
        (b"[1", JSON, "array of JSON objects"),
        (b"[\xff]", JSON, "array of JSON objects"),
        (b"", JSON, "item 1: Input data was truncated"),
        (row(amount="x"), JSON, "item 1: Expected `float`, got `str` - at `$.amount`"),
        ([row(), row(amount="x"), 7], JSON, "item 2: Expected `float`, got `str` - at `$.amount`; 1 more items are no"),
        ([row(), row(None)], JSON, "item 2: Expected `str`, got `null` - at `$.card`"),
        (cloud(specversion="0.3"), STRUCTURED, "version '0.3'"),
        ({"specversion": "1.0"}, STRUCTURED, "no member `data`"),
        (row(), STRUCTURED, "item 1: Object missing required field `specversion`"),
        ([cloud(), cloud(None)], BATCH, "item 2: "),
        (cloud(), BATCH, "array of JSON objects"),
        (row(amount="x"), BINARY, "item 1: Expected `float`"),
        (row(), {**BINARY, "ce-specversion": "2"}, "version '2'"),
    ],
)
def test_a_body_with_an_item_that_is_no_event_is_a_400_that_names_it(body: Any, headers: Any, said: str) -> None:
    with pytest.raises(ProblemError) as found:
        read(body, headers)
    assert found.value.problem.status == 400
    assert said in found.value.problem.detail


@pytest.mark.parametrize(
    "headers",
    [{}, {"content-type": "text/plain"}, {"content-type": "application/cloudevents+avro"},
     {**JSON, "content-encoding": "gzip"},
     {**BINARY, "content-type": "application/xml"}],
)  # fmt: skip
def test_another_media_type_is_a_415(headers: dict[str, str]) -> None:
    with pytest.raises(ProblemError) as found:
        read(row(), headers)
    assert found.value.problem.status == 415


class FlushedProducer:
    """Keeps what is sent; ``fail`` is called with what a flush would have acknowledged."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.flushes = 0
        self.fail: Callable[[list[str]], None] = lambda _: None

    def send(self, _: object, event: Payment) -> None:
        if event.card == "large":
            raise CodecError("too large")
        self.sent.append(event.card)

    def flush(self) -> None:
        self.flushes += 1
        self.fail(self.sent)


def events_of(producer: Any) -> AcknowledgedEvents:
    return AcknowledgedEvents(producer)


@contextmanager
def served(producer: FlushedProducer, *tokens: str, limit: int = 500) -> Iterator[Callable[..., Answered]]:
    endpoint = WebhookEndpoint(STREAM, events_of(producer), RequestLimits(limit, deadline="2s"))
    with serving(webhooks({"/payments": endpoint}, tokens)) as url:
        yield lambda body, path="/payments", **options: ask(f"{url}{path}", body, **options)


def test_an_answer_comes_after_the_flush_with_the_count() -> None:
    producer = FlushedProducer()
    with served(producer) as post:
        answer = post([row("a"), row("b")])
    assert (answer.status, answer.json, producer.sent, producer.flushes) == (202, {"accepted": 2}, ["a", "b"], 1)


def test_nothing_is_produced_of_a_body_that_is_refused() -> None:
    producer = FlushedProducer()
    with served(producer) as post:
        assert post([row("a"), {"card": 1}]).problem == (400, "no-event")
        assert post(b"[").problem == (400, "malformed")
        assert post([row()] * 9).problem == (413, "too-large")
        assert post(row(), headers={"Content-Type": "text/plain"}).problem == (415, "unsupported")
        assert post(row(), path="/other").problem == (404, "http")
        assert post(None).problem == (405, "http")
    assert producer.sent == []


def test_a_request_needs_a_token() -> None:
    producer = FlushedProducer()
    with served(producer, "one", "two") as post:
        assert post(row()).problem == (401, "unauthorized")
        assert post(row(), headers={"Authorization": "Bearer three"}).problem == (401, "unauthorized")
        assert post(row("a"), headers={"Authorization": "Bearer two"}).status == 202
    assert producer.sent == ["a"]


def test_a_kafka_that_is_away_is_a_503_and_gets_nothing_more_until_it_is_back() -> None:
    producer = FlushedProducer()
    with served(producer) as post:
        producer.fail = away
        assert post(row("a")).problem == (503, "not-acknowledged")
        assert post(row("b")).problem == (503, "not-acknowledged")
        assert producer.sent == ["a"]
        producer.fail = lambda _: None
        assert post(row("b")).status == 202
    assert producer.sent == ["a", "b"]


def away(_: list[str]) -> None:
    raise BusUnavailableError("Kafka is away")


def test_an_event_that_cannot_be_sent_is_the_error_of_its_request_alone() -> None:
    producer = FlushedProducer()

    async def together() -> list[Any]:
        events = events_of(producer)
        return await asyncio.gather(*(events.put(STREAM, [of(card)]) for card in ("a", "large", "b")),
                                    return_exceptions=True)  # fmt: skip

    first, second, third = asyncio.run(together())
    assert (first, third, producer.flushes) == (None, None, 1)
    assert isinstance(second, CodecError)


def test_a_record_that_kafka_refuses_is_the_error_of_its_request_alone() -> None:
    producer = FlushedProducer()

    def refuse(sent: list[str]) -> None:
        if "refused" in sent:
            sent.remove("refused")
            raise RefusedError("too large for the topic", [])

    producer.fail = refuse

    async def together() -> list[Any]:
        events = events_of(producer)
        return await asyncio.gather(
            *(events.put(STREAM, [of(card)]) for card in ("a", "refused")), return_exceptions=True
        )

    first, second = asyncio.run(together())
    assert first is None
    assert isinstance(second, RefusedError)
    assert producer.sent == ["a", "a"]  # at least once


def of(card: str) -> Payment:
    return Payment(card, 1.0, NOON)
