"""The fits that are compared with a live version and never published."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from headrace.errors import FitError
from headrace.models import artifact
from headrace.trainers.runs.fit_task import FitTask, describe_run
from headrace.trainers.runs.provenance import run_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.trainers.data.examples import Examples
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.fitting import Fits


def shadow_fits(fits: Fits, trusted: Sequence[str], seed: int) -> Callable[[Model, Examples], Any]:
    """Return a function that fits a model on examples and returns the estimator, as an application would load it.

    It raises FitError for whatever the fit raises.
    """
    return partial(_fit, fits, trusted, seed)


def _fit(fits: Fits, trusted: Sequence[str], seed: int, model: Model, examples: Examples) -> Any:
    name = f"{model.name}-shadow-{int(examples.requested_us.max())}"
    task = FitTask(
        model.train_function,
        examples.frame,
        examples.label_series(),
        describe_run(model.name, name, run_seed(name, seed), examples),
        trusted=trusted,
        task=examples.task,
    )
    try:
        return artifact.load(fits.fit(task).artifact.data, trusted)
    except FitError:
        raise
    except Exception as error:
        raise FitError(f"the shadow refit of {model.name!r} failed: {type(error).__name__}: {error}") from error
