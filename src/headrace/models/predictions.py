"""The streams of what was served: looked-up vectors and predictions. Workers log them like any other stream."""

from __future__ import annotations

from datetime import datetime
from functools import cache

from headrace.bus.control_topics import ControlTopics
from headrace.bus.event import Event
from headrace.bus.stream import Stream


class ServedVector(Event):
    """A vector that an application looked up for one request.

    ``values`` are the feature columns in the service's order; ``offsets`` is V as JSON: view → source partition
    (``<topic id>-<partition>``) → next offset; ``statuses`` is JSON: view → status. ``request`` is the request as JSON.
    ``record`` is the place of the request's own record, ``<topic id>-<partition>-<offset>``, or null if the application
    did not know it.
    """

    vector_id: str
    model: str
    key: str
    requested_at: datetime
    served_at: datetime
    service: str
    values: list[float | None]
    statuses: str
    offsets: str
    request: str
    record: str | None = None


class Prediction(Event):
    """One model version's answer to one vector.

    ``role`` is live or shadow; ``acted`` and ``control`` are the application's.
    """

    prediction_id: str
    vector_id: str
    model: str
    version: int
    role: str
    key: str
    requested_at: datetime
    served_at: datetime
    score: float
    acted: bool = False
    control: bool = False


@cache
def vectors_of(namespace: str) -> Stream:
    """Return the stream of a namespace's served vectors.

    >>> vectors_of("shop").topic
    'shop.vectors'
    """
    topic = ControlTopics(namespace).vectors
    return Stream(topic, ServedVector, event_time="served_at", key=["model", "key"], tolerance="1d")


@cache
def predictions_of(namespace: str) -> Stream:
    """Return the stream of a namespace's predictions.

    >>> predictions_of("shop").topic
    'shop.predictions'
    """
    topic = ControlTopics(namespace).predictions
    return Stream(topic, Prediction, event_time="served_at", key=["model", "key"], tolerance="1d")
