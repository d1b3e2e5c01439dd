"""The streams of the reference system: flights and weather."""

from streams.flights import arrivals, departures, scheduled
from streams.weather import weather

__all__ = ["arrivals", "departures", "scheduled", "weather"]
