"""Requests that are events of the model's view, on real Kafka and Valkey with a running worker: each counts itself."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from headrace import Count, Entity, Event, EventProducer, FeatureService, FeatureView, Predictor, Stream, Sum
from headrace.bus.control_topics import ControlTopics
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.models.kafka_model_event_log import KafkaModelEventLog, ensure_topic
from headrace.models.model_events import OwnEventRef, ServiceRef, ViewRef, format_of
from headrace.models.predictions import vectors_of
from headrace.serving import ServerAddresses
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.worker import make_topics, own_streams, publish_definitions
from tests.support.model_events import version_one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
PAYMENTS = 20


class Payment(Event):
    """A payment: the request, and the event that the view counts."""

    id: int
    card: str
    cents: int
    at: datetime


class Scene:
    """A worker that runs, and the definitions that it folds."""

    def __init__(self, services: LocalServices, namespace: str, folder: Path) -> None:
        self.services, self.namespace, self.folder = services, namespace, folder
        self.payments = Stream(f"{namespace}.payments", Payment, event_time="at", key="card")
        self.view = FeatureView("card", Entity("card"), self.payments, ["1h"], {"n": Count(), "cents": Sum("cents")})
        self.service = FeatureService("risk", [self.view])
        servers, topic = services.bootstrap_servers, self.payments.topic
        make_topics(servers, [self.payments], 2, namespace=namespace)
        self.topics = ControlTopics(namespace)
        ensure_topics(servers, [TopicPlan(self.topics.model_acks)])
        ensure_topic(servers, self.topics.models)
        store = RedisOnlineStore(services.redis_url, namespace)
        publish_definitions(store, [self.view], [self.service])
        config = PlaneConfig(servers, group=f"{namespace}-workers", worker=namespace, namespace=namespace, flush_s=0.5)
        views, streams = FixedViews([self.view.spec]), own_streams([self.payments], namespace)
        self.plane = DataPlane(config, streams, views, store, EventLog(folder / "log"))
        self.topic = topic

    def predictor(self, rule: Literal["included", "excluded"]) -> Predictor:
        """A predictor of a model with this rule, whose version 1 is published."""
        model = f"{rule}-{self.namespace}"
        frame = pd.DataFrame({"card__n_1h": np.arange(8.0), "card__cents_1h": np.arange(8.0)})
        service = ServiceRef(
            name="risk",
            hash=self.service.version,
            views=[ViewRef(name="card", spec_hash=self.view.version, keys=["card"])],
            columns=self.service.columns(),
            request_features=[],
            key="id",
            at="at",
            own_event=OwnEventRef(rule=rule, topic=self.topic, views=["card"]),
        )
        event = version_one(model, LogisticRegression().fit(frame, [0, 1] * 4), service, self.folder)
        data: Any = msgspec.structs.replace(event.data, format=format_of(service))
        log = KafkaModelEventLog(self.services.bootstrap_servers, self.topics.models)
        log.append(msgspec.structs.replace(event, data=data))
        servers, redis_url = self.services.bootstrap_servers, self.services.redis_url
        where = ServerAddresses(servers, redis_url, self.namespace, artifact_places=[str(self.folder)])
        found = Predictor(model, where, own_event_bound="20s")
        found.wait_until_ready("20s", version=1)
        return found


@pytest.fixture
def scene(services: LocalServices, namespace: str, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(services, namespace, tmp_path)
    worker = threading.Thread(target=scene.plane.run, name=namespace)
    worker.start()
    try:
        yield scene
    finally:
        scene.plane.stop()
        worker.join()


@pytest.mark.parametrize("rule", ["included", "excluded"])
def test_each_request_is_predicted_with_or_without_itself(
    scene: Scene, rule: Literal["included", "excluded"], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Any] = []
    producer = EventProducer(scene.services.bootstrap_servers)
    with scene.predictor(rule) as predictor:
        send = EventProducer.send

        def recorded(self: EventProducer, stream: Stream, event: Any, **more: Any) -> None:
            if stream is vectors_of(scene.namespace):
                logged.append(event)
            send(self, stream, event, **more)

        monkeypatch.setattr(EventProducer, "send", recorded)
        for number in range(PAYMENTS):
            payment = Payment(number, "ab"[number % 2], 100, datetime.now(UTC))
            record = producer.deliver(scene.payments, payment)
            predictor.predict(msgspec.structs.asdict(payment), record=record)
    found = [vector.values for vector in logged]  # noqa: PD011 - an event, no frame
    earlier = [number // 2 for number in range(PAYMENTS)]
    if rule == "included":
        assert found == [[before + 1, 100 * (before + 1)] for before in earlier]
        return
    # Not all earlier payments may be folded yet; but never the own one, which a value of whole numbers would show.
    assert all(value in ([n, 100 * n] for n in range(before + 1)) for value, before in zip(found, earlier, strict=True))
