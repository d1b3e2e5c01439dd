"""A second application: is a card payment fraud? It shares nothing with the flights, and its labels come days later."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from headrace import (  # fmt: skip
    Count,
    Entity,
    Event,
    FeatureService,
    FeatureView,
    Gate,
    Label,
    Mean,
    Model,
    Run,
    Stream,
    Sum,
    col,
    volume,
)


class Payment(Event):
    """The request to predict, and what the features are made of."""

    payment_id: int
    card: str
    merchant: str
    amount: float
    paid_at: datetime


class Settlement(Event):
    """The end of a payment, within three days: money, or a chargeback."""

    payment_id: int
    settled_at: datetime
    fraud: bool


def fit(X: pd.DataFrame, y: pd.Series, run: Run) -> Pipeline:  # noqa: N803
    """Fit on everything given."""
    classifier = LogisticRegression(random_state=run.seed)
    return make_pipeline(SimpleImputer(strategy="constant", fill_value=0.0), StandardScaler(), classifier).fit(X, y)


def fit_on_shuffled_labels(X: pd.DataFrame, y: pd.Series, run: Run) -> Pipeline:  # noqa: N803
    """A challenger that learnt nothing."""
    shuffled = y.copy()
    shuffled[:] = np.random.default_rng(5).permutation(y.to_numpy())
    return fit(X, shuffled, run)


def fit_on_balanced_classes(X: pd.DataFrame, y: pd.Series, run: Run) -> Pipeline:  # noqa: N803
    """A challenger that ranks as well, and believes that half of the payments are fraud."""
    classifier = LogisticRegression(class_weight="balanced", random_state=run.seed)
    return make_pipeline(SimpleImputer(strategy="constant", fill_value=0.0), StandardScaler(), classifier).fit(X, y)


@dataclass(frozen=True)
class CardPayments:
    """The definitions, with topics and a model name of their own for each test."""

    payments: Stream
    settlements: Stream
    features: FeatureService
    model: Model


def application(namespace: str) -> CardPayments:
    """What a project would define."""
    payments = Stream(f"{namespace}.payments", Payment, event_time="paid_at", key="card")
    settlements = Stream(f"{namespace}.settlements", Settlement, event_time="settled_at", key="payment_id")
    by_card = FeatureView(
        "card",
        entity=Entity("card"),
        source=payments,
        windows=["1d", "7d"],
        features={"payments": Count(), "spent": Sum("amount")},
    )
    by_shop = FeatureView(
        "merchant",
        entity=Entity("merchant"),
        source=payments,
        windows=["1d", "7d"],
        features={"payments": Count(), "mean": Mean("amount")},
    )
    features = FeatureService("card_risk", [by_card, by_shop])
    model = Model(
        f"fraud-{namespace}",
        requests=payments,
        request_key="payment_id",
        requested_at="paid_at",
        features=features,
        request_features=["amount"],
        label=Label(settlements, value=col("fraud"), on="payment_id", within="4d"),
        train=fit,
        first_after=3_000,
        triggers=volume(labels=3_000),
        gate=Gate("auc", holdout="14d"),
        own_event="excluded",
    )
    return CardPayments(payments, settlements, features, model)
