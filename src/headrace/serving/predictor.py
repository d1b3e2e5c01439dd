"""The predictor of an application: ``headrace.connect().predictor("delay")``."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from headrace.base.times import Clock, wall_clock
from headrace.bus.control_topics import ControlTopics
from headrace.bus.producer import EventProducer
from headrace.models.artifact_places import places_with
from headrace.serving.answer_counts import CountingAnswerer
from headrace.serving.features import FeatureClient
from headrace.serving.own_events import RecordPlaces
from headrace.serving.predictor_heartbeats import PredictorHeartbeats
from headrace.serving.server_addresses import ServerAddresses
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from headrace.base.times import Duration
    from headrace.bus.source_partition import RecordPlace
    from headrace.serving.answerer import Predicted
    from headrace.serving.subscriber import FollowingStatus, LoadedModel


def _new_id() -> str:
    return uuid.uuid4().hex


class PredictorOptions(TypedDict, total=False):
    """The options of a predictor: see :class:`Predictor`."""

    features: FeatureClient | None
    application: str
    fallback: float | None
    clock: Clock
    new_id: Callable[[], str]
    own_event_bound: Duration


class Predictor:
    """Follows the versions of one model in the background, and predicts with the live one.

    ``headrace.connect().predictor("delay")`` makes one. Options:

    - ``features``: the client for look-ups (default: one of its own, with the predictor's clock);
    - ``application="application"``: the name under which loaded versions are acknowledged;
    - ``fallback``: the answer before version 1 and for a request that cannot be predicted; without it the error is
      raised;
    - ``clock`` and ``new_id``: the time, and the ids of served vectors;
    - ``own_event_bound="1s"``: how long a prediction waits until the request's own event is counted, if the model
      includes it. After this time the status of the view is ``behind``.

    Served vectors and predictions are logged to the bus. Use it as a context, or ``close`` it.

    >>> import headrace
    >>> with headrace.connect() as hr:
    ...     predictor = hr.predictor("punctuality", fallback=0.2)
    ...     p = predictor.predict({"flight_id": 7, "origin": "JFK", "dest": "LAX", "carrier": "B6"})
    >>> p.value, p.version  # there is no version of this model yet
    (0.2, 0)
    """

    def __init__(
        self, model: str, addresses: ServerAddresses | None = None, **options: Unpack[PredictorOptions]
    ) -> None:
        from headrace.models.kafka_model_event_log import KafkaAcknowledgements, KafkaModelEventLog  # noqa: PLC0415

        where, clock = addresses or ServerAddresses.find(), options.get("clock", wall_clock)
        self._own = ExitStack()
        topics = ControlTopics(where.namespace)
        events = KafkaModelEventLog(where.bootstrap_servers, topics.models, signing=where.signing)
        self._own.callback(events.close)
        producer = EventProducer(where.bootstrap_servers)
        self._own.callback(producer.flush)
        self.features = options.get("features") or self._own_features(where, clock)
        self.subscriber = ModelSubscriber(
            model,
            events,
            KafkaAcknowledgements(where.bootstrap_servers, topics.model_acks),
            LoadingPolicy(where.trusted_types, places_with(where.artifact_places, where.registry_uri)),
            application=options.get("application", "application"),
            clock=clock,
        )
        self.answerer = CountingAnswerer(
            self.subscriber,
            self.features,
            producer,
            new_id=options.get("new_id", _new_id),
            fallback=options.get("fallback"),
            own_event_bound=options.get("own_event_bound", "1s"),
            namespace=where.namespace,
        )
        self._places = RecordPlaces(where.bootstrap_servers)
        self._own.callback(self.subscriber.stop)
        said = PredictorHeartbeats(options.get("application", "application"), model, self.subscriber, self.answerer)
        heartbeats = said.sender(where.bootstrap_servers, topics.heartbeats)
        self._own.callback(heartbeats.stop)
        self.subscriber.start()
        heartbeats.start()

    def _own_features(self, where: ServerAddresses, clock: Clock) -> FeatureClient:
        return self._own.enter_context(FeatureClient.from_url(where.redis_url, where.namespace, clock=clock))

    @property
    def live(self) -> LoadedModel | None:
        """The version that predicts now, or None before version 1."""
        return self.subscriber.current

    @property
    def failures(self) -> int:
        """The number of requests so far that could not be predicted. The log says which, and why."""
        return self.answerer.failures

    @property
    def status(self) -> FollowingStatus:
        """Which version predicts, which one should, and why they differ if they do.

        An application that must not answer with an old version looks at ``status.is_current``, for example in its check
        of readiness; ``status.error`` says what is wrong, and ``status.since`` since when.
        """
        return self.subscriber.status

    def wait_until_ready(self, timeout: Duration = "30s", *, version: int | None = None) -> LoadedModel:
        """Wait until a version predicts, and return it. ``version``: wait for exactly this one.

        Raises NoModelError if none does within ``timeout``.
        """
        return self.subscriber.wait_until_ready(timeout, version=version)

    def predict(
        self, request: Mapping[str, Any], *, as_of: datetime | None = None, record: tuple[int, int] | None = None
    ) -> Predicted:
        """Predict one request: a mapping with the model's key, its join keys and its request features.

        ``as_of``: predict with the features of that time, instead of now. If the request cannot be predicted, the
        answer is the fallback, with an ``error``; without a fallback RequestValueError, EntityKeyError or
        PredictionError is raised.

        ``record`` is the partition and the offset of the request's own event, for a model with ``own_event``. With
        ``"included"`` it is required. With ``"excluded"`` leave it out if the event is not produced yet; otherwise give
        it, and all fields of the event in the request.
        """
        (place,) = self._record_places([record]) or [None]
        return self.answerer.predict(request, as_of=as_of, record=place)

    def predict_many(
        self,
        requests: Sequence[Mapping[str, Any]],
        *,
        as_of: datetime | None = None,
        records: Sequence[tuple[int, int] | None] | None = None,
    ) -> list[Predicted]:
        """Predict many requests with one version. ``records`` has one ``record`` for each request.

        A request that cannot be predicted has an answer with an ``error``, and costs no other request its score.
        """
        return self.answerer.predict_many(requests, as_of=as_of, records=self._record_places(records))

    def _record_places(self, records: Sequence[tuple[int, int] | None] | None) -> list[RecordPlace | None] | None:
        """Return the places of records; None if there are none, or if the live version has no use for them."""
        live = self.live
        own = None if live is None else live.published.service.own_event
        if own is None or records is None:
            return None
        return [None if record is None else self._places.place(own.topic, *record) for record in records]

    def close(self) -> None:
        """Stop following, and wait until everything that was logged is on the bus."""
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
