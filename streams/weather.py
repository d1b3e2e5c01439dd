"""The weather at the origin airports. There is one observation an hour; it is known five minutes later."""

from datetime import datetime

from headrace import Event, Stream


class Observation(Event):
    origin: str
    observed_at: datetime
    temperature: float | None  # °F
    humidity: float | None  # %
    wind_speed: float | None  # mph
    visibility: float | None  # miles
    pressure: float | None  # millibars


weather = Stream("weather.observed", Observation, event_time="observed_at", key="origin")
