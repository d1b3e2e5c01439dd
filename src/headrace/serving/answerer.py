"""Answers requests with the live version of a model: it looks features up, predicts, and logs the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.errors import DefinitionError, NoModelError
from headrace.features.kernel.on_demand import on_demand
from headrace.models.predictions import PREDICTIONS, VECTORS, Prediction, ServedVector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    import pandas as pd

    from headrace.bus.producer import EventProducer
    from headrace.models.model_events import ServiceRef
    from headrace.serving.features import FeatureClient, FeatureVectors, Status
    from headrace.serving.subscriber import LoadedModel, ModelSubscriber


@dataclass(frozen=True)
class Predicted:
    """One answer: ``value`` is the score, ``version`` the version that gave it (0 for the fallback).

    ``statuses`` are those of the views, and ``at`` is the time of the features; the fallback has neither. ``shadows``
    has the score of each version that saw the same vector.

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


class Answerer:
    """Predicts with the live version of one model, from parts that are handed in.

    ``subscriber`` has the version, ``features`` looks up, ``producer`` takes the log of served vectors and predictions
    (None: nothing is logged). ``fallback`` is the answer before version 1. ``new_id`` makes the ids of vectors.
    """

    def __init__(
        self,
        subscriber: ModelSubscriber,
        features: FeatureClient,
        producer: EventProducer | None,
        *,
        new_id: Callable[[], str],
        fallback: float | None = None,
    ) -> None:
        self._subscriber = subscriber
        self._features = features
        self._producer = producer
        self._new_id = new_id
        self._fallback = fallback

    def predict(self, request: Mapping[str, Any], *, as_of: datetime | None = None) -> Predicted:
        """Predict one request: a mapping with the model's key, its join keys and its request features."""
        return self.predict_many([request], as_of=as_of)[0]

    def predict_many(
        self,
        requests: Sequence[Mapping[str, Any]],
        *,
        as_of: datetime | None = None,
        shadows: Sequence[LoadedModel] = (),
    ) -> list[Predicted]:
        """Predict many requests at one t with one version; ``shadows`` see the same vectors and are logged as such.

        Raises NoModelError before version 1 if there is no fallback, DefinitionError for a request that lacks a field
        of the model, RequestValueError if an on-demand feature cannot be computed from it, and
        OnlineStoreUnavailableError.
        """
        model = self._subscriber.current
        if model is None:
            return [self._without_model() for _ in requests]
        if not requests:
            return []
        service = model.published.service
        made = on_demand(service.on_demand)
        given = made.given(requests)
        views = [f"{view.name}@{view.spec_hash}" for view in service.views]
        found = self._features.get_views(views, requests, as_of=as_of).with_on_demand(made, given)
        matrix = model_frame(service, requests, found)
        scores = {loaded.version: _scores(loaded, matrix) for loaded in (*shadows, model)}
        answers = [self._answer(row, found, model.version, scores) for row in range(len(requests))]
        if self._producer is not None:
            self._log(self._producer, model, requests, found, answers)
        return answers

    def _without_model(self) -> Predicted:
        if self._fallback is None:
            raise NoModelError("no version of the model is live yet: wait, or give the predictor a fallback")
        return Predicted(self._fallback, 0, {}, None, "", {})

    def _answer(
        self, row: int, found: FeatureVectors, version: int, scores: Mapping[int, Sequence[float]]
    ) -> Predicted:
        by_version = {v: float(column[row]) for v, column in scores.items()}
        return Predicted(by_version[version], version, found.statuses(row), found.at, self._new_id(), by_version)

    def _log(
        self,
        producer: EventProducer,
        model: LoadedModel,
        requests: Sequence[Mapping[str, Any]],
        found: FeatureVectors,
        answers: Sequence[Predicted],
    ) -> None:
        at = found.at
        for row, (request, answer, values) in enumerate(zip(requests, answers, found.to_lists(), strict=True)):
            vector = _vector(model, request, answer, found, row=row, values=values)
            producer.send(VECTORS, vector, timestamp=at)
            for version, score in answer.shadows.items():
                prediction = _prediction(vector, version, score, live=version == model.version)
                producer.send(PREDICTIONS, prediction, timestamp=at)


def model_frame(service: ServiceRef, requests: Sequence[Mapping[str, Any]], found: FeatureVectors) -> pd.DataFrame:
    """Return the estimator's input: the feature columns, then the request features; numbers are float64.

    Raises DefinitionError for a request that lacks the model's key or a request feature. None counts as a value.
    """
    wanted = [service.key, *service.request_features]
    for row, request in enumerate(requests):
        lacking = [name for name in wanted if name not in request]
        if lacking:
            message = (
                f"request {row} of {len(requests)} lacks {lacking}: service {service.name!r} wants the key and the "
                f"request features {wanted}; the request has {sorted(request)}"
            )
            raise DefinitionError(message)
    import pandas as pd  # noqa: PLC0415 - comes with headrace[serving]

    own = {name: [request[name] for request in requests] for name in service.request_features}
    features = found.to_numpy()[:, [found.columns.index(name) for name in service.columns]]
    frame = pd.DataFrame(features, columns=list(service.columns))
    return pd.concat([frame, pd.DataFrame(own, index=frame.index)], axis=1) if own else frame


def _scores(model: LoadedModel, frame: pd.DataFrame) -> Sequence[float]:
    scores: list[float] = model.estimator.predict_proba(frame)[:, 1].tolist()
    return scores


def _vector(
    model: LoadedModel,
    request: Mapping[str, Any],
    answer: Predicted,
    found: FeatureVectors,
    *,
    row: int,
    values: Sequence[Any],
) -> ServedVector:
    service, served_at = model.published.service, found.at
    return ServedVector(
        vector_id=answer.vector_id,
        model=model.event.model,
        key=str(request[service.key]),
        requested_at=request.get(service.at) or served_at,
        served_at=served_at,
        service=service.hash,
        values=[None if value is None else float(value) for value in values],
        statuses=_json(answer.statuses),
        offsets=_json(found.offsets(row)),
        request=_json(request),
    )


def _prediction(vector: ServedVector, version: int, score: float, *, live: bool) -> Prediction:
    return Prediction(
        prediction_id=f"{vector.vector_id}-{version}",
        vector_id=vector.vector_id,
        model=vector.model,
        version=version,
        role="live" if live else "shadow",
        key=vector.key,
        requested_at=vector.requested_at,
        served_at=vector.served_at,
        score=score,
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
