"""The model ``fraud``: will a payment end in a chargeback? The answer comes within four days."""

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from features import card_risk
from headrace import Gate, Label, Model, Run, any_of, col, drift, volume
from streams import authorisations, settlements


def train(X: pd.DataFrame, y: pd.Series, run: Run) -> Pipeline:
    """Fit a pipeline that takes countries, categories and lists as they are, also those that it has never seen."""
    encoded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["profile__category"]),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["country", "habits__country_30d"]),
        (CountVectorizer(analyzer=list), "habits__categories_30d"),
        ("passthrough", X.select_dtypes("number").columns.tolist()),
        sparse_threshold=0,
    )
    return make_pipeline(encoded, HistGradientBoostingClassifier(random_state=run.seed)).fit(X, y)


fraud = Model(
    "fraud",
    requests=authorisations,
    request_key="payment_id",
    requested_at="asked_at",
    features=card_risk,
    request_features=["amount", "country"],
    label=Label(settlements, value=col("fraud"), on="payment_id", within="4d"),
    train=train,
    first_after=3_000,
    triggers=any_of(volume(labels=3_000), drift("score", psi=0.2, sample="14d")),
    gate=Gate("auc", holdout="14d"),
)
