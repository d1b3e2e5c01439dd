"""The reference project (streams/, features/) on real services, as of a worker that has seen no event yet."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from features import delay_features
from headrace.bus.control_topics import ControlTopics
from headrace.bus.source_partition import SourcePartition
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.features.online.cursor import Cursor
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.features.online.store import FencedWrite
from headrace.models.kafka_model_event_log import ensure_topic
from headrace.streams.worker import publish_definitions
from streams import departures
from tests.support.documents import ROOT

if TYPE_CHECKING:
    import pytest

    from headrace.app.local.services import LocalServices


class ReferenceProject:
    """Its topics are made, its views are deployed, and the environment says where the servers are."""

    def __init__(self, services: LocalServices, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
        monkeypatch.setenv("HEADRACE_REDIS_URL", services.redis_url)
        monkeypatch.setenv("HEADRACE_NAMESPACE", namespace)
        topics = ControlTopics(namespace)
        made = [departures.topic, topics.vectors, topics.predictions, topics.model_acks]
        ensure_topics(services.bootstrap_servers, [TopicPlan(topic) for topic in made])
        ensure_topic(services.bootstrap_servers, topics.models)
        self._store = RedisOnlineStore(services.redis_url, namespace)
        publish_definitions(self._store, delay_features.views, [delay_features])
        first = Cursor(uuid.uuid4().bytes, -1)
        self._written = first.moved(0, 0, 0)
        self._write(first, self._written)

    def beat(self) -> None:
        """Write the heartbeat of every view, as a worker does each second."""
        self._write(self._written, self._written)

    def _write(self, before: Cursor, after: Cursor) -> None:
        source = SourcePartition(0, bytes(16))
        names = [f"{view.name}@{view.version}" for view in delay_features.views]
        assert all(self._store.write([FencedWrite(name, source, before, after) for name in names]))

    def close(self) -> None:
        """Give the connections back."""
        self._store.close()
