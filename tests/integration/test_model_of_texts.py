"""A model that learns from texts, times and lists, on real servers: trained, swapped in, served and audited."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from headrace import (
    Count,
    Entity,
    Event,
    EventProducer,
    FeatureService,
    FeatureView,
    First,
    Gate,
    Label,
    Last,
    LastN,
    Model,
    Stream,
    col,
    volume,
    when,
)
from headrace.base.times import epoch_us
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.kafka_model_event_log import KafkaModelEventLog, ensure_topic
from headrace.models.model_event_log import MemoryAcknowledgements
from headrace.models.predictions import predictions_of, vectors_of
from headrace.models.registry import MemoryRegistry
from headrace.serving.answerer import Answerer
from headrace.serving.features import FeatureClient
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.worker import make_topics, own_streams, publish_definitions
from headrace.trainers.audit.auditor import Auditor
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.served_nulls import ServedNulls
from headrace.trainers.data.shared_vectors import SharedVectors
from headrace.trainers.data.vector_scores import VectorScores
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.messages import RetrainRequest
from headrace.trainers.runs.training_runner import TrainingRunner
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from headrace.app.local.services import LocalServices
    from headrace.serving.subscriber import LoadedModel
    from headrace.trainers.runs.messages import RunEnded

pytestmark = [pytest.mark.integration, pytest.mark.long]
START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS, A_DAY, FIRST = 36, 150, 20
MERCHANTS = ["grocery", "bookshop", "casino", "a jeweller with a long name"]


class Paid(Event):
    """A card pays; the merchant may be unknown."""

    card: str
    merchant: str | None
    paid_at: datetime


class Checkout(Event):
    """A request: is the next payment of the card fraud?"""

    id: int
    card: str
    channel: str
    at: datetime


class Verdict(Event):
    """Whether it was."""

    id: int
    is_fraud: bool
    known_at: datetime


CATEGORIES = ["card__merchant_7d", "card__merchants_2_7d", "channel", "way"]
ON_DEMAND = {"way": when(col("card__merchant_7d").is_null()).then(None).otherwise(col("channel").text.upper())}


def train(X: pd.DataFrame, y: pd.Series, run: Any) -> Any:  # noqa: N803 - as a trainer calls it
    """A pipeline that takes texts as they are, and categories that it has never seen."""
    encoded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), CATEGORIES[::2]),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), CATEGORIES[1:2]),
        (CountVectorizer(analyzer=list), "card__recent_7d"),
        ("passthrough", ["card__n_7d"]),
    )
    return make_pipeline(encoded, LogisticRegression(max_iter=500)).fit(X, y)


@dataclass
class Shop:
    """The streams of a namespace, what happens in them, and a worker."""

    services: LocalServices
    namespace: str
    folder: Path
    sent: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name, servers = self.namespace, self.services.bootstrap_servers
        self.paid = Stream(f"{name}.paid", Paid, event_time="paid_at", key="card")
        self.checkouts = Stream(f"{name}.checkouts", Checkout, event_time="at", key="card")
        self.verdicts = Stream(f"{name}.verdicts", Verdict, event_time="known_at", key="id")
        self.view = FeatureView(
            "card", Entity("card", str), self.paid, ["7d"], history="60d",
            features={
                "merchant": Last("merchant"), "merchants": LastN("merchant", 2), "since": First("paid_at"),
                "n": Count(), "recent": LastN("merchant", 3, as_list=True),
            },
        )  # fmt: skip
        self.model = Model(
            f"fraud-{name}", requests=self.checkouts, request_key="id", requested_at="at",
            features=FeatureService("fraud", [self.view], ON_DEMAND, {"channel": str}), request_features=["channel"],
            label=Label(self.verdicts, value=col("is_fraud"), on="id", within="1d"), train=train,
            triggers=volume(labels=1_000), first_after=200,
            gate=Gate("auc", rule="not_worse", margin=0.2),
        )  # fmt: skip
        make_topics(servers, [self.paid, self.checkouts, self.verdicts], 1, namespace=name, replay=True)
        self.store = RedisOnlineStore(self.services.redis_url, name)
        publish_definitions(self.store, [self.view], [self.model.features])
        self.log = EventLog(self.folder / "log", namespace=name)
        config = PlaneConfig(servers, group=f"{name}-workers", worker=name, namespace=name, flush_s=0.5)
        streams = own_streams([self.paid, self.checkouts, self.verdicts], name)
        self.plane = DataPlane(config, streams, FixedViews([self.view.spec]), self.store, self.log)
        ensure_topic(servers, f"{name}.models")
        self.model_events = KafkaModelEventLog(servers, f"{name}.models")
        self.producer, self.client = EventProducer(servers), FeatureClient(self.store, clock="stream")
        self.registry = MemoryRegistry(self.folder / "registry")

    def send(self, stream: Stream, event: Any, at: datetime) -> None:
        self.producer.send(stream, event, timestamp=at)
        self.sent[stream.topic] = self.sent.get(stream.topic, 0) + 1

    def happens(self) -> list[Checkout]:
        """Weeks of payments and checkouts: after a payment to a casino, the next one is mostly fraud."""
        chance, asked = np.random.default_rng(7), []
        for number in range(DAYS * A_DAY):
            at, card = START + timedelta(days=number / A_DAY), f"card-{chance.integers(800)}"
            merchant = [*MERCHANTS, None][chance.choice(5, p=[0.4, 0.25, 0.2, 0.1, 0.05])]
            checkout = Checkout(id=number, card=card, channel=["web", "app"][number % 2], at=at + timedelta(minutes=5))
            is_fraud = bool(chance.random() < (0.9 if merchant == "casino" else 0.1))
            self.send(self.paid, Paid(card=card, merchant=merchant, paid_at=at), at)
            self.send(self.checkouts, checkout, checkout.at)
            self.send(self.verdicts, Verdict(number, is_fraud, checkout.at), checkout.at + timedelta(hours=2))
            asked.append(checkout)
        self.producer.flush()
        return asked

    def logged(self, **served: int) -> None:
        """Wait until the event log has everything that was sent."""
        own = {vectors_of(self.namespace).topic: "vectors", predictions_of(self.namespace).topic: "predictions"}
        wanted = self.sent | {topic: served[name] for topic, name in own.items() if name in served}
        for topic, count in wanted.items():
            self.plane.flush_soon()
            until(lambda t=topic, n=count: self.log.exists(t) and self.log.read(t).height == n, 60)  # type: ignore[misc]

    def run(self, reason: str, day: int) -> RunEnded:
        runner = TrainingRunner(self.model, self.log, self.model_events, self.registry, InlineFits())
        t_us = epoch_us(START + timedelta(days=day))
        asked = {"model": self.model.name, "rule": reason, "reason": reason, "t_us": t_us, "matured_labels": 500}
        return runner.run(RetrainRequest(request_id=f"{self.model.name}-{reason}", **asked))  # type: ignore[arg-type]

    def subscriber(self) -> ModelSubscriber:
        loading = LoadingPolicy([], ArtifactPlaces([self.folder]))
        return ModelSubscriber(
            self.model.name, self.model_events, MemoryAcknowledgements(), loading, application="shop",
            clock=lambda: epoch_us(START),
        )  # fmt: skip

    def answerer(self, subscriber: ModelSubscriber) -> Answerer:
        return Answerer(
            subscriber, self.client, self.producer, new_id=lambda: uuid.uuid4().hex, namespace=self.namespace
        )


@pytest.fixture
def shop(services: LocalServices, namespace: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(services, namespace, tmp_path)
    worker = threading.Thread(target=shop.plane.run, name=namespace)
    worker.start()
    try:
        yield shop
    finally:
        shop.plane.stop()
        worker.join(60)
        shop.store.close()
        shop.model_events.close()


def test_a_model_of_texts_is_trained_swapped_in_served_and_audited(shop: Shop) -> None:
    asked = shop.happens()
    shop.logged()
    ended = shop.run("first", day=FIRST)
    assert ended.outcome == "published", ended.reason
    subscriber = shop.subscriber()
    answerer = shop.answerer(subscriber)
    first = swapped_in(subscriber, 1)
    served = [each for each in asked if each.at >= START + timedelta(days=FIRST)][::8]
    answers = [
        answer for each in served for answer in answerer.predict_many([msgspec.structs.asdict(each)], as_of=each.at)
    ]
    assert all(answer.error is None for answer in answers)
    high = [answer.value > 0.5 for answer in answers]
    after = [merchants(shop, each) == "casino" for each in served]
    assert np.mean(np.array(high) == np.array(after)) > 0.95
    unseen_category_is_predicted(shop, answerer)
    count = len(served) + 2
    shop.producer.flush()
    shop.logged(vectors=count, predictions=count)
    the_log_has_the_texts(shop, count, first)
    ended = shop.run("second", day=DAYS - 1)
    assert ended.outcome == "published", ended.reason
    swapped_in(subscriber, 2)
    again = answerer.predict(msgspec.structs.asdict(served[-1]), as_of=served[-1].at)
    assert (again.version, again.error) == (2, None)


def swapped_in(subscriber: ModelSubscriber, version: int) -> LoadedModel:
    loaded = subscriber.poll_once("10s")
    assert loaded is not None
    assert loaded.version == version
    return loaded


def merchants(shop: Shop, of: Checkout) -> str | None:
    found: str | None = shop.client.get_views("card", {"card": of.card}, as_of=of.at).to_dicts()[0]["card__merchant_7d"]
    return found


def unseen_category_is_predicted(shop: Shop, answerer: Answerer) -> None:
    """A merchant and a channel that no row of the training set has, and a card without a payment."""
    at = START + timedelta(days=DAYS)
    shop.send(shop.paid, Paid(card="card-1", merchant="opened yesterday", paid_at=at), at)
    shop.producer.flush()
    known = "opened yesterday"
    until(lambda: merchants(shop, Checkout(0, "card-1", "web", at + timedelta(minutes=1))) == known, 60)
    requests = [
        {"id": 10_000 + number, "card": card, "channel": "post", "at": at + timedelta(minutes=1)}
        for number, card in enumerate(["card-1", "a card that never paid"])
    ]
    for answer in answerer.predict_many(requests, as_of=at + timedelta(minutes=1)):
        assert answer.error is None
        assert 0 < answer.value < 1


def the_log_has_the_texts(shop: Shop, count: int, live: LoadedModel) -> None:
    """Audit, skew, counts of nulls, and scores of logged vectors: all of them know the texts."""
    report = Auditor(shop.model, shop.log).audit()
    assert (report.checked, report.mismatched, report.not_logged) == (count, 0, 0), report.examples
    skew = Auditor(shop.model, shop.log).skew()
    assert skew.features["card__merchant_7d"] > 0.95
    vectors = shop.log.read(vectors_of(shop.namespace).topic)
    texts = {text for row in vectors["texts"].to_list() if row for text in row[:3] if text}
    assert {*MERCHANTS, "opened yesterday"} <= texts
    assert all(row[5].startswith("[") for row in vectors["texts"].to_list())
    scored = VectorScores(
        shop.model, SharedVectors(shop.log, {shop.model.name: shop.model}).feed(shop.model.name), live.estimator
    )
    by_key = {row["key"]: row["score"] for row in shop.log.read(predictions_of(shop.namespace).topic).to_dicts()}
    found = scored.frame()
    assert found.height == count
    assert all(by_key[key] == pytest.approx(score) for key, score in found.select("key", "score").iter_rows())
    nulls = ServedNulls(shop.log, {shop.model.name: shop.model})
    while not nulls.count(epoch_us(START + timedelta(days=DAYS + 2)) // 86_400_000_000):
        pass
    _, rows, empty = nulls.of(shop.model)
    assert rows.sum() == count
    assert 0 < empty[:, 0].sum() < count / 4
    end_us = epoch_us(START + timedelta(days=DAYS))
    logged, computed = (
        ExampleBuilder(replace(shop.model, learn_from=source), shop.log).build(end_us, source)
        for source in ("logged", "events")
    )
    of_served = computed.frame[np.isin(computed.key, logged.key)].reset_index(drop=True)
    assert logged.frame["card__merchant_7d"].tolist() == of_served["card__merchant_7d"].tolist()
    assert logged.frame["card__recent_7d"].tolist() == of_served["card__recent_7d"].tolist()
    assert {type(each) for each in logged.frame["card__recent_7d"]} == {list}
    assert logged.frame["card__since_7d"].tolist() == of_served["card__since_7d"].tolist()
    assert str(logged.frame["card__since_7d"].dtype) == str(of_served["card__since_7d"].dtype) == "datetime64[us, UTC]"
