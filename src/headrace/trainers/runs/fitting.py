"""Runs the user's train function in a child process of a warm forkserver.

The child may crash, leak or hang, and the trainer goes on.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
import traceback
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from headrace.base.stopping import end_with_parent, stop_signals
from headrace.base.times import utc_datetime
from headrace.errors import ArtifactError, FitError, PredictionError, StoppingError
from headrace.models import artifact
from headrace.models.row_scores import row_scores
from headrace.trainers.definitions import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    import pandas as pd

    from headrace.models.artifact import Artifact
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.definitions import TrainFunction

_PRELOAD = [
    "headrace.base.fork_server",  # first: it lets the fork server end with the trainer while it imports the others
    "numpy",
    "pandas",
    "sklearn.ensemble",
    "sklearn.pipeline",
    "sklearn.linear_model",
    "skops.io",
    "headrace.trainers.runs.fitting",
]
_POLL_S = 0.1
_COMPARED_ROWS = 20
_TOLERANCE = 1e-9
"""Some estimators sum over threads, so the last bits of their predictions change from call to call."""


@dataclass(frozen=True)
class FitTask:
    """One fit: train on ``frame`` and ``label``, then score ``holdout`` if there is one.

    ``trusted`` are the types that the deployment's applications load. An estimator with other types could not be
    served.
    """

    fit: TrainFunction
    frame: pd.DataFrame
    label: pd.Series
    run: Run
    holdout: pd.DataFrame | None = None
    trusted: Sequence[str] = ()


@dataclass(frozen=True)
class FitResult:
    """The stored estimator and its scores for the holdout."""

    artifact: Artifact
    scores: np.ndarray
    seconds: float


@dataclass(frozen=True)
class FitLimits:
    """The limits of one fit: seconds of wall time, and bytes of address space (0: no limit)."""

    seconds: float = 3_600.0
    memory: int = 0


class Fits(Protocol):
    """Does fits: in child processes, or in the caller's process for tests."""

    def fit(self, task: FitTask) -> FitResult:
        """Do one fit. Raises FitError."""
        ...


class InlineFits:
    """:class:`Fits` in the caller's process, without limits.

    >>> from headrace.testing import InlineFits
    >>> InlineFits()
    <headrace.trainers.runs.fitting.InlineFits object at 0x...>
    """

    def fit(self, task: FitTask) -> FitResult:
        """Do one fit here. An exception of the user's train function is not wrapped."""
        try:
            return _perform(task)
        except (ArtifactError, PredictionError) as error:
            raise FitError(_failed(task, str(error))) from error


class FitPool:
    """Fits in children of a forkserver that has the libraries loaded, so that a child starts in milliseconds."""

    def __init__(self, limits: FitLimits | None = None) -> None:
        self._limits = limits or FitLimits()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        forkserver.ensure_running()

    def fit(self, task: FitTask) -> FitResult:
        """Do one fit in a child.

        Raises FitError, with the child's traceback if the train function raised, and StoppingError if a signal ends
        this process meanwhile.
        """
        ours, theirs = self._context.Pipe()
        child = self._context.Process(
            target=_child, args=(theirs, self._limits.memory), name="headrace-fit", daemon=True
        )
        child.start()
        theirs.close()
        try:
            ours.send(task)
            self._await_answer(ours, task)
            answer: FitResult | str = ours.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            child.join(5)
            message = (
                f"the fit of {task.run.model!r} died without a result (exit code {child.exitcode}): out of memory?"
            )
            raise FitError(message) from error
        finally:
            ours.close()
            child.kill()
            child.join()
        if isinstance(answer, str):
            raise FitError(_failed(task, answer))
        return answer

    def _await_answer(self, ours: Connection, task: FitTask) -> None:
        deadline = time.monotonic() + self._limits.seconds
        while not ours.poll(_POLL_S):
            if stop_signals.asked.is_set():
                raise StoppingError(f"the fit of {task.run.model!r} was ended with the trainer: it is done again")
            if time.monotonic() > deadline:
                message = f"the fit of {task.run.model!r} took longer than {self._limits.seconds:.0f} s and was stopped"
                raise FitError(message)


def _child(connection: Connection, memory: int) -> None:
    end_with_parent()
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        connection.send(_perform(connection.recv()))
    except (ArtifactError, PredictionError) as error:
        connection.send(str(error))
    except Exception:  # noqa: BLE001 - the parent words it
        connection.send(traceback.format_exc())


def _failed(task: FitTask, why: str) -> str:
    return f"the fit of {task.run.model!r} failed:\n{why}"


def _perform(task: FitTask) -> FitResult:
    started = time.perf_counter()
    estimator = task.fit(task.frame, task.label, task.run)
    scores = np.zeros(0) if task.holdout is None else predict(estimator, task.holdout)
    stored = artifact.dump(estimator)
    _check_loads(stored, estimator, task)
    return FitResult(stored, scores, time.perf_counter() - started)


def _check_loads(stored: Artifact, estimator: Any, task: FitTask) -> None:
    """Raise ArtifactError unless an application of this deployment can load the artifact and predicts the same."""
    rows = task.frame.head(_COMPARED_ROWS)
    ours, theirs = predict(estimator, rows), predict(artifact.load(stored.data, task.trusted), rows)
    if not np.allclose(ours, theirs, rtol=0.0, atol=_TOLERANCE, equal_nan=True):
        row = int(np.argmax(~np.isclose(ours, theirs, rtol=0.0, atol=_TOLERANCE, equal_nan=True)))
        message = (
            f"{type(estimator).__name__} gives other predictions after it was stored and loaded: {theirs[row]!r} "
            f"instead of {ours[row]!r} for row {row} of its training set; keep everything that predictions need in "
            "fitted attributes"
        )
        raise ArtifactError(message)


def describe_run(model: str, request_id: str, seed: int, data: Examples) -> Run:
    """Describe these training rows to the user's train function."""
    return Run(
        model=model,
        request_id=request_id,
        seed=seed,
        trained_from=utc_datetime(int(data.requested_us.min())),
        trained_to=utc_datetime(int(data.requested_us.max())),
    )


def predict(estimator: Any, frame: pd.DataFrame) -> np.ndarray:
    """Return the probability that the label is true, one entry a row. Raises PredictionError if a row has none."""
    found = row_scores(estimator, frame)
    if found.errors:
        row, error = min(found.errors.items())
        message = (
            f"{len(found.errors):,} of {len(frame):,} rows cannot be predicted, the first is row {row}: {error}; train "
            "a pipeline that predicts every row, for example with OneHotEncoder(handle_unknown='ignore')"
        )
        raise PredictionError(message) from error
    return found.scores
