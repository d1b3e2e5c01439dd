"""The model ``delay_range``: between which minutes will the delay of a flight lie? It predicts three quantiles."""

import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from features import delay_features
from headrace import Gate, Label, Model, Run, any_of, col, drift, volume
from streams import arrivals, scheduled

QUANTILES = [0.1, 0.5, 0.9]


def train(X: pd.DataFrame, y: pd.Series, run: Run) -> list[HistGradientBoostingRegressor]:
    """Fit one estimator for each quantile, in their order."""
    return [
        HistGradientBoostingRegressor(
            loss="quantile",
            quantile=quantile,
            max_iter=40,
            max_leaf_nodes=15,
            early_stopping=False,
            random_state=run.seed,
        ).fit(X, y)
        for quantile in QUANTILES
    ]


delay_range = Model(
    "delay_range",
    requests=scheduled,
    request_key="flight_id",
    requested_at="requested_at",
    features=delay_features,
    request_features=["distance"],
    label=Label(arrivals, value=col("delay_minutes"), quantiles=QUANTILES, on="flight_id", within="36h"),
    train=train,
    first_after=20_000,
    triggers=any_of(volume(labels=20_000), drift("score", psi=0.2, sample="14d")),
    gate=Gate("mean_pinball_loss"),
)
