"""The features that a model gets, in the order of its columns."""

from features.views import at_airport, at_destination, conditions, of_carrier, on_route
from headrace import FeatureService

delay_features = FeatureService("delay", [at_airport, of_carrier, at_destination, on_route, conditions])
