"""Another application than the demo's, on real Kafka and Valkey: version 1 is published, a bad challenger refused."""

from __future__ import annotations

import math
import threading
import uuid
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest

from headrace import Gate, expected_cost
from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.producer import EventProducer
from headrace.event_log.columns import ACCEPTED
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.kafka_model_event_log import KafkaModelEventLog, ensure_topic
from headrace.models.model_event_log import MemoryAcknowledgements, events
from headrace.models.model_state import ModelState, fold
from headrace.models.predictions import predictions_of, vectors_of
from headrace.models.registry import MemoryRegistry
from headrace.serving.answerer import Answerer
from headrace.serving.features import FeatureClient, Status
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.worker import make_topics, own_streams, publish_definitions
from headrace.trainers.runs.fitting import FitPool
from headrace.trainers.runs.messages import RetrainRequest, RunEnded
from headrace.trainers.runs.training_runner import RunOptions, TrainingRunner
from headrace.trainers.triggers.evidence import DAY_US
from tests.acceptance.card_payments import (
    CardPayments,
    Payment,
    Settlement,
    application,
    fit_on_balanced_classes,
    fit_on_shuffled_labels,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

START_US = 20_000 * DAY_US
FIRST, SECOND = START_US + 28 * DAY_US, START_US + 47 * DAY_US
A_DAY = 220
CARDS = [f"card-{n}" for n in range(60)]
BATCH_US = DAY_US // 4
TRUSTED = ["numpy.dtype"]
"""What the imputer of the model holds."""
COSTS = [[0, 5], [25, 2]]
"""A good payment that is stopped costs 5, a fraud that nobody stops 25, and a new card 2."""
TILES = {"1d": (DAY_US, DAY_US // 48), "7d": (7 * DAY_US, DAY_US // 8)}
pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.long]


def synthetic(seed: int = 3) -> tuple[list[Payment], list[Settlement]]:
    """47 days: the more a card paid within a day, the likelier is its next payment fraud. Each in order of time."""
    rng = np.random.default_rng(seed)
    payments: list[Payment] = []
    settlements: list[Settlement] = []
    recent: dict[str, list[int]] = {card: [] for card in CARDS}
    for day_us in range(START_US, SECOND, DAY_US):
        busy = rng.choice(CARDS, 3, replace=False)
        for at_ms in np.sort(rng.integers(0, DAY_US // 1_000, A_DAY)).tolist():
            at = day_us + at_ms * 1_000
            card = str(rng.choice(busy if rng.random() < 0.3 else CARDS))
            amount = round(float(rng.gamma(2.0, 30.0)), 2)
            recent[card] = [*(t for t in recent[card] if t > at - DAY_US), at]
            risk = 1 / (1 + math.exp(4.3 - 0.25 * len(recent[card]) - amount / 200))
            shop = f"shop-{rng.integers(25)}"
            payments.append(Payment(len(payments), card, shop, amount, utc_datetime(at)))
            settled = utc_datetime(at + int(rng.integers(43_200, 259_200)) * 1_000_000)
            settlements.append(Settlement(payments[-1].payment_id, settled, bool(rng.random() < risk)))
    return payments, sorted(settlements, key=lambda settlement: settlement.settled_at)


@dataclass
class Scene:
    """The running application; ``sent`` counts the payments and settlements that have happened."""

    app: CardPayments
    producer: EventProducer
    plane: DataPlane
    client: FeatureClient
    log: EventLog
    payments: list[Payment]
    settlements: list[Settlement]
    sent: tuple[int, int] = (0, 0)
    scores: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.paid_us = [epoch_us(payment.paid_at) for payment in self.payments]
        self._settled_us = [epoch_us(settlement.settled_at) for settlement in self.settlements]

    def send(self, until_us: int) -> None:
        """Produce what happens before then, each at its own time, and wait until the features know it."""
        before, self.sent = self.sent, (bisect_left(self.paid_us, until_us), bisect_left(self._settled_us, until_us))
        for payment in self.payments[before[0] : self.sent[0]]:
            self.producer.send(self.app.payments, payment, timestamp=payment.paid_at)
        for settlement in self.settlements[before[1] : self.sent[1]]:
            self.producer.send(self.app.settlements, settlement, timestamp=settlement.settled_at)
        self.producer.flush()
        until(lambda: self._folded() == [self.sent[0]] * 2, 60)

    def _folded(self) -> list[int]:
        offsets = self.client.get(self.app.features.name, {"card": CARDS[0], "merchant": "shop-0"}).offsets()
        return [sum(of_view.values()) for of_view in offsets.values()]

    def logged(self, predictions: int) -> None:
        """Wait until the event log has everything that was sent."""
        own = pl.col("model") == self.app.model.name
        expected = {
            self.app.payments.topic: (self.sent[0], pl.lit(value=True)),
            self.app.settlements.topic: (self.sent[1], pl.lit(value=True)),
            predictions_of(self.log.namespace).topic: (predictions, own),
            vectors_of(self.log.namespace).topic: (predictions, own),
        }
        for topic, (count, which) in expected.items():
            self.plane.flush_soon()
            until(lambda t=topic, n=count, w=which: _accepted(self.log, t, w) == n, 60)  # type: ignore[misc]

    def answer(self, answerer: Answerer) -> int:
        """Live until the second request: every six hours the payments of the next six, with the features of then."""
        for now_us in range(FIRST, SECOND, BATCH_US):
            self.send(now_us)
            coming = self.payments[self.sent[0] : bisect_left(self.paid_us, now_us + BATCH_US)]
            answers = answerer.predict_many([msgspec.structs.asdict(p) for p in coming], as_of=utc_datetime(now_us))
            assert {answer.version for answer in answers} == {1}
            values = [answer.value for answer in answers]
            self.scores |= dict(zip([p.payment_id for p in coming], values, strict=True))
        self.send(SECOND)
        return len(self.payments) - bisect_left(self.paid_us, FIRST)


def _accepted(log: EventLog, topic: str, which: pl.Expr) -> int:
    return log.read(topic).filter((pl.col("__verdict") == ACCEPTED) & which).height


@pytest.fixture
def scene(services: LocalServices, namespace: str, tmp_path: Path) -> Iterator[Scene]:
    app = application(namespace)
    streams = [app.payments, app.settlements]
    make_topics(services.bootstrap_servers, streams, 2, namespace=namespace, replay=True)
    store, log = RedisOnlineStore(services.redis_url, namespace), EventLog(tmp_path / "log", namespace=namespace)
    publish_definitions(store, app.features.views, [app.features])
    plane = DataPlane(
        PlaneConfig(
            services.bootstrap_servers,
            group=f"{namespace}-workers",
            worker=namespace,
            namespace=namespace,
            flush_s=0.5,
        ),
        own_streams(streams, namespace),
        FixedViews([view.spec for view in app.features.views]),
        store,
        log,
    )
    worker = threading.Thread(target=plane.run, name=f"{namespace}-worker")
    worker.start()
    producer = EventProducer(services.bootstrap_servers)
    try:
        yield Scene(app, producer, plane, FeatureClient(store, clock="stream", heartbeat_bound="1m"), log, *synthetic())
    finally:
        plane.stop()
        worker.join(60)
        store.close()


def request(scene: Scene, name: str, t_us: int) -> RetrainRequest:
    model = scene.app.model
    return RetrainRequest(
        request_id=f"{model.name}-{name}", model=model.name, rule=name, reason=name, t_us=t_us, matured_labels=3_000
    )


def test_version_1_is_published_and_a_challenger_that_learnt_nothing_is_refused(
    services: LocalServices, namespace: str, scene: Scene, tmp_path: Path
) -> None:
    model, topic = scene.app.model, f"{namespace}.models"
    ensure_topic(services.bootstrap_servers, topic)
    model_events = KafkaModelEventLog(services.bootstrap_servers, topic)
    registry, pool = MemoryRegistry(tmp_path / "registry"), FitPool()

    def state() -> ModelState:
        return fold(events(model_events.read(), model.name))

    scene.send(FIRST)
    check_look_ups(scene, FIRST)
    scene.logged(predictions=0)
    trainer = TrainingRunner(model, scene.log, model_events, registry, pool, options=RunOptions(trusted=TRUSTED))
    first = trainer.run(request(scene, "first", FIRST))
    assert (first.outcome, first.version, state().version) == ("published", 1, 1), first.reason
    assert first.gate is not None
    assert (first.gate["verdict"], first.gate["rule"], first.rows) == ("passed", "first", 24 * A_DAY)

    answerer = Answerer(
        subscriber(model.name, model_events, tmp_path / "registry"),
        scene.client,
        scene.producer,
        new_id=lambda: uuid.uuid4().hex,
        namespace=namespace,
    )
    predictions = scene.answer(answerer)
    check_look_ups(scene, SECOND)
    scene.logged(predictions)
    worse = replace(model, train=fit_on_shuffled_labels)
    assert first.holdout_days is not None
    options = RunOptions(ended=lambda: [first], trusted=TRUSTED)
    trainer = TrainingRunner(worse, scene.log, model_events, registry, pool, options=options)
    second = trainer.run(request(scene, "volume", SECOND))
    check_refused(second)
    by_cost = replace(model, train=fit_on_balanced_classes, gate=Gate(expected_cost(COSTS), holdout="14d"))
    trainer = TrainingRunner(by_cost, scene.log, model_events, registry, pool, options=options)
    check_costs(scene, trainer.run(request(scene, "costs", SECOND)))
    after = state()
    assert (after.version, len(after.history), after.void) == (1, 1, ())
    assert registry.champion(model.name) == 1
    kept = registry.find(model.name, second.request_id)
    assert kept is not None
    assert kept.version is None
    model_events.close()


def subscriber(model: str, model_events: KafkaModelEventLog, registry: Path) -> ModelSubscriber:
    """What an application follows the model with; version 1 is loaded."""
    loading, said = LoadingPolicy(TRUSTED, ArtifactPlaces([registry])), MemoryAcknowledgements()
    following = ModelSubscriber(model, model_events, said, loading, application="till", clock=lambda: FIRST)
    loaded = following.poll_once("5s")
    assert loaded is not None, said.sent
    assert loaded.version == 1
    return following


def check_refused(finished: RunEnded) -> None:
    """The gate's report says why: both were judged on the same served rows, and the bound of the gain is below 0."""
    assert (finished.outcome, finished.version, finished.event_id) == ("refused", None, None), finished.reason
    report = finished.gate
    assert report is not None
    assert (report["verdict"], report["rule"], report["metric"]) == ("refused", "better", "auc")
    assert (report["rows"], report["days"], report["looks_max"]) == (14 * A_DAY, 14, 1)
    auc = report["metrics"]["auc"]
    assert auc["gain_high"] < 0, auc
    assert auc["champion"] > 0.6, auc
    assert "the lower bound is not above +0.0000" in report["reason"]
    assert finished.reason == report["reason"]


def check_costs(scene: Scene, finished: RunEnded) -> None:
    """The challenger ranks as well as the champion, and stops too many payments: its costs say so, its AUC does not."""
    report, days = finished.gate, finished.holdout_days
    assert report is not None
    assert days is not None
    assert (finished.outcome, report["metric"]) == ("refused", "expected_cost([[0, 5], [25, 2]])"), finished.reason
    found, auc = report["metrics"][report["metric"]], report["metrics"]["auc"]
    assert found["gain_high"] < 0, found
    assert auc["gain_low"] < 0 < auc["gain_high"], auc
    fraud = {settlement.payment_id: settlement.fraud for settlement in scene.settlements}
    held = bisect_left(scene.paid_us, days[0] * DAY_US), bisect_left(scene.paid_us, days[1] * DAY_US)
    costs = [cost_of(scene.scores[p.payment_id], fraud[p.payment_id]) for p in scene.payments[held[0] : held[1]]]
    assert found["champion"] == pytest.approx(np.mean(costs))


def cost_of(score: float, fraud: bool) -> int:
    """What a payment costs by the cheaper decision."""
    passes, stops = (1 - score) * COSTS[0][0] + score * COSTS[1][0], (1 - score) * COSTS[0][1] + score * COSTS[1][1]
    return COSTS[fraud][stops < passes]


def check_look_ups(scene: Scene, t_us: int) -> None:
    """Counts and sums of every card are those of a loop over the payments so far."""
    found = scene.client.get_views(
        f"card@{scene.app.features.views[0].version}", [{"card": c} for c in CARDS], as_of=utc_datetime(t_us)
    )
    for row, (card, values) in enumerate(zip(CARDS, found.to_dicts(), strict=True)):
        assert found.statuses(row) == {"card": Status.PRESENT}
        for window, (length, tile) in TILES.items():
            paid = [
                payment.amount
                for at_us, payment in zip(scene.paid_us, scene.payments, strict=True)
                if payment.card == card and at_us < t_us and at_us // tile > t_us // tile - length // tile
            ]
            assert values[f"card__payments_{window}"] == len(paid)
            assert (values[f"card__spent_{window}"] or 0.0) == pytest.approx(sum(paid))
