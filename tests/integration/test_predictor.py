"""An application from a model event to a logged prediction, on real Kafka and Valkey."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pandas as pd
import pytest
from msgspec import UNSET
from sklearn.linear_model import LogisticRegression

from headrace import Count, Entity, Event, FeatureService, FeatureView, Predictor, Stream
from headrace.bus import heartbeats
from headrace.bus.control_topics import ControlTopics
from headrace.bus.heartbeats import ApplicationHeartbeat
from headrace.bus.source_partition import SourcePartition
from headrace.bus.tail import TopicTail
from headrace.bus.topics import TopicPlan, ensure_report_topics, ensure_topics
from headrace.errors import NoModelError
from headrace.features.online.cursor import Cursor
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.features.online.store import FencedWrite
from headrace.models.kafka_model_event_log import KafkaModelEventLog, ensure_topic
from headrace.models.model_events import ModelEvent, ServiceRef, ViewRef
from headrace.models.predictions import Prediction, ServedVector
from headrace.serving import ServerAddresses
from headrace.streams.worker import publish_definitions
from tests.support.model_events import version_one

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


class Seen(Event):
    """Something seen at a place."""

    place: str
    at: datetime


view = FeatureView(
    "seen",
    entity=Entity("place"),
    source=Stream("seen", Seen, event_time="at"),
    windows=["1h"],
    features={"n": Count()},
)
service = FeatureService("seen", [view])


def test_a_predictor_waits_for_a_version_then_predicts_and_logs(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    model, servers = f"m-{namespace}", services.bootstrap_servers
    topics = ControlTopics(namespace)
    ensure_topics(servers, [TopicPlan(name) for name in (topics.vectors, topics.predictions, topics.model_acks)])
    ensure_topic(servers, topics.models)
    ensure_report_topics(servers, topics.observations, heartbeats=topics.heartbeats)
    prepare(RedisOnlineStore(services.redis_url, namespace))
    logged = TopicTail(servers, [topics.vectors, topics.predictions], from_beginning=False)
    request = {"id": 7, "at": datetime.now(UTC), "place": "here", "size": 2.0}
    where = ServerAddresses(servers, services.redis_url, namespace, artifact_places=[str(tmp_path)])
    with Predictor(model, where, application="test") as predictor:
        with pytest.raises(NoModelError):
            predictor.predict(request)
        KafkaModelEventLog(servers, topics.models).append(published(model, tmp_path))
        assert predictor.wait_until_ready("20s", version=1) is predictor.live
        answer = predictor.predict(request)
    assert answer.version == 1
    assert 0.0 < answer.value < 1.0
    assert answer.statuses["seen"] in {"missing", "stale"}  # stale: nobody beats the heart of this store
    vector, prediction = read_both(logged, topics)
    assert (vector.key, vector.values) == ("7", [0.0])  # noqa: PD011 - an event, no frame
    assert (prediction.score, prediction.role) == (answer.value, "live")
    assert prediction.vector_id == vector.vector_id == answer.vector_id
    check_heartbeats(servers, topics, model)


def check_heartbeats(servers: str, topics: ControlTopics, model: str) -> None:
    """The process has said what it waits for, that it has swapped, and that it ends."""
    with closing(TopicTail(servers, [topics.heartbeats], from_beginning=True)) as tail:
        said = [heartbeats.decode(record.value()) for record in tail.drain()]
    first, last = said[0], said[-1]
    assert isinstance(first, ApplicationHeartbeat)
    assert isinstance(last, ApplicationHeartbeat)
    assert (first.application, first.model, first.version, first.predicted) == ("test", model, UNSET, 0)
    assert (last.version, last.wanted, last.predicted, last.stopped) == (1, 1, 1, True)
    assert any(isinstance(each, ApplicationHeartbeat) and each.version == 1 for each in said[:-1])


def prepare(store: RedisOnlineStore) -> None:
    """What a worker would have written for an empty topic."""
    publish_definitions(store, [view], [service])
    cursor = Cursor(uuid.uuid4().bytes, -1)
    written = store.write(
        [FencedWrite(f"seen@{view.version}", SourcePartition(0, bytes(16)), cursor, cursor.moved(0, 0, 0))]
    )
    assert written == [True]


def published(model: str, folder: Path) -> ModelEvent:
    """Version 1, with its artifact."""
    frame = pd.DataFrame({"seen__n_1h": np.arange(8.0), "size": [0.0, 1.0] * 4})
    estimator = LogisticRegression().fit(frame, [0, 1] * 4)
    reference = ServiceRef(
        name="seen",
        hash=service.version,
        views=[ViewRef(name="seen", spec_hash=view.version, keys=["place"])],
        columns=service.columns(),
        request_features=["size"],
        key="id",
        at="at",
    )
    return version_one(model, estimator, reference, folder)


def read_both(tail: TopicTail, topics: ControlTopics) -> tuple[ServedVector, Prediction]:
    """The logged vector and prediction."""
    vectors: list[ServedVector] = []
    predictions: list[Prediction] = []
    until = time.monotonic() + 20
    while not (vectors and predictions) and time.monotonic() < until:
        for message in tail.poll(0.2):
            value = message.value() or b""
            if message.topic() == topics.vectors:
                vectors.append(msgspec.json.decode(value, type=ServedVector))
            else:
                predictions.append(msgspec.json.decode(value, type=Prediction))
    return vectors[0], predictions[0]
