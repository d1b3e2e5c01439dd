"""The feature views, and the service with the features that the model gets."""

from headrace import (
    ApproxDistinct,
    Count,
    CountBy,
    Entity,
    FeatureService,
    FeatureView,
    Gap,
    Last,
    LastN,
    Max,
    Mean,
    Ratio,
    Role,
    Since,
    Std,
    Sum,
    TopShare,
    col,
    now,
)
from streams import merchants, payments, refunds

card = Entity("card", str)
device = Entity("device", str)
merchant = Entity("merchant", str)
abroad = col("country") != col("home")

usual = FeatureView(
    "usual",
    entity=card,
    source=payments,
    windows=["30d"],
    features={"mean": Mean("amount"), "std": Std("amount")},
)
z = {"z": (col("amount") - col("usual__mean_30d")) / col("usual__std_30d")}
compared = payments.with_features(FeatureService("usual", [usual], z, {"amount": float}))  # each as of its own time

spending = FeatureView(
    "spending",
    entity=card,
    source=[payments, Role(refunds, event_time="paid_at", takes_back=True)],  # a refund takes its payment back
    windows=["1d", "7d"],
    features={"payments": Count(), "spent": Sum("amount"), "mean": Mean("amount")},
)
surprises = FeatureView(
    "surprises",
    entity=card,
    source=compared,
    windows=["1d", "30d"],
    features={"highest_z": Max("z"), "unusual": Count(where=col("z") > 3)},
)
bursts = FeatureView(
    "bursts",
    entity=card,
    source=payments,
    windows=["10m", "1h"],
    features={"payments": Count(), "spent": Sum("amount"), "largest": Max("amount")},
)
habits = FeatureView(
    "habits",
    entity=card,
    source=payments,
    windows=["30d"],
    features={
        "country": Last("country"),
        "since": Since(),
        "gap": Gap("mean"),
        "abroad": Ratio(Count(where=abroad), Count()),
        "merchants": ApproxDistinct("merchant"),
        "devices": LastN("device", 3, as_list=True),
        "categories": LastN("category", 5, as_list=True),
        "favourite": TopShare("category"),
        "of": CountBy("category", of=["grocery", "travel", "gambling"]),
    },
)
handset = FeatureView(
    "handset",
    entity=device,
    source=payments,
    windows=["1h", "1d"],
    features={"payments": Count(), "spent": Sum("amount"), "cards": ApproxDistinct("card")},
)
shop = FeatureView(
    "shop",
    entity=merchant,
    source=payments,
    windows=["1h", "1d", "7d"],
    features={"payments": Count(), "spent": Sum("amount"), "mean": Mean("amount"), "abroad": Mean(abroad)},
)
profile = FeatureView(
    "profile",
    entity=merchant,
    source=merchants,
    features={"category": "category", "country": "country", "opened": "opened_at"},
)
card_risk = FeatureService(
    "card_risk",
    [usual, spending, surprises, bursts, habits, handset, shop, profile],
    on_demand={
        **z,
        "minutes_since": col("habits__since_30d") / 60,
        "known_device": col("device").is_in(col("habits__devices_30d")),
        "same_country": col("country") == col("habits__country_30d"),
        "shop_days": now().seconds_since(col("profile__opened")) / 86_400,
    },
    request={"amount": float, "device": str, "country": str},
)
