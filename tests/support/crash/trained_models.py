"""Some models on one log of orders, with what their first two versions answered, so that each has three versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.models.predictions import predictions_of, vectors_of
from tests.support.orders_model import answer, day, made, model, orders, returns, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.event_log.event_log import EventLog
    from headrace.models.predictions import Prediction
    from headrace.trainers.definitions import Model
    from tests.support.orders_model import Order

WAVES = (22, 37, 52)
"""The days on which each model is fitted: the gate of a version needs 14 days that the version before it answered."""


def trained_models(count: int) -> list[Model]:
    """Models that differ in their names only. Each asks for a run on every day of :data:`WAVES`."""
    return [replace(model, name=f"model-{number}", cooldown="0s") for number in range(count)]


def write_log(log: EventLog, models: Sequence[Model]) -> None:
    """Orders and labels of 60 days, and poor predictions of versions 1 and 2 from the day on which they are made."""
    bought, back = made()
    write(log, orders, bought)
    write(log, returns, back)
    log.create(vectors_of(log.namespace))
    answered = [
        _answer(each, version, order)
        for each in models
        for version, first in enumerate(WAVES[:-1], 1)
        for order in bought
        if day(first - 1) <= round(order.ordered_at.timestamp() * 1e6) < day(WAVES[version])
    ]
    write(log, predictions_of(log.namespace), answered)


def _answer(of: Model, version: int, order: Order) -> Prediction:
    """The cheaper the order, the likelier its return: the contrary of the truth."""
    score = 1 / (1 + 2 ** min(20.0, max(-20.0, order.amount)))
    return answer(order, version, score, of=of.name)
