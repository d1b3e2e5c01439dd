"""A tail reads a topic from its beginning or its end, and says so if there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


def test_a_tail_follows_a_topic_that_was_just_made(services: LocalServices, namespace: str) -> None:
    servers = services.bootstrap_servers
    producer = EventProducer(servers)
    for attempt in range(5):
        topic = f"{namespace}-{attempt}"
        ensure_topics(servers, [TopicPlan(topic, partitions=2)])
        late = TopicTail(servers, [topic], from_beginning=False)
        for key in (b"a", b"b", b"c"):
            producer.put(topic, key, key)
        producer.flush()
        early = TopicTail(servers, [topic], from_beginning=True)
        for tail in (late, early):
            assert sorted(message.value() or b"" for message in tail.drain()) == [b"a", b"b", b"c"]
            assert tail.drain() == []
            tail.close()


def test_a_tail_that_begins_at_the_end_of_a_topic_with_records_has_nothing_to_return(
    services: LocalServices, namespace: str
) -> None:
    servers = services.bootstrap_servers
    ensure_topics(servers, [TopicPlan(namespace, partitions=2)])
    producer = EventProducer(servers)
    producer.put(namespace, b"before", b"before")
    producer.flush()
    tail = TopicTail(servers, [namespace], from_beginning=False)
    assert tail.drain() == []
    producer.put(namespace, b"after", b"after")
    producer.flush()
    assert [message.value() for message in tail.drain()] == [b"after"]
    assert tail.drain() == []
    tail.close()


def test_a_topic_that_is_not_there_is_an_error(
    services: LocalServices, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.bus.tail._NEW_TOPIC_S", 0.2)
    with pytest.raises(BusUnavailableError, match=f"no topic '{namespace}'"):
        TopicTail(services.bootstrap_servers, [namespace], from_beginning=True)
