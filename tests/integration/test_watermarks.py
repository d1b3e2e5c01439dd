"""The offsets of partitions that were not there when they were first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaException

from headrace.bus.topics import TopicPlan, ensure_topics, grow_topic
from headrace.bus.watermarks import Watermarks

if TYPE_CHECKING:
    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


def test_a_partition_that_was_not_there_is_found_as_soon_as_it_is(services: LocalServices, namespace: str) -> None:
    servers = services.bootstrap_servers
    watermarks = Watermarks(servers)
    with pytest.raises(KafkaException, match="Unknown"):
        watermarks.offsets(namespace, 0)
    ensure_topics(servers, [TopicPlan(namespace, 1)])
    assert watermarks.offsets(namespace, 0) == (0, 0)
    with pytest.raises(KafkaException, match="Unknown"):
        watermarks.offsets(namespace, 3)
    grow_topic(servers, namespace, 4)
    assert watermarks.offsets(namespace, 3) == (0, 0)
    watermarks.close()
