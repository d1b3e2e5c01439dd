"""Flights from New York's three airports: announced, departed, arrived. Delays are minutes, below 0 when early."""

from datetime import datetime

from headrace import Event, Stream


class Flight(Event):
    flight_id: int
    carrier: str
    origin: str
    dest: str


class Scheduled(Flight):
    """The request to predict: announced an hour before the scheduled departure."""

    requested_at: datetime
    scheduled_at: datetime
    distance: int  # miles


class Departure(Flight):
    departed_at: datetime
    delay_minutes: float


class Arrival(Flight):
    arrived_at: datetime
    delay_minutes: float


scheduled = Stream("flights.scheduled", Scheduled, event_time="requested_at", key="flight_id")
departures = Stream("flights.departed", Departure, event_time="departed_at", key="flight_id")
arrivals = Stream("flights.arrived", Arrival, event_time="arrived_at", key="flight_id")
