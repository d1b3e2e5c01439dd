"""The feature views, and the service with the features that the model gets."""

from headrace import Count, Entity, FeatureService, FeatureView, Max, Mean, Role, Std, Sum, col
from streams import payments, refunds

card = Entity("card", str)
merchant = Entity("merchant", str)

spending = FeatureView(
    "spending",
    entity=card,
    source=[payments, Role(refunds, event_time="paid_at", takes_back=True)],  # a refund takes its payment back
    windows=["1d", "7d"],
    features={"payments": Count(), "spent": Sum("amount"), "mean": Mean("amount"), "std": Std("amount")},
)
bursts = FeatureView(
    "bursts",
    entity=card,
    source=payments,
    windows=["10m", "1h"],
    features={"payments": Count(), "largest": Max("amount")},
)
shop = FeatureView(
    "shop",
    entity=merchant,
    source=payments,
    windows=["1d", "7d"],
    features={"payments": Count(), "mean": Mean("amount"), "large_share": Mean(col("amount") > 100)},
)
card_risk = FeatureService(
    "card_risk",
    [spending, bursts, shop],
    on_demand={"times_the_usual": col("amount") / col("spending__mean_7d")},
    request={"amount": float},
)
