"""Runs an application that predicts a model's request stream, as `headrace score` does."""

from __future__ import annotations

import itertools
import sys
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from headrace.app.local.address_watch import watch_addresses
from headrace.app.processes.connections import addresses, artifact_places, client_options, schemas
from headrace.base.stopping import stop_signals
from headrace.base.times import SettableClock, utc_datetime, wall_clock
from headrace.errors import FeaturesUnknownError, TransientError
from headrace.models import artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from confluent_kafka import Message

    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.base.times import Clock
    from headrace.bus.report_sender import HeartbeatSender
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.serving.follower import RequestFollower
    from headrace.serving.subscriber import ModelSubscriber

logger = structlog.get_logger(__name__)
_RETRY_S = 1.0


@dataclass(frozen=True)
class Scorer:
    """An application that follows one model and predicts its request stream.

    In lockstep its acknowledgements have the time of the last command, which is that of ``clock``.
    """

    follower: RequestFollower
    subscriber: ModelSubscriber
    clock: SettableClock
    heartbeats: HeartbeatSender


def make_scorer(
    settings: Settings, project: Project, model_name: str, *, application: str, shadow_first: bool, lockstep: bool
) -> Scorer:
    """Connect to Kafka and Redis, and return the application. It does nothing before one of the functions below."""
    logger.info("application starts", model=model_name, application=application)
    from headrace.bus.producer import EventProducer  # each process imports only its own part
    from headrace.bus.tail import TopicTail
    from headrace.serving.answer_counts import CountingAnswerer
    from headrace.serving.features import FeatureClient
    from headrace.serving.follower import RequestFollower, RequestTail
    from headrace.serving.own_events import RecordPlaces
    from headrace.serving.predictor_heartbeats import PredictorHeartbeats

    servers, redis_url = addresses(settings)
    if not lockstep:
        watch_addresses(settings)
    model = project.model(model_name)
    clock = SettableClock()
    subscriber = _subscriber(settings, servers, model_name, application, clock if lockstep else wall_clock)
    features = FeatureClient.from_url(redis_url, settings.namespace, **client_options(settings))
    producer = EventProducer(servers)
    new_id = _numbered_ids(application) if lockstep else _random_id
    answerer = CountingAnswerer(subscriber, features, producer, new_id=new_id, namespace=settings.namespace)
    tail = TopicTail(servers, [model.requests.topic], from_beginning=lockstep)
    known_schemas = schemas(settings, [model.requests])
    follower = RequestFollower(
        RequestTail(
            model.requests,
            model.requested_at,
            tail,
            RecordPlaces(servers) if model.own_event else None,
            known_schemas,
            _duplicates(settings, servers, model.requests, known_schemas),
        ),
        subscriber=subscriber,
        answerer=answerer,
        producer=producer,
        shadow_first=shadow_first,
    )
    heartbeats = PredictorHeartbeats(application, model_name, subscriber, answerer, is_driven=lockstep)
    return Scorer(follower, subscriber, clock, heartbeats.sender(servers, settings.topics.heartbeats))


def _duplicates(
    settings: Settings, servers: str, requests: Stream, known_schemas: SchemaStore | None
) -> Callable[[Sequence[Message]], Collection[tuple[int, int]]] | None:
    """Return what finds duplicate requests; None if their stream does not look for them."""
    if not requests.unique_fields:
        return None
    from headrace.event_log.event_log import EventLog
    from headrace.streams.plane.followed_duplicates import FollowedDuplicates

    log = EventLog(settings.event_log, namespace=settings.namespace)
    return FollowedDuplicates(servers, log, requests, known_schemas).among


def _subscriber(settings: Settings, servers: str, model_name: str, application: str, clock: Clock) -> ModelSubscriber:
    from headrace.models.kafka_model_event_log import KafkaAcknowledgements, KafkaModelEventLog
    from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber

    return ModelSubscriber(
        model_name,
        KafkaModelEventLog(servers, settings.topics.models, signing=settings.signing),
        KafkaAcknowledgements(servers, settings.topics.model_acks),
        LoadingPolicy(settings.trusted_types, artifact_places(settings)),
        application=application,
        clock=clock,
    )


def _numbered_ids(application: str) -> Callable[[], str]:
    """Ids that are the same in every replay."""
    counter = itertools.count(1)
    return lambda: f"{application}-{next(counter)}"


def _random_id() -> str:
    return uuid.uuid4().hex


class ScorerCommand(msgspec.Struct):
    """One line on a lockstep scorer's standard input.

    If ``event`` is set, the scorer swaps to that model event. If not, it serves all ``requests``. ``t_us`` is the time
    of the replay.
    """

    t_us: int = 0
    requests: int = 0
    event: str | None = None


def serve_in_lockstep(app: Scorer) -> None:
    """Read one command a line from standard input and write one answer a line to standard output, until input ends."""
    decoder = msgspec.json.Decoder(ScorerCommand)
    artifact.prepare()
    _answer({"ready": True})
    for line in sys.stdin.buffer:
        command = decoder.decode(line)
        app.clock.now = utc_datetime(command.t_us)
        if command.event is not None:
            _answer(_swap(app.subscriber, command.event))
        else:
            app.follower.receive_all(command.requests)
            _answer(_served(app, command.t_us))


def _served(app: Scorer, t_us: int) -> dict[str, int]:
    served = app.follower.serve(utc_datetime(t_us))
    return {"predicted": served.predicted, "logged": served.logged, "version": served.version}


def _swap(subscriber: ModelSubscriber, event_id: str) -> dict[str, Any]:
    """Follow the model events until this one is live or void."""
    while subscriber.state.live_id != event_id and all(void.event.id != event_id for void in subscriber.state.void):
        subscriber.poll_once("1s")
    current = subscriber.current
    return {"version": 0 if current is None else current.version}


def _answer(content: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(content) + b"\n")
    sys.stdout.buffer.flush()


def serve_until_interrupted(app: Scorer) -> None:
    """Predict each request when it arrives. A round under way is finished after the signal."""
    stop = threading.Event()
    app.subscriber.start()
    with stop_signals.calling(stop.set):
        while not stop.is_set():
            app.follower.receive(0.2)
            _serve_until_answered(app.follower, stop)
    app.subscriber.stop("2s")


def _serve_until_answered(follower: RequestFollower, stop: threading.Event) -> None:
    """Predict the pending requests. While a server does not answer, or Redis is being filled, they wait."""
    while not stop.is_set():
        try:
            follower.serve()
        except (TransientError, FeaturesUnknownError) as error:
            logger.warning("requests wait for an answer", reason=str(error))
            stop.wait(_RETRY_S)
        else:
            return
