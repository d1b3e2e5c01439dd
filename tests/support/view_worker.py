"""A worker of one view or several in a thread of the test."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.service import FeatureService
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.worker import publish_definitions
from tests.support.control_topics import OBSERVATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace import FeatureView
    from headrace.app.local.services import LocalServices


@contextmanager
def working(
    services: LocalServices,
    namespace: str,
    folder: Path,
    view: FeatureView,
    *others: FeatureView,
    service: str | None = None,
) -> Iterator[RedisOnlineStore]:
    """The worker's online store. ``service`` is the name of the views' service, if that is not the first view's."""
    store, views = RedisOnlineStore(services.redis_url, namespace), [view, *others]
    streams = list({stream.topic: stream for each in views for stream in each.streams}.values())
    topics = [dead_letter_topic(stream.topic) for stream in streams]
    ensure_topics(services.bootstrap_servers, [TopicPlan(name) for name in (*topics, OBSERVATIONS)])
    served = FeatureService(service or view.name, views)
    plane = DataPlane(
        PlaneConfig(services.bootstrap_servers, group=namespace, flush_s=0.1, heartbeat_s=0.2),
        streams,
        FixedViews([each.spec for each in views], lambda: publish_definitions(store, views, [served])),
        store, EventLog(folder / "events", namespace=namespace),
    )  # fmt: skip
    thread = threading.Thread(target=plane.run)
    thread.start()
    try:
        yield store
    finally:
        plane.stop()
        thread.join(30)
        store.close()
