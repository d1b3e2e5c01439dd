"""Some models on one log of orders, with what their first two versions answered, so that each has three versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.models.predictions import Prediction, predictions_of, vectors_of
from headrace.trainers.definitions import Gate, Label, Model, volume
from tests.support.orders_model import day, fit, made, orders, returns, shop, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.event_log.event_log import EventLog
    from tests.support.orders_model import Order

WAVES = (22, 37, 52)
"""The days on which each model is fitted: the gate of a version needs 14 days that the version before it answered."""
_LABELS = 2_000


def trained_models(count: int) -> list[Model]:
    """Models that differ in their names only. Each asks for a run on every day of :data:`WAVES`."""
    return [
        Model(
            f"model-{number}",
            requests=orders,
            request_key="order_id",
            requested_at="ordered_at",
            features=FeatureService("shops", [shop]),
            request_features=["amount"],
            label=Label(returns, value=col("back"), on="order_id", within="1d"),
            train=fit,
            first_after=_LABELS,
            cooldown="0s",
            triggers=volume(labels=_LABELS),
            gate=Gate("auc", holdout="14d"),
            own_event="excluded",
        )
        for number in range(count)
    ]


def write_log(log: EventLog, models: Sequence[Model]) -> None:
    """Orders and labels of 60 days, and poor predictions of versions 1 and 2 from the day on which they are made."""
    bought, back = made()
    write(log, orders, bought)
    write(log, returns, back)
    log.create(vectors_of(log.namespace))
    answered = [
        _answer(model, version, order)
        for model in models
        for version, first in enumerate(WAVES[:-1], 1)
        for order in bought
        if day(first - 1) <= round(order.ordered_at.timestamp() * 1e6) < day(WAVES[version])
    ]
    write(log, predictions_of(log.namespace), answered)


def _answer(model: Model, version: int, order: Order) -> Prediction:
    """The cheaper the order, the likelier its return: the contrary of the truth."""
    return Prediction(
        prediction_id=f"{model.name}-{order.order_id}-{version}",
        vector_id=str(order.order_id),
        model=model.name,
        version=version,
        role="live",
        key=str(order.order_id),
        requested_at=order.ordered_at,
        served_at=order.ordered_at,
        score=1 / (1 + 2 ** min(20.0, max(-20.0, order.amount))),
    )
