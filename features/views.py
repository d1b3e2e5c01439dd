"""The feature views: what they remember of flights and weather, and for how long."""

from features.entities import carrier, dest, origin, route
from headrace import Count, FeatureView, Last, Mean, col
from streams import arrivals, departures, weather

LATE = 15  # minutes
delays = {"mean_delay": Mean("delay_minutes"), "late_share": Mean(col("delay_minutes") > LATE)}

at_airport = FeatureView(
    "airport", entity=origin, source=departures, windows=["1h", "3h"], features={"departures": Count(), **delays}
)
of_carrier = FeatureView("carrier", entity=carrier, source=departures, windows=["3h", "1d"], features=delays)
at_destination = FeatureView("destination", entity=dest, source=arrivals, windows=["3h", "6h", "30d"], features=delays)
on_route = FeatureView("route", entity=route, source=arrivals, windows=["1d", "7d", "30d"], features=delays)
conditions = FeatureView(
    "weather",
    entity=origin,
    source=weather,
    windows=["3h", "12h"],
    max_age="3h",
    features={
        "temperature": Last("temperature"),
        "visibility": Last("visibility"),
        "wind_speed": Last("wind_speed"),
        "pressure": Last("pressure"),
        "mean_humidity": Mean("humidity"),
    },
)
