"""The streams of what was served: looked-up vectors and predictions. Workers log them like any other stream."""

from __future__ import annotations

from datetime import date, datetime
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.control_topics import ControlTopics
from headrace.bus.event import Event
from headrace.bus.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.models.prediction_task import PredictionTask


class ServedVector(Event, omit_defaults=True):
    """A vector that an application looked up for one request.

    ``values`` are the feature columns in the service's order. A feature that is no number is null there. It is in
    ``texts``, which has as many items: a text as it is, a time in RFC 3339, a date such as ``2026-01-31``, a list or an
    array of numbers as JSON, and null for numbers. A vector of numbers has no ``texts``. ``offsets`` is V as JSON: view
    → source partition (``<topic id>-<partition>``) → next offset; ``statuses`` is JSON: view → status. ``request`` is
    the request as JSON.
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
    record: str | None = msgspec.field(default_factory=NoneType)  # written also if it is null, as ever
    texts: list[str | None] | None = None


def logged_values(values: Sequence[Any]) -> dict[str, Any]:
    """Return the fields of a served vector that have its values, from the values of a look-up.

    >>> logged_values([1, None, "grocery"])
    {'values': [1.0, None, None], 'texts': [None, None, 'grocery']}
    >>> logged_values([["grocery", "casino"]])
    {'values': [None], 'texts': ['["grocery","casino"]']}
    """
    texts = [_text(value) if isinstance(value, str | date | list) else None for value in values]
    if texts.count(None) == len(texts):
        return {"values": [None if value is None else float(value) for value in values]}
    numbers = [None if value is None or text is not None else float(value)
               for value, text in zip(values, texts, strict=True)]  # fmt: skip
    return {"values": numbers, "texts": texts}


def _text(value: str | date | list[Any]) -> str:
    if isinstance(value, list):
        return msgspec.json.encode(value).decode()
    return value if isinstance(value, str) else msgspec.to_builtins(value)


FORMAT = 2
"""The latest format of a prediction. Format 1 is left out of the message."""


class Prediction(Event, omit_defaults=True):
    """One model version's answer to one vector.

    ``role`` is live or shadow; ``acted`` and ``control`` are the application's. Format 1 is the answer to a label that
    is true or false: ``score`` is the probability of true. Format 2 has ``values`` instead: one estimate, or a value
    for each of the ``outputs``, which are the classes or the quantiles as text. A reader of format 1 refuses it, as it
    has no ``score``.
    """

    prediction_id: str
    vector_id: str
    model: str
    version: int
    role: str
    key: str
    requested_at: datetime
    served_at: datetime
    score: float | None = None
    acted: bool = msgspec.field(default_factory=bool)  # written also if it is false, as ever
    control: bool = msgspec.field(default_factory=bool)
    format: int = 1
    values: list[float] | None = None
    outputs: list[str] | None = None

    def __post_init__(self) -> None:
        if self.format > FORMAT:
            raise ValueError(
                f"a prediction has format {self.format}, this release reads formats up to {FORMAT}: upgrade headrace"
            )
        lacking = "score" if self.format < FORMAT else "values"
        if getattr(self, lacking) is None:
            raise ValueError(f"a prediction of format {self.format} has no `{lacking}`")


def logged_fields(prediction: Any, task: PredictionTask) -> dict[str, Any]:
    """Return the fields of a logged prediction that say what was predicted: of format 1 for the task ``binary``."""
    if task.name == "binary":
        return {"score": float(prediction)}
    values = list(map(float, prediction)) if task.outputs else [float(prediction)]
    return {"format": FORMAT, "values": values, "outputs": list(task.outputs) or None}


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
