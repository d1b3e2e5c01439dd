"""The requests, the service and the model of the reference project as they were first. Golden tests hold their specs.

Everything that has not changed since is that of the project.
"""

from __future__ import annotations

from datetime import datetime

from features.views import at_airport, at_destination, conditions, of_carrier, on_route
from headrace import FeatureService, Gate, Label, Model, Stream, any_of, col, drift, volume
from headrace.bus.event import Event
from streams import arrivals
from trainers.delay import train


class Flight(Event):
    flight_id: int
    carrier: str
    origin: str
    dest: str


class Scheduled(Flight):
    """The producer told hour and weekday, on New York's clock."""

    requested_at: datetime
    scheduled_at: datetime
    hour: int
    weekday: int
    distance: int


scheduled = Stream("flights.scheduled", Scheduled, event_time="requested_at", key="flight_id")

delay_features = FeatureService("delay", [at_airport, of_carrier, at_destination, on_route, conditions])

delay = Model(
    "delay",
    requests=scheduled,
    request_key="flight_id",
    requested_at="requested_at",
    features=delay_features,
    request_features=["hour", "weekday", "distance"],
    label=Label(arrivals, value=col("delay_minutes") > 15, on="flight_id", within="36h"),
    train=train,
    first_after=20_000,
    cooldown="7d",
    triggers=any_of(volume(labels=20_000), drift("score", psi=0.2, sample="14d")),
    gate=Gate("auc", rule="better", holdout="14d"),
)
