"""The model ``delay_class``: will a flight arrive on time, late or very late? Its label is one of three classes."""

import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from features import delay_features
from headrace import Gate, Label, Model, Run, any_of, col, drift, volume
from streams import arrivals, scheduled


def train(X: pd.DataFrame, y: pd.Series, run: Run) -> HistGradientBoostingClassifier:
    """Fit on everything given. ``y`` has the names of the classes."""
    trees = HistGradientBoostingClassifier(
        max_iter=80,
        learning_rate=0.05,
        max_leaf_nodes=12,  # few: the rarest class has a tenth of the rows
        min_samples_leaf=100,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=run.seed,
    )
    return trees.fit(X, y)


delay_class = Model(
    "delay_class",
    requests=scheduled,
    request_key="flight_id",
    requested_at="requested_at",
    features=delay_features,
    request_features=["distance"],
    label=Label(
        arrivals,
        value=col("delay_minutes"),
        classes=["on time", "late", "very late"],
        limits=[15, 60],  # minutes
        on="flight_id",
        within="36h",
    ),
    train=train,
    first_after=20_000,
    triggers=any_of(volume(labels=20_000), drift("score", psi=0.2, sample="14d")),
    gate=Gate("macro_log_loss"),
)
