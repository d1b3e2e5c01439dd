"""The usual estimators of scikit-learn load with an empty list of trusted types, and code does not."""

from __future__ import annotations

import inspect
import os
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble, neighbors, neural_network, svm, tree
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, OneHotEncoder, OrdinalEncoder, StandardScaler

from headrace.errors import ArtifactError
from headrace.models import artifact
from headrace.models.safe_types import SAFE_TYPES

pytestmark = pytest.mark.slow  # a second and more for its scenes

X = np.random.default_rng(0).normal(size=(80, 3))
Y = X[:, 0] + np.random.default_rng(1).normal(size=80) > 0
USUAL = [
    LogisticRegression(),
    SGDClassifier(loss="log_loss"),
    GaussianNB(),
    svm.SVC(),
    tree.DecisionTreeClassifier(),
    ensemble.HistGradientBoostingClassifier(max_iter=3),
    ensemble.GradientBoostingClassifier(n_estimators=3),
    ensemble.RandomForestClassifier(n_estimators=3),
    ensemble.ExtraTreesClassifier(n_estimators=3),
    ensemble.AdaBoostClassifier(n_estimators=3),
    ensemble.BaggingClassifier(n_estimators=3),
    neighbors.KNeighborsClassifier(algorithm="kd_tree"),
    neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"),
    neural_network.MLPClassifier((2,), max_iter=2_000),
    neural_network.MLPClassifier((2,), solver="sgd", max_iter=2_000),
    GaussianProcessClassifier(),
    CalibratedClassifierCV(LogisticRegression(), cv=2),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    ensemble.VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())]),
    make_pipeline(SimpleImputer(), StandardScaler(), SelectKBest(k=2), LogisticRegression()),
    make_pipeline(
        make_column_transformer(
            (KBinsDiscretizer(3, encode="ordinal", quantile_method="linear"), [0]),
            (OneHotEncoder(), [1]),
            (OrdinalEncoder(), [2]),
        ),
        LogisticRegression(),
    ),
]


@pytest.mark.parametrize("estimator", USUAL, ids=lambda each: type(each).__name__)
def test_a_usual_estimator_loads_with_an_empty_list(estimator: Any) -> None:
    fitted = estimator.fit(X, Y)
    loaded = artifact.load(artifact.dump(fitted).data, [])
    assert np.array_equal(loaded.predict(X), fitted.predict(X))


def of_the_project(x: Any) -> Any:
    return x


def test_boosting_with_columns_of_categories_loads_with_an_empty_list() -> None:
    frame = pd.DataFrame({"number": X[:, 0], "text": pd.Categorical(np.where(X[:, 1] > 0, "a", "b"))})
    fitted = ensemble.HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=3).fit(frame, Y)
    loaded = artifact.load(artifact.dump(fitted).data, [])
    assert np.array_equal(loaded.predict_proba(frame), fitted.predict_proba(frame))


@pytest.mark.parametrize(
    "function",
    [
        os.system, of_the_project, np.load, import_module("sklearn.datasets").load_files, partial(os.system, "true"),
        partial(of_the_project), partial(partial(np.load), "x"),
    ],
)  # fmt: skip
def test_a_function_needs_the_deployments_trust_wherever_it_is(function: Any) -> None:
    stored = artifact.dump(FunctionTransformer(function))
    with pytest.raises(ArtifactError, match="does not trust"):
        artifact.load(stored.data, [])


@pytest.mark.parametrize("name", sorted(SAFE_TYPES))
def test_a_safe_type_is_a_class_a_score_or_a_check_of_the_module_that_it_is_named_by(name: str) -> None:
    """Not something that the module imports."""
    module, _, own = name.rpartition(".")
    found = getattr(import_module(module), own)
    assert (found.__module__, found.__qualname__) == (module, own)
    assert inspect.isclass(found) or module == "sklearn.feature_selection._univariate_selection" or own == "check_array"
