"""A worker folds the topics of one view, and builds it again from the event log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from headrace.bus.event import Event
from headrace.bus.kafka_clients import admin
from headrace.bus.producer import EventProducer
from headrace.bus.stream import Stream
from headrace.bus.topics import TopicPlan, ensure_topics, incarnations
from headrace.errors import FeaturesUnknownError
from headrace.features.definitions.aggregates import Count, Sum
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.role import Role
from headrace.features.definitions.view import FeatureView
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient, Status
from tests.support.view_worker import working
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.slow]
NOW = datetime.now(UTC)


class Bought(Event):
    """A card buys."""

    card: str
    amount: float
    at: datetime


class Moved(Event):
    """A card sends to another."""

    sender: str
    receiver: str
    amount: float
    sent_at: datetime


def balance(namespace: str) -> FeatureView:
    """What all of this does to a card."""
    bought = Stream(f"{namespace}.bought", Bought, event_time="at", key="card")
    moved = Stream(f"{namespace}.moved", Moved, event_time="sent_at", key="sender")
    return FeatureView(
        "balance",
        entity=Entity("card", str),
        source=[
            Role(bought, amount=-col("amount")),
            Role(moved, card="sender", amount=-col("amount")),
            Role(moved, card="receiver"),
        ],
        windows=["1h"],
        features={"change": Sum("amount"), "moves": Count()},
    )


def is_exact(client: FeatureClient, wanted: list[list[float]]) -> bool:
    """Whether the look-up of all cards has these values, and says that they are the present ones."""
    try:
        found = client.get("risk", [{"card": f"c{number}"} for number in range(4)])
    except FeaturesUnknownError:  # the worker has just begun
        return False
    served = {found.statuses(row)["balance"] for row in range(4)}
    return served == {Status.PRESENT} and found.to_lists() == wanted


def test_a_worker_folds_all_topics_of_a_view_and_rebuilds_it(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    view = balance(namespace)
    bought, moved = view.streams
    ensure_topics(services.bootstrap_servers, [TopicPlan(bought.topic, 2), TopicPlan(moved.topic, 3)])
    producer, at = EventProducer(services.bootstrap_servers), NOW - timedelta(minutes=1)
    for number in range(40):
        producer.send(bought, Bought(f"c{number % 4}", 1.0, at))
        producer.send(moved, Moved(f"c{number % 4}", f"c{(number + 1) % 4}", 0.5, at))
        producer.send(moved, Moved("c0", "c0", 2.0, at))
    producer.flush()
    found = incarnations(admin(services.bootstrap_servers), [bought.topic, moved.topic])
    ids = {topic: found[topic].topic_id.hex() for topic in found}
    wanted = [[-10.0, 110], [-10.0, 30], [-10.0, 30], [-10.0, 30]]
    for _ in range(2):
        with working(services, namespace, tmp_path, view, service="risk") as store:
            client = FeatureClient(store, heartbeat_bound="20s")
            until(partial(is_exact, client, wanted), 60, lambda: client.get("risk", {"card": "c0"}))  # noqa: B023
            offsets = client.get("risk", {"card": "c1"}).offsets()["balance"]
            assert set(offsets) == {
                *(f"{ids[bought.topic]}-{n}" for n in range(2)), *(f"{ids[moved.topic]}-{n}" for n in range(3))
            }  # fmt: skip
            assert sum(offsets.values()) == 120
        store = RedisOnlineStore(services.redis_url, namespace)
        position, _ = store.drop([view.spec.versioned_name], 0)
        while position:  # the next worker has only the event log
            position, _ = store.drop([view.spec.versioned_name], position)
        store.close()
