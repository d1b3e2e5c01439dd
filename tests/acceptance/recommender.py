"""A third application: will a user click an item? By embeddings, lists and a table; its definitions are these."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from headrace import (
    Count,
    Entity,
    Event,
    FeatureService,
    FeatureView,
    Gate,
    Label,
    LastN,
    Mean,
    Model,
    Role,
    Run,
    Sliding,
    Stream,
    Table,
    Vector,
    col,
    volume,
)


class Item(Event):
    """A row of the table of items."""

    item: str
    category: str
    embedding: Annotated[list[float], Vector(3)]
    listed_at: datetime


class Look(Event):
    """A user looks at an item."""

    user: str
    item: str
    at: datetime


class Shown(Event):
    """An item of a page, of some category."""

    category: str
    clicked: bool


class Page(Event):
    """A page of items that a user has left: one event with many items."""

    user: str
    at: datetime
    shown: list[Shown]


class Impression(Event):
    """The request to predict: an item that could be shown to a user."""

    impression_id: int
    user: str
    item: str
    category: str
    at: datetime


class Outcome(Event):
    """Whether the item was clicked, within a day."""

    impression_id: int
    at: datetime
    clicked: bool


VECTORS = [f"{name}_{number}" for name in ("user__taste_7d", "item__embedding") for number in range(3)]
NUMBERS = ["category__clicks_7d", "category__clicks_7d_lag_7d", "is_seen"]


def fit(X: pd.DataFrame, y: pd.Series, run: Run) -> Pipeline:  # noqa: N803
    """A logistic regression on products of numbers: among them those of taste and embedding, which make their angle."""
    chosen = make_column_transformer((SimpleImputer(strategy="constant", fill_value=0.0), VECTORS + NUMBERS))
    products = PolynomialFeatures(2, interaction_only=True)
    return make_pipeline(chosen, products, StandardScaler(), LogisticRegression(C=0.1, random_state=run.seed)).fit(X, y)


@dataclass(frozen=True)
class Recommender:
    """The definitions, with topics and a model name of their own for each test."""

    items: Table
    looks: Stream
    seen: Stream
    pages: Stream
    impressions: Stream
    outcomes: Stream
    features: FeatureService
    model: Model

    @property
    def streams(self) -> list[Stream]:
        """All streams."""
        return [self.items, self.looks, self.seen, self.pages, self.impressions, self.outcomes]


def application(namespace: str) -> Recommender:
    """What a project would define."""
    items = Table(f"{namespace}.items", Item, event_time="listed_at", key="item")
    looks = Stream(f"{namespace}.looks", Look, event_time="at", key="user")
    pages = Stream(f"{namespace}.pages", Page, event_time="at", key="user")
    impressions = Stream(f"{namespace}.impressions", Impression, event_time="at", key="user")
    outcomes = Stream(f"{namespace}.outcomes", Outcome, event_time="at", key="impression_id")

    item = FeatureView("item", entity=Entity("item"), source=items, features=["embedding"])
    seen = looks.with_features(FeatureService("item", [item]), silent_after="50ms")
    user = FeatureView(
        "user",
        entity=Entity("user"),
        source=seen,
        windows=["7d"],
        features={"taste": Mean("item__embedding", dim=3), "last": LastN("item", 10, as_list=True)},
    )
    category = FeatureView(
        "category",
        entity=Entity("category"),
        source=Role(pages, category="shown.category", explode="shown"),
        windows=["7d", Sliding("7d", lag="7d")],
        features={"clicks": Mean("shown.clicked"), "shown": Count()},
    )
    features = FeatureService(
        "feed",
        [item, user, category],
        on_demand={"is_seen": col("user__last_7d").list.contains(col("item"))},
        request={"item": str},
    )
    model = Model(
        f"click-{namespace}",
        requests=impressions,
        request_key="impression_id",
        requested_at="at",
        features=features,
        label=Label(outcomes, value=col("clicked"), on="impression_id", within="1d"),
        train=fit,
        first_after=2_000,
        triggers=volume(labels=2_000),
        gate=Gate("auc", holdout="14d"),
    )
    return Recommender(items, looks, seen, pages, impressions, outcomes, features, model)
