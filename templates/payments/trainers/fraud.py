"""The model ``fraud``: will a payment end in a chargeback? The answer comes within four days."""

import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from features import card_risk
from headrace import Gate, Label, Model, Run, any_of, col, drift, volume
from streams import authorisations, settlements


def train(X: pd.DataFrame, y: pd.Series, run: Run) -> Pipeline:
    classifier = LogisticRegression(random_state=run.seed)
    return make_pipeline(SimpleImputer(strategy="constant", fill_value=0.0), StandardScaler(), classifier).fit(X, y)


fraud = Model(
    "fraud",
    requests=authorisations,
    request_key="payment_id",
    requested_at="asked_at",
    features=card_risk,
    request_features=["amount"],
    label=Label(settlements, value=col("fraud"), on="payment_id", within="4d"),
    train=train,
    first_after=3_000,
    triggers=any_of(volume(labels=3_000), drift("score", psi=0.2, sample="14d")),
    gate=Gate("auc", holdout="14d"),
)
