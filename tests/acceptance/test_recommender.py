"""A recommender from raw events to a prediction, on real Kafka and Valkey; and its features alone, without servers."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest

from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.producer import EventProducer
from headrace.errors import TransientError
from headrace.event_log.columns import ACCEPTED
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.kafka_model_event_log import KafkaModelEventLog, ensure_topic
from headrace.models.model_event_log import MemoryAcknowledgements
from headrace.models.predictions import vectors_of
from headrace.models.registry import MemoryRegistry
from headrace.serving.answerer import Answerer
from headrace.serving.features import FeatureClient
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.processors.event_features import EventFeatures
from headrace.streams.processors.log_reach import LogReach, TopicEnds
from headrace.streams.processors.processor_run import ProcessorOptions, ProcessorRun
from headrace.streams.worker import make_topics, own_streams, publish_definitions
from headrace.testing import fold
from headrace.trainers.audit.auditor import Auditor
from headrace.trainers.runs.fitting import FitPool
from headrace.trainers.runs.messages import RetrainRequest
from headrace.trainers.runs.training_runner import RunOptions, TrainingRunner
from headrace.trainers.triggers.evidence import DAY_US
from tests.acceptance.recommender import (
    Impression,
    Item,
    Look,
    Outcome,
    Page,
    Recommender,
    Shown,
    application,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.bus.stream import Stream

START_US = 20_000 * DAY_US
DAYS, A_DAY = 29, 150
END = utc_datetime(START_US + DAYS * DAY_US)
USERS = [f"user-{n}" for n in range(12)]
ITEMS = [f"item-{n}" for n in range(30)]
CATEGORIES = ["books", "games", "shoes"]
TRUSTED = ["numpy.dtype"]


def test_the_features_of_a_feed_without_servers() -> None:
    app, now = application("feed"), datetime(2026, 3, 16, tzinfo=UTC)
    embeddings = {"a": [1.0, 0.0, 2.0], "b": [3.0, 4.0, 0.0]}
    items = [Item(name, "books", of, now - timedelta(days=20)) for name, of in embeddings.items()]
    seen = [
        app.seen.event(user="ann", item=name, at=now - timedelta(hours=hour), item__embedding=embeddings[name])
        for hour, name in ((5, "a"), (3, "b"), (200, "b"))
    ]
    pages = [
        Page("ann", now - timedelta(days=10), [Shown("books", clicked=True), Shown("books", clicked=True)]),
        Page("ben", now - timedelta(hours=9), [Shown("books", clicked=False), Shown("shoes", clicked=True)]),
    ]
    found = fold(
        app.features, {app.items: items, app.seen: seen, app.pages: pages}, at=now,
        entity={"user": "ann", "item": "b", "category": "books"}, request={"item": "b"},
    )  # fmt: skip
    (row,) = found.to_dicts()
    assert row["item__embedding"] == [3.0, 4.0, 0.0]
    assert (row["user__taste_7d"], row["user__last_7d"], row["is_seen"]) == ([2.0, 2.0, 1.0], ["b", "a"], True)
    assert (row["category__clicks_7d"], row["category__clicks_7d_lag_7d"]) == (0.0, 1.0)
    assert (row["category__shown_7d"], row["category__shown_7d_lag_7d"]) == (1, 2)


@dataclass
class History:
    """Some weeks of a shop: a user clicks the items whose embedding is near to those that the user has looked at."""

    items: list[Item]
    looks: list[Look]
    pages: list[Page]
    impressions: list[Impression]
    outcomes: list[Outcome]

    @staticmethod
    def made_up() -> History:
        rng = np.random.default_rng(4)
        directions = {name: np.round(rng.normal(size=3), 3) for name in (*ITEMS, *USERS)}
        items = [
            Item(name, CATEGORIES[n % 3], directions[name].tolist(), utc_datetime(START_US + n))
            for n, name in enumerate(ITEMS)
        ]
        found = History(items, [], [], [], [])
        for day_us in range(START_US, epoch_us(END), DAY_US):
            for number in range(A_DAY):
                at = utc_datetime(day_us + (number + 1) * (DAY_US // (A_DAY + 2)))
                found.add(rng, directions, str(rng.choice(USERS)), at)
        return found

    def add(self, rng: Any, directions: dict[str, Any], user: str, at: datetime) -> None:
        """A user looks at an item to the user's taste, leaves a page, and sees one item more."""
        likes = [float(directions[user] @ directions[item]) for item in ITEMS]
        look = ITEMS[int(np.argmax(likes + rng.gumbel(size=len(ITEMS))))]
        self.looks.append(Look(user, look, at))
        place = int(rng.integers(len(ITEMS)))
        clicked = bool(rng.random() < 1 / (1 + np.exp(1.0 - 1.5 * likes[place])))
        shown = [Shown(str(rng.choice(CATEGORIES)), bool(rng.random() < 0.3)) for _ in range(int(rng.integers(1, 4)))]
        self.pages.append(Page(user, at, shown))
        number = len(self.impressions)
        self.impressions.append(
            Impression(number, user, ITEMS[place], CATEGORIES[place % 3], at + timedelta(minutes=1))
        )
        self.outcomes.append(Outcome(number, at + timedelta(minutes=30), clicked))


@dataclass
class Scene:
    """The running application."""

    app: Recommender
    producer: EventProducer
    plane: DataPlane
    client: FeatureClient
    log: EventLog
    history: History

    def send(self) -> None:
        """Produce the history, each event at its own time, the table first; and wait until the log has it all."""
        past, app = self.history, self.app
        self._send(app.items, past.items, "listed_at")
        for stream, events in (
            (app.looks, past.looks), (app.pages, past.pages), (app.impressions, past.impressions),
            (app.outcomes, past.outcomes),
        ):  # fmt: skip
            self._send(stream, events, "at")
        for stream, count in ((app.seen, len(past.looks)), (app.outcomes, len(past.outcomes))):
            self.logged(stream.topic, count)

    def _send(self, stream: Stream, events: list[Any], time: str) -> None:
        for event in events:
            self.producer.send(stream, event, timestamp=getattr(event, time))
        self.producer.flush()
        self.logged(stream.topic, len(events))

    def logged(self, topic: str, count: int) -> None:
        """Wait until the event log has so many events of a topic."""

        def there() -> bool:
            self.plane.flush_soon()
            return self.log.read(topic).filter(pl.col("__verdict") == ACCEPTED).height == count

        until(there, 60)


def enriching(scene: Scene, servers: str, stopping: threading.Event) -> None:
    """Write the looks with the embedding of their item, as `headrace process` does."""
    seen: Any = scene.app.seen
    reach = LogReach({scene.app.items.topic: scene.app.items.spec}, TopicEnds(servers), seen.enrichment.silent_after_us)
    group = f"{scene.log.namespace}-process"
    run = ProcessorRun(
        seen.processor,
        ProcessorOptions(
            servers, group, group, enriched=lambda topic_id: EventFeatures(seen, scene.log, reach, topic_id)
        ),
    )
    while not stopping.is_set():
        try:
            run.look(stopping)
        except TransientError:  # the log has not come so far
            continue


@pytest.fixture
def scene(services: LocalServices, namespace: str, tmp_path: Path) -> Iterator[Scene]:
    app, servers = application(namespace), services.bootstrap_servers
    make_topics(servers, app.streams, 1, namespace=namespace, replay=True)
    store, log = RedisOnlineStore(services.redis_url, namespace), EventLog(tmp_path / "log", namespace=namespace)
    publish_definitions(store, app.features.views, [app.features])
    plane = DataPlane(
        PlaneConfig(servers, group=f"{namespace}-workers", worker=namespace, namespace=namespace, flush_s=0.3),
        own_streams(app.streams, namespace),
        FixedViews([view.spec for view in app.features.views]),
        store,
        log,
    )
    client = FeatureClient(store, clock="stream", heartbeat_bound="1m")
    made = Scene(app, EventProducer(servers), plane, client, log, History.made_up())
    stopping = threading.Event()
    threads = [
        threading.Thread(target=plane.run, name=f"{namespace}-worker"),
        threading.Thread(target=enriching, args=(made, servers, stopping), name=f"{namespace}-process"),
    ]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        stopping.set()
        plane.stop()
        for thread in threads:
            thread.join(60)
        store.close()


@pytest.mark.acceptance
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_feed_from_raw_events_to_a_prediction(
    services: LocalServices, namespace: str, scene: Scene, tmp_path: Path
) -> None:
    model, topic = scene.app.model, f"{namespace}.models"
    ensure_topic(services.bootstrap_servers, topic)
    model_events = KafkaModelEventLog(services.bootstrap_servers, topic)
    registry = MemoryRegistry(tmp_path / "registry")
    scene.send()
    check_look_ups(scene)
    trainer = TrainingRunner(model, scene.log, model_events, registry, FitPool(), options=RunOptions(trusted=TRUSTED))
    asked = RetrainRequest(
        request_id=f"{model.name}-first", model=model.name, rule="first", reason="first", t_us=epoch_us(END),
        matured_labels=4_000,
    )  # fmt: skip
    ended = trainer.run(asked)
    assert (ended.outcome, ended.version) == ("published", 1), ended.reason

    following = ModelSubscriber(
        model.name, model_events, MemoryAcknowledgements(),
        LoadingPolicy(TRUSTED, ArtifactPlaces([tmp_path / "registry"])), application="feed",
        clock=lambda: epoch_us(END),
    )  # fmt: skip
    assert following.poll_once("5s") is not None
    answerer = Answerer(
        following, scene.client, scene.producer, new_id=lambda: uuid.uuid4().hex, namespace=scene.log.namespace
    )
    check_predictions(scene, answerer)
    scene.producer.flush()
    scene.logged(vectors_of(scene.log.namespace).topic, len(USERS) * len(ITEMS))
    found = Auditor(model, scene.log).audit()
    assert (found.checked, found.mismatched) == (len(USERS) * len(ITEMS), 0), found
    model_events.close()


def check_look_ups(scene: Scene) -> None:
    """The features of every user and category are those of a loop over what happened."""
    embeddings = {item.item: item.embedding for item in scene.history.items}
    size = 3 * 3_600_000_000
    rows = [{"user": user, "item": ITEMS[0], "category": CATEGORIES[n % 3]} for n, user in enumerate(USERS)]

    def inside(at: datetime, lag: int) -> bool:
        newest = epoch_us(END) // size - lag * 56
        return newest - 56 < epoch_us(at) // size <= newest

    def answer() -> list[dict[str, Any]]:
        return scene.client.get("feed", rows, as_of=END, request={"item": ITEMS[0]}).to_dicts()

    def known() -> bool:
        shown = sum(len(page.shown) for page in scene.history.pages if inside(page.at, 0))
        return bool(sum(row["category__shown_7d"] for row in answer()[:3]) == shown)

    until(known, 30)
    for row, found in zip(rows, answer(), strict=True):
        looks = [look.item for look in scene.history.looks if look.user == row["user"] and inside(look.at, 0)]
        assert found["user__taste_7d"] == pytest.approx(np.mean([embeddings[item] for item in looks], axis=0).tolist())
        assert found["user__last_7d"] == looks[:-11:-1]
        assert found["item__embedding"] == embeddings[ITEMS[0]]
        for name, lag in (("7d", 0), ("7d_lag_7d", 1)):
            pages = [page for page in scene.history.pages if inside(page.at, lag)]
            clicked = [each.clicked for page in pages for each in page.shown if each.category == row["category"]]
            assert found[f"category__shown_{name}"] == len(clicked)
            assert found[f"category__clicks_{name}"] == pytest.approx(np.mean(clicked))


def check_predictions(scene: Scene, answerer: Answerer) -> None:
    """The items that a user would look at have the higher scores."""
    embeddings = {item.item: np.array(item.embedding) for item in scene.history.items}
    asked = [
        Impression(10**6 + number, user, item.item, item.category, END)
        for number, (user, item) in enumerate((user, item) for user in USERS for item in scene.history.items)
    ]
    answers = answerer.predict_many([msgspec.structs.asdict(each) for each in asked], as_of=END)
    assert {answer.version for answer in answers} == {1}
    looked = {user: [embeddings[look.item] for look in scene.history.looks if look.user == user] for user in USERS}
    near = [float(np.mean(looked[each.user], axis=0) @ embeddings[each.item]) for each in asked]
    together = np.corrcoef(near, [answer.value for answer in answers])[0, 1]
    assert together > 0.5, together
