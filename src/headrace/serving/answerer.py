"""Answers requests with the live version of a model: it looks features up, predicts, and logs the answer.

A request that cannot be predicted has an answer of its own, which says why. The others of its batch have theirs.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from headrace.errors import (
    EntityKeyError,
    HeadraceError,
    NoModelError,
    PredictionError,
    RefusedError,
    RequestValueError,
    TerminalError,
)
from headrace.features.kernel.on_demand import expanded, on_demand
from headrace.models.category_columns import with_categories
from headrace.models.predictions import (
    Prediction,
    ServedVector,
    logged_fields,
    logged_values,
    predictions_of,
    vectors_of,
)
from headrace.models.row_scores import row_scores
from headrace.serving.own_events import OwnEventLookUp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    import pandas as pd

    from headrace.base.times import Duration
    from headrace.bus.event import Event
    from headrace.bus.producer import EventProducer
    from headrace.bus.source_partition import RecordPlace
    from headrace.bus.stream import Stream
    from headrace.models.model_events import ServiceRef
    from headrace.models.prediction_task import PredictionTask
    from headrace.models.row_scores import RowScores
    from headrace.serving.features import FeatureClient, FeatureVectors, Status
    from headrace.serving.subscriber import LoadedModel, ModelSubscriber

logger = structlog.get_logger(__name__)
_NO_SCORE = float("nan")
_NAMED = 5
"""The number of requests that a warning names."""


@dataclass(frozen=True)
class Predicted:
    """One answer: ``value`` is the score, ``version`` the version that gave it (0 for the fallback).

    The score is the probability of true, or an estimate. If the label has classes or quantiles, ``values`` has the
    probability of each class, or an estimate of each quantile; it is empty for the fallback. ``value`` is then that of
    the likeliest class, which is ``likeliest``, or of the middle quantile.

    ``statuses`` are those of the views, and ``at`` is the time of the features; the fallback has neither. ``shadows``
    has the ``value`` of each version that saw the same vector.

    If the request could not be predicted, ``error`` says why, ``version`` is 0, and ``value`` is the fallback, or NaN
    if there is none.

    >>> import headrace
    >>> with headrace.connect() as hr:
    ...     p = hr.predictor("punctuality", fallback=0.2).predict({"flight_id": 7})
    >>> p.value, p.version, p.at  # there is no version of this model yet
    (0.2, 0, None)
    """

    value: float
    version: int
    statuses: Mapping[str, Status]
    at: datetime | None
    vector_id: str
    shadows: Mapping[int, float]
    error: HeadraceError | None = None
    values: Mapping[str | int | float, float] = field(default_factory=dict)

    @property
    def likeliest(self) -> str | int | None:
        """The class with the highest probability, of several the first; None if there are no classes."""
        classes = [name for name in self.values if not isinstance(name, float)]
        return max(classes, key=lambda name: self.values[name], default=None)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The estimates of the lowest and of the highest quantile; None if there are no quantiles."""
        found = [value for name, value in self.values.items() if isinstance(name, float)]
        return (found[0], found[-1]) if found else None


@dataclass(frozen=True)
class _Asked:
    """Requests, the place of each request's own record, and the time of the look-up."""

    requests: Sequence[Mapping[str, Any]]
    records: Sequence[RecordPlace | None]
    as_of: datetime | None

    def halves(self) -> tuple[_Asked, _Asked]:
        """Return the first half of the requests, and the second half."""
        half = len(self.requests) // 2
        return (
            _Asked(self.requests[:half], self.records[:half], self.as_of),
            _Asked(self.requests[half:], self.records[half:], self.as_of),
        )


@dataclass(frozen=True)
class _LookedUp:
    """Requests that were looked up together, and the estimator's input for them."""

    asked: _Asked
    found: FeatureVectors
    frame: pd.DataFrame


@dataclass(frozen=True)
class _Scored:
    """The predictions of one version for the rows of a look-up, and its task."""

    task: PredictionTask
    rows: RowScores

    @staticmethod
    def by(loaded: LoadedModel, frame: pd.DataFrame) -> _Scored:
        task = loaded.published.predicts
        return _Scored(task, row_scores(loaded.estimator, frame, task))

    def value(self, row: int) -> float:
        return self.task.value(self.rows.scores[row])

    def values(self, row: int) -> Mapping[str | int | float, float]:
        return self.task.values(self.rows.scores[row])

    def fields(self, row: int) -> dict[str, Any]:
        """Return the fields of the logged prediction that say what was predicted."""
        return logged_fields(self.rows.scores[row], self.task)


class Answerer:
    """Predicts with the live version of one model, from parts that are handed in.

    ``subscriber`` has the version, ``features`` looks up, ``producer`` takes the log of served vectors and predictions
    (None: nothing is logged) to the topics of the ``namespace``. ``fallback`` is the answer before version 1 and for a
    request that cannot be predicted. ``new_id`` makes the ids of vectors. ``own_event_bound`` is how long an answer
    waits until the request's own event is counted, where the model includes it.
    """

    def __init__(
        self,
        subscriber: ModelSubscriber,
        features: FeatureClient,
        producer: EventProducer | None,
        *,
        namespace: str,
        new_id: Callable[[], str],
        fallback: float | None = None,
        own_event_bound: Duration = "1s",
    ) -> None:
        self._vectors, self._predictions = vectors_of(namespace), predictions_of(namespace)
        self._subscriber = subscriber
        self._features = OwnEventLookUp(features, bound=own_event_bound)
        self._producer = producer
        self._new_id = new_id
        self._fallback = fallback
        self._failures = 0
        self._counting = threading.Lock()

    @property
    def failures(self) -> int:
        """The number of requests so far that could not be predicted."""
        return self._failures

    def predict(
        self, request: Mapping[str, Any], *, as_of: datetime | None = None, record: RecordPlace | None = None
    ) -> Predicted:
        """Predict one request: a mapping with the model's key, its join keys and its request features.

        The field ``card.id`` of a nested event may be in an object ``card``. Raises what :meth:`predict_many` raises.
        Without a fallback, the ``error`` of the answer is raised too.
        """
        (answer,) = self.predict_many([request], as_of=as_of, records=[record])
        if answer.error is not None and self._fallback is None:
            raise answer.error
        return answer

    def predict_many(
        self,
        requests: Sequence[Mapping[str, Any]],
        *,
        as_of: datetime | None = None,
        shadows: Sequence[LoadedModel] = (),
        records: Sequence[RecordPlace | None] | None = None,
    ) -> list[Predicted]:
        """Predict many requests with one version; ``shadows`` see the same vectors and are logged as such.

        ``records`` are the places of the requests' own records, for a model with a rule for the own event.

        All requests are looked up at one t. Only if one of them cannot be looked up, its neighbours are looked up again
        without it, each part at its own t unless ``as_of`` is given. The ``error`` of an answer is

        - RequestValueError, if the request lacks a field of the model, a value of an on-demand feature, or the place of
          its own record where the model includes it;
        - EntityKeyError, if a join key has another type;
        - PredictionError, if the estimator raises for it, or gives no number, or the answer cannot be logged.

        Raises NoModelError before version 1 if there is no fallback, FeaturesUnknownError, and
        OnlineStoreUnavailableError: then no request has an answer.
        """
        model = self._subscriber.current
        if model is None:
            return [self._without_model() for _ in requests]
        answers: list[Predicted] = []
        requests = [*map(expanded, requests)]
        asked = _Asked(requests, [None] * len(requests) if records is None else records, as_of)
        for part in self._look_up(model.published.service, asked) if requests else ():
            answers += [self._failed(part)] if isinstance(part, HeadraceError) else self._answers(model, part, shadows)
        self._report(model, requests, answers)
        return answers

    def _without_model(self) -> Predicted:
        if self._fallback is None:
            raise NoModelError("no version of the model is live yet: wait, or give the predictor a fallback")
        return Predicted(self._fallback, 0, {}, None, "", {})

    def _failed(self, error: HeadraceError, statuses: Mapping[str, Status] | None = None) -> Predicted:
        value = _NO_SCORE if self._fallback is None else self._fallback
        return Predicted(value, 0, statuses or {}, None, "", {}, error)

    def _look_up(self, service: ServiceRef, asked: _Asked) -> list[_LookedUp | HeadraceError]:
        """Return the requests in parts, in their order. A request that cannot be looked up is a part of its own."""
        try:
            return [self._looked_up(service, asked)]
        except (EntityKeyError, RequestValueError) as error:
            if len(asked.requests) == 1:
                return [error]
            return [part for half in asked.halves() for part in self._look_up(service, half)]

    def _looked_up(self, service: ServiceRef, asked: _Asked) -> _LookedUp:
        requests = asked.requests
        check_fields(service, requests)  # before the store is asked
        made = on_demand(service.on_demand)
        given = made.given(requests)
        found = self._features.look_up(service, requests, asked.records, asked.as_of).with_on_demand(made, given)
        return _LookedUp(asked, found, model_frame(service, requests, found))

    def _answers(self, model: LoadedModel, part: _LookedUp, shadows: Sequence[LoadedModel]) -> list[Predicted]:
        """Return the answers to the requests of one look-up, once they are logged."""
        scores = {loaded.version: _Scored.by(loaded, part.frame) for loaded in (*shadows, model)}
        values = part.found.to_lists()
        return [self._answer(model, part, row, values[row], scores) for row in range(len(part.asked.requests))]

    def _answer(
        self, model: LoadedModel, part: _LookedUp, row: int, values: Sequence[Any], scores: Mapping[int, _Scored]
    ) -> Predicted:
        found, statuses = part.found, part.found.statuses(row)
        live = scores[model.version]
        error = live.rows.errors.get(row)
        if error is not None:
            return self._failed(error, statuses)
        by_version = {v: own.value(row) for v, own in scores.items() if row not in own.rows.errors}
        answer = Predicted(
            live.value(row), model.version, statuses, found.at, self._new_id(), by_version, values=live.values(row)
        )
        try:
            vector = _vector(model, part, answer, row=row, values=values)
            self._log(vector, answer, {version: scores[version].fields(row) for version in by_version})
        except (TypeError, ValueError, TerminalError) as reason:
            return self._failed(_not_logged(reason), statuses)
        return answer

    def _log(self, vector: ServedVector, answer: Predicted, fields: Mapping[int, Mapping[str, Any]]) -> None:
        """Log the vector and the prediction of each version that has one, with its ``fields``."""
        if self._producer is None:
            return
        self._send(self._producer, self._vectors, vector, at=answer.at)
        for version, own in fields.items():
            prediction = _prediction(vector, version, own, live=version == answer.version)
            self._send(self._producer, self._predictions, prediction, at=answer.at)

    def _send(self, producer: EventProducer, stream: Stream, event: Event, *, at: datetime | None) -> None:
        """Send an event. Earlier events that the broker has refused meanwhile are logged, and cost this one nothing."""
        while True:
            try:
                producer.send(stream, event, timestamp=at)
            except RefusedError as error:
                self.lost(error)
            else:
                return

    def lost(self, error: RefusedError) -> None:
        """Count and log answers that the broker has refused, and which are therefore not in the log."""
        self._count(len(error.records))
        logger.warning("answers are not logged", records=len(error.records), reason=str(error))

    def _count(self, failures: int) -> None:
        with self._counting:
            self._failures += failures

    def _report(self, model: LoadedModel, requests: Sequence[Mapping[str, Any]], answers: Sequence[Predicted]) -> None:
        """Count the requests that were not predicted, and log one line for each reason."""
        key = model.published.service.key
        failed = [(str(answer.error), request.get(key)) for request, answer in zip(requests, answers, strict=True)
                  if answer.error is not None]  # fmt: skip
        self._count(len(failed))
        for reason, count in Counter(reason for reason, _ in failed).items():
            keys = [str(own) for why, own in failed if why == reason][:_NAMED]
            logger.warning(
                "requests were not predicted", model=model.event.model, version=model.version, requests=count,
                reason=reason, keys=keys,
            )  # fmt: skip


def _not_logged(reason: Exception) -> PredictionError:
    error = PredictionError(f"the answer cannot be logged: {type(reason).__name__}: {reason}")
    error.__cause__ = reason
    return error


def check_fields(service: ServiceRef, requests: Sequence[Mapping[str, Any]]) -> None:
    """Raise RequestValueError for a request that lacks the model's key or a request feature. None counts as a value."""
    wanted = [service.key, *service.request_features]
    for row, request in enumerate(requests):
        lacking = [name for name in wanted if name not in request]
        if lacking:
            message = (
                f"request {row} of {len(requests)} lacks {lacking}: service {service.name!r} wants the key and the "
                f"request features {wanted}; the request has {sorted(request)}"
            )
            raise RequestValueError(message)


def model_frame(service: ServiceRef, requests: Sequence[Mapping[str, Any]], found: FeatureVectors) -> pd.DataFrame:
    """Return the estimator's input: the feature columns, then the request features; numbers are float64.

    A text is a str or None, a time ``datetime64[us, UTC]``, a date ``datetime64[ms]``, and a list a list, which is
    empty where there is no value. A vector has a column for each of its numbers. Raises
    what :func:`check_fields` raises.
    """
    check_fields(service, requests)
    import pandas as pd  # noqa: PLC0415 - comes with headrace[serving]

    own = {name: [request[name] for request in requests] for name in service.request_features}
    frame = found.to_model_input(list(service.columns))
    whole = pd.concat([frame, pd.DataFrame(own, index=frame.index)], axis=1) if own else frame
    return with_categories(whole, service.categories)


def _vector(model: LoadedModel, part: _LookedUp, answer: Predicted, *, row: int, values: Sequence[Any]) -> ServedVector:
    service, served_at = model.published.service, part.found.at
    request, record = part.asked.requests[row], part.asked.records[row]
    return ServedVector(
        vector_id=answer.vector_id,
        model=model.event.model,
        key=str(request[service.key]),
        requested_at=request.get(service.at) or served_at,
        served_at=served_at,
        service=service.hash,
        **logged_values(values),
        statuses=_json(answer.statuses),
        offsets=_json(part.found.offsets(row)),
        request=_json(request),
        record=None if record is None else record.text,
    )


def _prediction(vector: ServedVector, version: int, fields: Mapping[str, Any], *, live: bool) -> Prediction:
    return Prediction(
        prediction_id=f"{vector.vector_id}-{version}",
        vector_id=vector.vector_id,
        model=vector.model,
        version=version,
        role="live" if live else "shadow",
        key=vector.key,
        requested_at=vector.requested_at,
        served_at=vector.served_at,
        **fields,
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
