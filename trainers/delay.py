"""The model ``delay``: will a flight arrive more than 15 minutes late? It is asked an hour before the departure."""

import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from features import delay_features
from headrace import Gate, Label, Model, Run, any_of, col, drift, volume
from streams import arrivals, scheduled

LATE = 15  # minutes


def train(X: pd.DataFrame, y: pd.Series, run: Run) -> Pipeline:
    """Fit on everything given. Missing values are left to the trees, which learn where to send them."""
    trees = HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.08,
        max_leaf_nodes=31,
        min_samples_leaf=40,
        l2_regularization=1.0,
        early_stopping=False,  # it would hold out rows at random, and rows of one day know each other
        random_state=run.seed,
    )
    return make_pipeline(trees).fit(X, y)


delay = Model(
    "delay",
    requests=scheduled,
    request_key="flight_id",
    requested_at="requested_at",
    features=delay_features,
    request_features=["distance"],
    label=Label(arrivals, value=col("delay_minutes") > LATE, on="flight_id", within="36h"),
    train=train,
    first_after=20_000,
    cooldown="7d",
    triggers=any_of(volume(labels=20_000), drift("score", psi=0.2, sample="14d")),
    gate=Gate("auc", rule="better", holdout="14d"),
)
