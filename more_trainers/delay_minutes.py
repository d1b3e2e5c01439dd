"""The model ``delay_minutes``: how many minutes late will a flight arrive? Its label is a number."""

import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from features import delay_features
from headrace import Gate, Label, Model, Run, any_of, col, drift, volume
from streams import arrivals, scheduled


def train(X: pd.DataFrame, y: pd.Series, run: Run) -> HistGradientBoostingRegressor:
    """Fit on everything given. ``y`` has the minutes."""
    trees = HistGradientBoostingRegressor(
        max_iter=100, learning_rate=0.08, min_samples_leaf=40, early_stopping=False, random_state=run.seed
    )
    return trees.fit(X, y)


delay_minutes = Model(
    "delay_minutes",
    requests=scheduled,
    request_key="flight_id",
    requested_at="requested_at",
    features=delay_features,
    request_features=["distance"],
    label=Label(arrivals, value=col("delay_minutes"), on="flight_id", within="36h"),
    train=train,
    first_after=20_000,
    triggers=any_of(volume(labels=20_000), drift("score", psi=0.2, sample="14d")),
    gate=Gate("rmse"),
)
