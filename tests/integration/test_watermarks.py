"""The offsets of partitions that were not there when they were first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.bus.topics import TopicPlan, ensure_topics, grow_topic
from headrace.bus.watermarks import Watermarks

if TYPE_CHECKING:
    from confluent_kafka import Consumer

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


def test_a_partition_that_was_not_there_is_found_as_soon_as_it_is(services: LocalServices, namespace: str) -> None:
    servers = services.bootstrap_servers
    watermarks = Watermarks(servers)
    with pytest.raises(KafkaException, match="Unknown"):
        watermarks.offsets(namespace, 0, timeout_s=1)
    ensure_topics(servers, [TopicPlan(namespace, 1)])
    assert watermarks.offsets(namespace, 0) == (0, 0)
    with pytest.raises(KafkaException, match="Unknown"):
        watermarks.offsets(namespace, 3, timeout_s=1)
    grow_topic(servers, namespace, 4)
    assert watermarks.offsets(namespace, 3) == (0, 0)
    watermarks.close()


class Starting:
    """A consumer whose broker leads no partition yet."""

    def __init__(self, code: int) -> None:
        self.answers: list[Any] = [KafkaException(KafkaError(code)), KafkaException(KafkaError(code)), (0, 7)]

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        answer = self.answers.pop(0)
        if isinstance(answer, KafkaException):
            raise answer
        return answer  # type: ignore[no-any-return]


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE])
def test_a_partition_without_a_leader_is_asked_again(code: int) -> None:
    watermarks = Watermarks("127.0.0.1:1")
    watermarks._consumer = cast("Consumer", Starting(code))
    assert watermarks.offsets("models", 0) == (0, 7)
    watermarks._consumer = cast("Consumer", Starting(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    with pytest.raises(KafkaException):
        watermarks.offsets("models", 0)
