"""Predicts every request of a stream as it comes: the simplest application. The demo runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from headrace.base.times import epoch_us
from headrace.errors import RefusedError

if TYPE_CHECKING:
    from datetime import datetime

    from headrace.bus.producer import EventProducer
    from headrace.bus.stream import Stream
    from headrace.bus.tail import TopicTail
    from headrace.serving.answerer import Answerer, Predicted
    from headrace.serving.subscriber import LoadedModel, ModelSubscriber

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ServedRound:
    """The counts of one round. ``version`` is the live version, 0 before version 1.

    Of ``requests``, ``predicted`` have a score, and ``failed`` could not be predicted. ``logged`` counts the
    predictions of all versions.
    """

    requests: int
    predicted: int
    logged: int
    version: int
    failed: int = 0


class RequestFollower:
    """Reads a request stream from its beginning. ``serve`` predicts the requests that were read and not predicted yet.

    ``at`` is the field with a request's time. ``shadow_first`` keeps the first live version, which then predicts every
    request too, as a shadow.
    """

    def __init__(
        self,
        requests: Stream,
        at: str,
        *,
        tail: TopicTail,
        subscriber: ModelSubscriber,
        answerer: Answerer,
        producer: EventProducer,
        shadow_first: bool = False,
    ) -> None:
        self._decoder = msgspec.json.Decoder(requests.event)
        self._at = at
        self._tail = tail
        self._subscriber = subscriber
        self._answerer = answerer
        self._producer = producer
        self._shadow_first = shadow_first
        self._first: LoadedModel | None = None
        self._pending: list[dict[str, Any]] = []
        self.received = 0

    def receive(self, timeout_s: float) -> None:
        """Read the requests that have come. Wait at most ``timeout_s`` seconds for the first one."""
        for message in self._tail.poll(timeout_s):
            self.received += 1
            try:
                event = self._decoder.decode(message.value() or b"")
            except msgspec.MsgspecError as error:  # the workers keep it as a dead letter
                logger.warning("a request does not decode", error=str(error), offset=message.offset())
            else:
                self._take(msgspec.structs.asdict(event), message.offset())

    def receive_all(self, total: int) -> None:
        """Read requests until ``total`` were received since the start."""
        while self.received < total:
            self.receive(1.0)

    def serve(self, as_of: datetime | None = None) -> ServedRound:
        """Predict the pending requests, in the order of their times, and log the answers durably.

        Raises TransientError and FeaturesUnknownError: then the requests are still pending.
        """
        pending = sorted(self._pending, key=lambda request: epoch_us(request[self._at]))
        current = self._subscriber.current
        if current is None or not pending:
            self._pending = []
            return ServedRound(len(pending), 0, 0, 0 if current is None else current.version)
        self._first = self._first or current
        shadows = [self._first] if self._shadow_first and self._first.version != current.version else []
        answers: list[Predicted] = self._answerer.predict_many(pending, as_of=as_of, shadows=shadows)
        self._pending = []
        self._flush()
        failed = sum(answer.error is not None for answer in answers)
        logged = sum(len(answer.shadows) for answer in answers)
        return ServedRound(len(pending), len(answers) - failed, logged, current.version, failed)

    def _take(self, request: dict[str, Any], offset: int | None) -> None:
        """Keep a request until it is predicted. Its time orders it, so a request without one is left out."""
        at = request[self._at]
        if at is None or at.tzinfo is None:
            logger.warning("a request has no time with a zone", field=self._at, offset=offset)
        else:
            self._pending.append(request)

    def _flush(self) -> None:
        """Wait until the answers are on the bus. The broker may refuse some: the others are waited for."""
        while True:
            try:
                self._producer.flush()
            except RefusedError as error:
                self._answerer.lost(error)
            else:
                return
