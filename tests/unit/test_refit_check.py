"""A refit that is unlike the fit that passed the gate is not published."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from tests.support.orders_model import LIVE_FROM, Shop, day, fit, model, request

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

T1 = day(LIVE_FROM)
MANY = 3_000
"""More rows than those before the holdout of the first run (about 2,100), and fewer than all (about 4,300)."""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def constant_with_many_rows(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    return fit(X, y, run) if len(X) < MANY else DummyClassifier().fit(X, y)


def opposite_with_many_rows(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    return fit(X, y if len(X) < MANY else 1 - y, run)


def bold_with_many_rows(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    """The order of its scores stays the same."""
    found = fit(X, y, run)
    if len(X) >= MANY:
        found.coef_ *= 20
    return found


def noise_with_many_rows(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    return fit(X, y if len(X) < MANY else y.sample(frac=1, random_state=1).set_axis(y.index), run)


@pytest.mark.parametrize(
    ("train", "metric"),
    [
        (constant_with_many_rows, "auc"),
        (opposite_with_many_rows, "auc"),
        (bold_with_many_rows, "logloss"),
        (noise_with_many_rows, "auc"),
    ],
)
def test_a_refit_that_is_unlike_the_fit_that_passed_fails_its_run(shop: Shop, train: Any, metric: str) -> None:
    ended = shop.runner(replace(model, train=train)).run(request("first", T1))
    assert (ended.outcome, shop.state.version) == ("failed", None)
    assert ended.holdout_days is not None
    assert ended.reason.startswith(
        f"FitError: the refit on all rows is unlike the fit that passed the gate: on the holdout its {metric} is "
    )
    assert shop.runner().run(request("second", T1)).outcome == "published"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(20, min_samples_leaf=20),
        HistGradientBoostingClassifier(max_iter=30),
        KNeighborsClassifier(100),
    ],
)
def test_a_refit_of_the_same_recipe_is_published(shop: Shop, estimator: Any, seed: int) -> None:
    ended = shop.runner(replace(model, train=None, estimator=estimator)).run(request(f"first-{seed}", T1))
    assert ended.outcome == "published", ended.reason
