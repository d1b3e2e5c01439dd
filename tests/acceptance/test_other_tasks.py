"""The reference system's other models on real servers: minutes of delay, three classes of it, and its quantiles.

Each goes from the label to a version, its served predictions, and the gate of the next run. A third of the flights of
January and February is replayed.
"""

from __future__ import annotations

import threading
import uuid
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn import metrics as sklearn

from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.producer import EventProducer
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.models import artifact, manifest
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.kafka_model_event_log import KafkaModelEventLog, ensure_topic
from headrace.models.model_event_log import MemoryAcknowledgements
from headrace.models.predictions import predictions_of, vectors_of
from headrace.models.registry import MemoryRegistry
from headrace.serving.answerer import Answerer, Predicted
from headrace.serving.features import FeatureClient
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.worker import make_topics, own_streams, publish_definitions
from headrace.trainers.audit.auditor import Auditor
from headrace.trainers.runs.fitting import FitPool, InlineFits
from headrace.trainers.runs.messages import RetrainRequest
from headrace.trainers.runs.reproduce import Reproducer
from headrace.trainers.runs.training_runner import TrainingRunner
from headrace.trainers.triggers.evidence import DAY_US
from more_trainers import delay_class, delay_minutes, delay_range
from streams.flights import Scheduled, arrivals, departures, scheduled
from streams.history import history
from streams.weather import weather
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.bus.stream import Stream
    from headrace.models.model_events import Published
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.messages import RunEnded

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.long]

JANUARY_US = 15_706 * DAY_US  # 2013-01-01
FIRST, SECOND = JANUARY_US + 40 * DAY_US, JANUARY_US + 57 * DAY_US
BATCH_US = DAY_US
OF_FLIGHTS = (scheduled, departures, arrivals)
MODELS = {model.name: model for model in (delay_minutes, delay_class, delay_range)}
CLASSES = ["on time", "late", "very late"]


@cache
def records() -> list[tuple[int, str, bytes, bytes]]:
    """A third of the flights and all of the weather, in the order of time."""
    topics = {stream.topic for stream in OF_FLIGHTS}
    return [each for each in history(2).records() if each[1] not in topics or int(each[2]) % 3 == 0]


def of_namespace(model: Model, streams: Mapping[str, Stream], views: Mapping[str, Any]) -> Model:
    """The model with topics of the test's own."""
    features = replace(model.features, views=[views[view.name] for view in model.features.views])
    label = replace(model.label, stream=streams[model.label.stream.topic])
    return replace(model, requests=streams[model.requests.topic], features=features, label=label)


@dataclass
class Application:
    """What runs: a worker, a trainer and an application for each of the models."""

    namespace: str
    models: dict[str, Model]
    streams: dict[str, Stream]
    producer: EventProducer
    plane: DataPlane
    client: FeatureClient
    log: EventLog
    model_events: KafkaModelEventLog
    folder: Path
    sent: dict[str, int] = field(default_factory=dict)
    place: int = 0
    registries: dict[str, MemoryRegistry] = field(default_factory=dict)

    def send(self, until_us: int) -> None:
        """Produce what happens before then, each at its own time, and wait until the features know it."""
        end = bisect_left(records(), (until_us // 1_000,))
        for at_ms, topic, key, value in records()[self.place : end]:
            own = self.streams[topic].topic
            self.producer.put(own, key, value, timestamp=utc_datetime(at_ms * 1_000))
            self.sent[own] = self.sent.get(own, 0) + 1
        self.place = end
        self.producer.flush()
        model = next(iter(self.models.values()))
        sources = {view.name: view.streams[0].topic for view in model.features.views}
        entity = {
            "origin": "JFK",
            "dest": "LAX",
            "carrier": "B6",
            "scheduled_at": utc_datetime(0),
        }

        def folded() -> bool:
            offsets = self.client.get(model.features.name, entity).offsets()
            return {name: sum(offsets.get(name, {}).values()) for name in sources} == {
                name: self.sent.get(topic, 0) for name, topic in sources.items()
            }

        until(folded, 60)

    def logged(self, predictions: int) -> None:
        """Wait until the event log has everything that was sent."""
        served = {stream(self.namespace).topic: predictions for stream in (vectors_of, predictions_of)}
        for topic, count in {**self.sent, **served}.items():
            self.plane.flush_soon()
            until(lambda t=topic, n=count: self.log.read(t).height == n, 60)  # type: ignore[misc]

    def run(self, name: str, reason: str, t_us: int) -> RunEnded:
        model = self.models[name]
        registry = self.registries.setdefault(name, MemoryRegistry(self.folder / name))
        trainer = TrainingRunner(model, self.log, self.model_events, registry, FitPool())
        return trainer.run(
            RetrainRequest(
                request_id=f"{name}-{reason}", model=name, rule=reason, reason=reason, t_us=t_us, matured_labels=4_000
            )
        )

    def answerer(self, name: str) -> tuple[Answerer, Published]:
        """What an application predicts with: the version that is live."""
        loading = LoadingPolicy([], ArtifactPlaces([self.folder]))
        said = MemoryAcknowledgements()
        following = ModelSubscriber(name, self.model_events, said, loading, application="gate", clock=lambda: FIRST)
        loaded = following.poll_once("5s")
        assert loaded is not None, said.sent
        made = Answerer(
            following, self.client, self.producer, new_id=lambda: uuid.uuid4().hex, namespace=self.namespace
        )
        return made, loaded.published


@pytest.fixture
def application(services: LocalServices, namespace: str, tmp_path: Path) -> Iterator[Application]:
    streams = {each.topic: replace(each, topic=f"{namespace}.{each.topic}") for each in (*OF_FLIGHTS, weather)}
    views = {view.name: replace(view, source=streams[view.streams[0].topic]) for view in delay_minutes.features.views}
    models = {name: of_namespace(model, streams, views) for name, model in MODELS.items()}
    make_topics(services.bootstrap_servers, [*streams.values()], 1, namespace=namespace, replay=True)
    store, log = RedisOnlineStore(services.redis_url, namespace), EventLog(tmp_path / "log", namespace=namespace)
    publish_definitions(store, [*views.values()], [models["delay_minutes"].features])
    plane = DataPlane(
        PlaneConfig(
            services.bootstrap_servers, group=f"{namespace}-workers", worker=namespace, namespace=namespace, flush_s=0.5
        ),
        own_streams([*streams.values()], namespace),
        FixedViews([view.spec for view in views.values()]),
        store,
        log,
    )
    worker = threading.Thread(target=plane.run, name=f"{namespace}-worker")
    worker.start()
    topic = f"{namespace}.models"
    ensure_topic(services.bootstrap_servers, topic)
    model_events = KafkaModelEventLog(services.bootstrap_servers, topic)
    client = FeatureClient(store, clock="stream", heartbeat_bound="1m")
    producer = EventProducer(services.bootstrap_servers)
    try:
        yield Application(namespace, models, streams, producer, plane, client, log, model_events, tmp_path)
    finally:
        plane.stop()
        worker.join(60)
        store.close()
        model_events.close()


def requests(from_us: int, to_us: int) -> list[dict[str, Any]]:
    chosen = [
        msgspec.json.decode(value, type=Scheduled) for _, topic, _, value in records() if topic == scheduled.topic
    ]
    return [msgspec.structs.asdict(each) for each in chosen if from_us <= epoch_us(each.requested_at) < to_us]


def arrived() -> dict[str, float]:
    """The minutes by which each flight was late."""
    found = [(key, value) for _, topic, key, value in records() if topic == arrivals.topic]
    return {key.decode(): msgspec.json.decode(value, type=dict[str, Any])["delay_minutes"] for key, value in found}


def test_models_of_every_task_are_trained_served_and_judged(application: Application) -> None:
    application.send(FIRST)
    application.logged(0)
    for name in MODELS:
        first = application.run(name, "first", FIRST)
        assert (first.outcome, first.version) == ("published", 1), first.reason
    answers = serve(application)
    application.send(SECOND)
    application.logged(sum(map(len, answers.values())))
    late = arrived()
    for name in MODELS:
        second = application.run(name, "second", SECOND)
        assert second.outcome in {"published", "refused"}, second.reason
        check_champion(name, second, answers[name], late)
        check_vectors(application, name, len(answers[name]))
    check_again(application)


def serve(application: Application) -> dict[str, dict[str, Predicted]]:
    """Predict every request until the second run, once a day, and return the answers by key."""
    answerers = {name: application.answerer(name) for name in MODELS}
    for name, (_, published) in answerers.items():
        assert (published.predicts, published.format) == (MODELS[name].label.predicts, 5)
    answers: dict[str, dict[str, Predicted]] = {name: {} for name in MODELS}
    for now_us in range(FIRST, SECOND, BATCH_US):
        application.send(now_us)
        coming = requests(now_us, now_us + BATCH_US)
        for name, (answerer, _) in answerers.items():
            found = answerer.predict_many(coming, as_of=utc_datetime(now_us))
            assert {answer.error for answer in found} == {None}
            answers[name] |= {str(each["flight_id"]): one for each, one in zip(coming, found, strict=True)}
    return answers


def check_champion(name: str, ended: RunEnded, answers: Mapping[str, Predicted], late: Mapping[str, float]) -> None:
    """The gate's metrics of the champion are scikit-learn's of what was answered, on the rows of the holdout."""
    report, days = ended.gate, ended.holdout_days
    assert report is not None
    assert days is not None
    held = [str(each["flight_id"]) for each in requests(days[0] * DAY_US, days[1] * DAY_US)]
    held = [key for key in held if key in answers and key in late]
    assert report["rows"] == len(held)
    truth, own = np.array([late[key] for key in held]), [answers[key] for key in held]
    for metric, expected in expected_metrics(name, truth, own).items():
        assert report["metrics"][metric]["champion"] == pytest.approx(expected), metric


def expected_metrics(name: str, truth: np.ndarray, answers: Sequence[Predicted]) -> dict[str, float]:
    if name == "delay_minutes":
        values = [answer.value for answer in answers]
        return {
            "root_mean_squared_error": sklearn.root_mean_squared_error(truth, values),
            "mean_absolute_error": sklearn.mean_absolute_error(truth, values),
        }
    table = np.array([[*answer.values.values()] for answer in answers])
    if name == "delay_class":
        classes = (truth > 15).astype(int) + (truth > 60)
        assert [CLASSES[place] for place in table.argmax(1)] == [answer.likeliest for answer in answers]
        weight = 1 / np.bincount(classes)[classes]
        return {
            "macro_log_loss": sklearn.log_loss(classes, table, sample_weight=weight),
            "logloss": sklearn.log_loss(classes, table),
            "accuracy_score": sklearn.accuracy_score(classes, table.argmax(1)),
        }
    assert [answer.interval for answer in answers] == [(row[0], row[2]) for row in table.tolist()]
    levels = zip((0.1, 0.5, 0.9), table.T, strict=True)
    return {
        "mean_pinball_loss": float(
            np.mean([sklearn.mean_pinball_loss(truth, column, alpha=level) for level, column in levels])
        )
    }


def check_vectors(application: Application, name: str, count: int) -> None:
    """Each served vector is that of the event log at its V and t."""
    found = Auditor(application.models[name], application.log).audit()
    assert (found.checked, found.mismatched) == (count, 0)
    own = application.log.read(predictions_of(application.namespace).topic).filter(pl.col("model") == name)
    assert (own.height, own.get_column("format").unique().to_list()) == (count, [2])


def check_again(application: Application) -> None:
    """A version is made again from its manifest, with the same predictions."""
    _, published = application.answerer("delay_minutes")
    places = ArtifactPlaces([application.folder])
    reproducer = Reproducer(application.folder / "log", InlineFits(), places=places, namespace=application.namespace)
    kept = manifest.decode(artifact.fetch(published.manifest.uri))
    t_us = FIRST if published.version == 1 else SECOND
    found = reproducer.reproduce(application.models["delay_minutes"], published, kept, t_us)
    assert (found.identical, found.different_rows) == (True, 0)
