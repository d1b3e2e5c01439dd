"""The processes of a project, from its settings: worker, trainer, scorer."""

from __future__ import annotations

import itertools
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from headrace.app.processes.connections import addresses, client_options
from headrace.base.times import SECOND, duration_us
from headrace.errors import OnlineStoreUnavailableError
from headrace.models import artifact

if TYPE_CHECKING:
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.serving.follower import RequestFollower
    from headrace.serving.subscriber import ModelSubscriber

logger = structlog.get_logger(__name__)


def worker(settings: Settings, project: Project, *, partitions: int, replay: bool = False) -> None:
    """Run a worker until a signal. ``partitions`` and ``replay`` are for the topics that it has to make."""
    from headrace.app.processes.jobs import jobs  # noqa: PLC0415
    from headrace.streams.upkeep import UpkeepSchedule  # noqa: PLC0415
    from headrace.streams.worker import WorkerConfig, run_worker  # noqa: PLC0415 - each process imports its own part

    servers, redis_url = addresses(settings)
    warn_of_redis(redis_url)
    config = WorkerConfig(
        servers,
        redis_url,
        settings.event_log,
        str(settings.data_dir / "faust"),
        namespace=settings.namespace,
        partitions=partitions,
        batch_rows=settings.batch_size,
        flush_s=duration_us(settings.flush_interval) / 1e6,
        memory_bytes=settings.memory,
        replay=replay,
        metrics_host=settings.metrics_host,
        metrics_port=settings.metrics_port,
        upkeep=UpkeepSchedule(
            compact=timedelta(microseconds=duration_us(settings.compact_interval)),
            retention=timedelta(microseconds=duration_us(settings.log_retention)),
        ),
        jobs=jobs(settings, project),
    )
    run_worker(config, list(project.streams.values()), list(project.views.values()), list(project.services.values()))


def warn_of_redis(redis_url: str) -> None:
    """Log what of Redis would lose features. One that does not answer is waited for, later."""
    from headrace.app.doctor import redis  # noqa: PLC0415
    from headrace.app.doctor.finding import Severity  # noqa: PLC0415
    from headrace.base.times import wall_clock  # noqa: PLC0415

    with suppress(OnlineStoreUnavailableError):
        for finding in redis.examine(redis_url, wall_clock() / SECOND):
            if finding.severity is not Severity.OK:
                logger.warning(finding.found, what=finding.subject, advice=finding.advice)


def trainer(settings: Settings, project: Project, *, seed: int) -> None:
    """Run a trainer until a signal."""
    from headrace.trainers.process.trainer import TrainerConfig, run_trainer  # noqa: PLC0415

    servers, _ = addresses(settings)
    _make_parent(settings.registry_uri)
    Path(settings.artifacts).mkdir(parents=True, exist_ok=True)
    config = TrainerConfig(
        servers,
        settings.event_log,
        settings.registry_uri,
        Path(settings.artifacts).as_uri() if "://" not in settings.artifacts else settings.artifacts,
        str(settings.data_dir / "faust"),
        namespace=settings.namespace,
        seed=seed,
        tick_us=0 if settings.clock == "control" else duration_us(settings.tick),
        trusted_types=settings.trusted_types,
    )
    run_trainer(config, list(project.models.values()))


def _make_parent(uri: str) -> None:
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class Scorer:
    """An application that follows one model and predicts its request stream."""

    follower: RequestFollower
    subscriber: ModelSubscriber


def scorer(
    settings: Settings, project: Project, model_name: str, *, application: str, shadow_first: bool, lockstep: bool
) -> Scorer:
    """Make the parts of an application that predicts a model's request stream."""
    from headrace.base.times import wall_clock  # noqa: PLC0415
    from headrace.bus.producer import EventProducer  # noqa: PLC0415
    from headrace.bus.tail import TopicTail  # noqa: PLC0415
    from headrace.models.kafka_model_event_log import KafkaAcknowledgements, KafkaModelEventLog  # noqa: PLC0415
    from headrace.serving.answerer import Answerer  # noqa: PLC0415
    from headrace.serving.features import FeatureClient  # noqa: PLC0415
    from headrace.serving.follower import RequestFollower  # noqa: PLC0415
    from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber  # noqa: PLC0415

    servers, redis_url = addresses(settings)
    model = project.model(model_name)
    subscriber = ModelSubscriber(
        model_name,
        KafkaModelEventLog(servers),
        KafkaAcknowledgements(servers),
        LoadingPolicy(settings.trusted_types),
        application=application,
        clock=wall_clock,
    )
    features = FeatureClient.from_url(redis_url, settings.namespace, **client_options(settings))
    producer = EventProducer(servers)
    counter = itertools.count(1)
    in_order = lambda: f"{application}-{next(counter)}"  # noqa: E731 - a replay gives the same ids
    answerer = Answerer(subscriber, features, producer, new_id=in_order if lockstep else lambda: uuid.uuid4().hex)
    tail = TopicTail(servers, [model.requests.topic], from_beginning=lockstep)
    follower = RequestFollower(
        model.requests,
        model.requested_at,
        tail=tail,
        subscriber=subscriber,
        answerer=answerer,
        producer=producer,
        shadow_first=shadow_first,
    )
    return Scorer(follower, subscriber)


class ScorerCommand(msgspec.Struct):
    """A line on a lockstep scorer's standard input: serve all of ``requests`` at ``t_us``, or swap to ``event``."""

    t_us: int = 0
    requests: int = 0
    event: str | None = None


def obey(app: Scorer) -> None:
    """Serve in lockstep: one command a line on standard input, one answer a line on standard output, until it ends."""
    decoder = msgspec.json.Decoder(ScorerCommand)
    artifact.prepare()
    _answer({"ready": True})
    for line in sys.stdin.buffer:
        command = decoder.decode(line)
        if command.event is not None:
            _answer(_swap(app.subscriber, command.event))
        else:
            app.follower.receive_all(command.requests)
            _answer(_served(app, command.t_us))


def _served(app: Scorer, t_us: int) -> dict[str, int]:
    served = app.follower.serve(t_us)
    return {"predicted": served.predicted, "logged": served.logged, "version": served.version}


def _swap(subscriber: ModelSubscriber, event_id: str) -> dict[str, Any]:
    """Follow the model events until this one is settled, one way or the other."""
    while subscriber.state.live_id != event_id and all(void.event.id != event_id for void in subscriber.state.void):
        subscriber.poll_once(1.0)
    current = subscriber.current
    return {"version": 0 if current is None else current.version}


def _answer(content: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(content) + b"\n")
    sys.stdout.buffer.flush()


def follow(app: Scorer) -> None:
    """Serve as the requests come, until interrupted."""
    app.subscriber.start()
    while True:
        app.follower.receive(0.2)
        app.follower.serve()
