"""The features that a model gets, in the order of its columns."""

from datetime import datetime

from features.views import at_airport, at_destination, conditions, of_carrier, on_route
from headrace import FeatureService, col

NEW_YORK = "America/New_York"

delay_features = FeatureService(
    "delay",
    [at_airport, of_carrier, at_destination, on_route, conditions],
    on_demand={
        "hour": col("scheduled_at").hour(zone=NEW_YORK),
        "weekday": col("scheduled_at").weekday(zone=NEW_YORK),
    },
    request={"scheduled_at": datetime},
)
