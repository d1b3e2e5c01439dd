"""What all benchmarks run: payments of users, and features over them."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - the event type's own

import msgspec

from headrace import Count, Entity, Event, FeatureService, FeatureView, Max, Sliding, Stream, Sum

HOP = (("60s", "10s"),)
"""The window of most benchmarks: 60 s that move on every 10 s, as (length, step)."""


class Payment(Event):
    """One payment."""

    user_id: str
    ts: datetime
    amount: float
    merchant: str


class Shape(msgspec.Struct, frozen=True):
    """What is remembered of a topic: ``views`` views alike, each over all ``windows``, pairs of length and step."""

    windows: tuple[tuple[str, str], ...] = HOP
    views: int = 1


def payments(topic: str) -> Stream:
    """The stream on a topic."""
    return Stream(topic, Payment, event_time="ts", key="user_id", lateness="1m")


def spending(stream: Stream, shape: Shape) -> list[FeatureView]:
    """Count, sum and max of the payments of a user."""
    return [
        FeatureView(
            f"spending{index}",
            entity=Entity("user_id"),
            source=stream,
            windows=[Sliding(length, every) for length, every in shape.windows],
            features={"n": Count(), "amount": Sum("amount"), "largest": Max("amount")},
        )
        for index in range(shape.views)
    ]


def service(views: list[FeatureView]) -> FeatureService:
    """All of them."""
    return FeatureService("bench", views)


def online_name(view: FeatureView) -> str:
    """The view's name in the online store."""
    return f"{view.name}@{view.version}"
