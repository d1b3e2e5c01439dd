"""The features: how much a user clicks."""

from headrace import ApproxDistinct, Count, Entity, FeatureService, FeatureView
from streams import clicks

activity = FeatureView(
    "activity",
    entity=Entity("user", str),
    source=clicks,
    windows=["10m", "1d"],
    features={"clicks": Count(), "pages": ApproxDistinct("page")},
)
users = FeatureService("users", [activity])
