"""The features, computed from rows in memory: no Kafka, no Redis."""

from datetime import UTC, datetime, timedelta

from features.views import at_airport, at_destination, conditions
from headrace.testing import fold
from streams.flights import Departure

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def departure(number: int, delay: float, at: datetime = NOON) -> Departure:
    return Departure(flight_id=number, carrier="B6", origin="JFK", dest="LAX", departed_at=at, delay_minutes=delay)


def test_departures_of_an_airport_have_a_mean_delay_and_a_late_share():
    found = fold(at_airport, [departure(1, 0.0), departure(2, 30.0)])
    assert found["airport__departures_1h"] == 2
    assert found["airport__mean_delay_1h"] == 15.0
    assert found["airport__late_share_1h"] == 0.5


def test_a_departure_leaves_the_window():
    found = fold(at_airport, [departure(1, 30.0)], at=[NOON, NOON + 2 * HOUR, NOON + 4 * HOUR])
    assert found.column("airport__departures_3h") == [1, 1, 0]
    assert found.of(at=NOON + 4 * HOUR)["airport__mean_delay_3h"] is None


def test_weather_is_stale_after_three_hours():
    row = {"origin": "JFK", "observed_at": NOON, "temperature": 3.0, "visibility": 10.0, "wind_speed": 5.0}
    found = fold(conditions, [row | {"pressure": 1013.0, "humidity": 60.0}], at=[NOON, NOON + 4 * HOUR])
    assert found.of(at=NOON).status == "present"
    assert found.of(at=NOON + 4 * HOUR).status == "stale"


def test_arrivals_count_at_their_destination():
    rows = [
        {"flight_id": 1, "carrier": "B6", "origin": "JFK", "dest": "LAX", "arrived_at": NOON, "delay_minutes": 20.0}
    ]
    assert fold(at_destination, rows)["destination__late_share_3h"] == 1.0
