"""The predictor of an application, in one line: ``Predictor("delay")``."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Self

from headrace.base.times import Clock, wall_clock
from headrace.bus.producer import EventProducer
from headrace.serving.answerer import Answerer
from headrace.serving.connection import Connection
from headrace.serving.features import FeatureClient
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from headrace.serving.answerer import Predicted


class Predictor:
    """Follows the model events of one model in the background and predicts with its live version.

    ``connection`` says where Kafka and Redis are (None: :meth:`Connection.find`). ``application`` is the name under
    which versions are acknowledged. ``fallback`` answers before version 1; without it NoModelError is raised. Served
    vectors and predictions are logged to the bus. Use it as a context, or ``close`` it.
    """

    def __init__(
        self,
        model: str,
        connection: Connection | None = None,
        *,
        application: str = "application",
        fallback: float | None = None,
        clock: Clock = wall_clock,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        from headrace.models.kafka_model_event_log import KafkaAcknowledgements, KafkaModelEventLog  # noqa: PLC0415

        found = connection or Connection.find()
        self._producer = EventProducer(found.bootstrap_servers)
        self._events = KafkaModelEventLog(found.bootstrap_servers)
        self.features = FeatureClient.from_url(found.redis_url, found.namespace, clock=clock)
        self.subscriber = ModelSubscriber(
            model,
            self._events,
            KafkaAcknowledgements(found.bootstrap_servers),
            LoadingPolicy(found.trusted_types),
            application=application,
            clock=clock,
        )
        self._answerer = Answerer(self.subscriber, self.features, self._producer, new_id=new_id, fallback=fallback)
        self.subscriber.start()

    def predict(self, request: Mapping[str, Any]) -> Predicted:
        """Predict one request: a mapping with the model's key, its join keys and its request features."""
        return self._answerer.predict(request)

    def predict_many(self, requests: Sequence[Mapping[str, Any]]) -> list[Predicted]:
        """Predict many requests at one time with one version."""
        return self._answerer.predict_many(requests)

    def close(self) -> None:
        """Stop following, and wait until everything logged is on the bus."""
        self.subscriber.stop()
        self._producer.flush()
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
