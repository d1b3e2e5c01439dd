"""An administrator's question that a slow broker does not answer in time is an error that processes wait out."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.bus import kafka_clients, topics
from headrace.errors import BusUnavailableError
from headrace.models import kafka_model_event_log

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S = 0.05


class SlowBroker:
    """The administrator of a broker that knows the topic ``old`` and answers nothing else in time."""

    def __init__(self, *_: object) -> None:
        """Connect to nothing."""

    def poll(self, timeout: float) -> int:
        """Hear of nothing."""
        del timeout
        return 0

    def create_topics(self, new: list[Any], **_: object) -> dict[str, Future[Any]]:
        return {topic.topic: self.made(topic.topic) for topic in new}

    def made(self, name: str) -> Future[Any]:
        future: Future[Any] = Future()
        if name == "old":
            future.set_exception(KafkaException(KafkaError(KafkaError.TOPIC_ALREADY_EXISTS)))
        return future

    def create_partitions(self, new: list[Any], **_: object) -> dict[str, Future[Any]]:
        return {topic.topic: Future() for topic in new}

    def describe_configs(self, resources: list[Any], **_: object) -> dict[Any, Future[Any]]:
        return {resource: Future() for resource in resources}

    def describe_topics(self, names: Any, **_: object) -> dict[str, Future[Any]]:
        return {name: Future() for name in names.topic_names}

    def list_offsets(self, asked: dict[Any, Any], **_: object) -> dict[Any, Future[Any]]:
        return {place: Future() for place in asked}

    def list_topics(self, *_: object, **__: object) -> Any:
        return SimpleNamespace(topics={"old": SimpleNamespace(partitions={0: SimpleNamespace(leader=1)})})


def growing(client: Any) -> None:
    with pytest.MonkeyPatch.context() as patched:
        one = topics.TopicIncarnation(b"", 1)
        patched.setattr(topics, "incarnations", lambda *_: {"old": one})
        topics.grow_topic("nobody:1", "old", 2, timeout_s=TIMEOUT_S)


QUESTIONS: dict[str, Callable[[Any], object]] = {
    "a new topic": lambda _: topics.ensure_topics("nobody:1", [topics.TopicPlan("new")], timeout_s=TIMEOUT_S),
    "more partitions": growing,
    "configurations": lambda client: topics.configurations(client, ["old"], timeout_s=TIMEOUT_S),
    "incarnations": lambda client: topics.incarnations(client, ["old"], timeout_s=TIMEOUT_S),
    "offsets": lambda client: topics.retained_offsets(client, "old", 0, timeout_s=TIMEOUT_S),
    "a new log of models": lambda _: kafka_model_event_log.ensure_topic("nobody:1", "new", timeout_s=TIMEOUT_S),
    "an old log of models": lambda _: kafka_model_event_log.ensure_topic("nobody:1", "old", timeout_s=TIMEOUT_S),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_without_an_answer_is_no_crash(question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = SlowBroker()
    monkeypatch.setattr(topics, "admin", lambda _: client)
    monkeypatch.setattr(kafka_clients, "admin", lambda _: client)
    with pytest.raises(BusUnavailableError, match=r"old|new"):
        QUESTIONS[question](client)
