"""What a model trains with: a function, a partial, a callable object, or an estimator that is cloned and fitted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace.errors import DefinitionError, require
from headrace.models.prediction_task import BINARY

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from headrace.models.prediction_task import PredictionTask

TrainFunction = Callable[..., Any]
"""Called as ``train(X: DataFrame, y: Series, run: Run)``. It returns a fitted estimator."""
_RANDOM_STATE = "random_state"
_OF_ESTIMATORS = ("fit", "get_params", "set_params")


@dataclass(frozen=True)
class Run:
    """Describes the training run to the user's ``train`` function.

    Take every random choice from ``seed``, so that the run can be reproduced. ``trained_from`` and ``trained_to`` are
    the times of the first and the last request that it is given, in UTC.

    >>> from datetime import UTC, datetime
    >>> from headrace import Run
    >>> january = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC)
    >>> run = Run("delay", "delay-1", 7, *january)  # for a test of your own train function
    >>> run.seed, run.trained_to - run.trained_from
    (7, datetime.timedelta(days=31))
    """

    model: str
    request_id: str
    seed: int
    trained_from: datetime
    trained_to: datetime
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EstimatorTraining:
    """The train function of a model with ``estimator=``: it fits a clone.

    Every ``random_state`` that is None, also of a part of the estimator, is set from the run's seed.
    """

    estimator: Any

    def __call__(self, X: pd.DataFrame, y: pd.Series, run: Run) -> Any:  # noqa: N803 - scikit-learn's names
        """Return the fitted clone."""
        clone = require("sklearn.base", "serving").clone(self.estimator)
        unset = {
            name: run.seed
            for name, value in clone.get_params().items()
            if name.rpartition("__")[2] == _RANDOM_STATE and value is None
        }
        return clone.set_params(**unset).fit(X, y)


def check_train(where: str, train: object, estimator: object, task: PredictionTask = BINARY) -> None:
    """Raise DefinitionError unless exactly one of the two is given, and a run can train with it for the task."""
    if (train is None) == (estimator is None):
        found = "neither train= nor estimator= is" if train is None else "both train= and estimator= are"
        message = (
            f"{where}: {found} given; give one: a function train(X, y, run) that returns a fitted estimator, or an "
            "estimator that each run clones and fits, such as LogisticRegression()"
        )
        raise DefinitionError(message)
    if train is None:
        _check_estimator(where, estimator, task.method)
    else:
        _check_function(where, train)


def _check_function(where: str, train: Any) -> None:
    try:
        if isinstance(train, type) or not callable(train) or inspect.iscoroutinefunction(train):
            raise TypeError  # noqa: TRY301 - one place that words it
        inspect.signature(train).bind("X", "y", "run")
    except (TypeError, ValueError) as error:
        name = getattr(train, "__name__", None) or repr(train)
        hint = f"; to fit a clone of an estimator, write estimator={name}" if hasattr(train, "get_params") else ""
        message = (
            f"{where}: train={name} cannot be called as train(X, y, run); write a function that returns a fitted "
            f"estimator, such as: def train(X, y, run): return LogisticRegression().fit(X, y){hint}"
        )
        raise DefinitionError(message) from error


def _check_estimator(where: str, estimator: Any, method: str) -> None:
    if isinstance(estimator, type):
        name = estimator.__name__
        raise DefinitionError(f"{where}: estimator={name} is a class; give an object of it: estimator={name}()")
    missing = [name for name in (*_OF_ESTIMATORS, method) if not hasattr(estimator, name)]
    if missing:
        kind = "classifier" if method == "predict_proba" else "regressor"
        message = (
            f"{where}: estimator={estimator!r} has no {', '.join(missing)}; give a {kind} of scikit-learn that has "
            f"{method}, or a pipeline that ends with one"
        )
        raise DefinitionError(message)


def train_name(train: TrainFunction) -> str:
    """Return ``module:name`` of what a model trains with. It holds no arguments, and is the same in every process."""
    match train:
        case partial():
            return f"functools.partial({train_name(train.func)})"
        case EstimatorTraining():
            return _place(type(train.estimator))
    return _place(train if hasattr(train, "__qualname__") else type(train))


def _place(of: Any) -> str:
    return f"{getattr(of, '__module__', '?')}:{of.__qualname__}"
