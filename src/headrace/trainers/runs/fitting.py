"""Does fits: in processes of their own, made by a warm forkserver, or in the caller's process for tests.

The processes of a fit may crash, leak or hang, and the trainer goes on.
"""

from __future__ import annotations

import multiprocessing
import pickle
import time
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Protocol

from headrace.base.stopping import stop_signals
from headrace.errors import ArtifactError, FitError, PredictionError, StoppingError
from headrace.trainers.runs.fit_child import FitFailure, keep
from headrace.trainers.runs.fit_task import FitResult, FitTask, ScoreTask, check_rows, perform, score
from headrace.trainers.train_function import train_name

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    import numpy as np

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
_END_S = 10.0


@dataclass(frozen=True)
class FitLimits:
    """The limits of one fit: seconds of wall time, and bytes of memory of all its processes (0: no limit)."""

    seconds: float = 3_600.0
    memory: int = 0


class Fits(Protocol):
    """Does fits: in child processes, or in the caller's process for tests."""

    def fit(self, task: FitTask) -> FitResult:
        """Do one fit. Raises FitError."""
        ...

    def score(self, task: ScoreTask) -> np.ndarray:
        """Return the predictions of a stored estimator. Raises FitError."""
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
            return perform(task)
        except (ArtifactError, PredictionError, FitError) as error:
            raise FitError(_failed(task, FitFailure(str(error)))) from error

    def score(self, task: ScoreTask) -> np.ndarray:
        """Predict here."""
        try:
            return score(task)
        except (ArtifactError, PredictionError) as error:
            raise FitError(str(error)) from error


class FitPool:
    """Fits in children of a forkserver that has the libraries loaded, so that a child starts in milliseconds.

    The train function may start processes and threads: all of them end with the fit, and with this process.
    """

    def __init__(self, limits: FitLimits | None = None) -> None:
        self._limits = limits or FitLimits()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        forkserver.ensure_running()

    def fit(self, task: FitTask) -> FitResult:
        """Do one fit in a child.

        Raises FitError, with the child's traceback if the train function raised and there is no log, and StoppingError
        if a signal ends this process meanwhile.
        """
        answer: FitResult | FitFailure = self._done(task, _pickled(task))
        if isinstance(answer, FitFailure):
            raise FitError(_failed(task, answer))
        return answer

    def score(self, task: ScoreTask) -> np.ndarray:
        """Predict in a child. Raises FitError, and StoppingError if a signal ends this process meanwhile."""
        answer: np.ndarray | FitFailure = self._done(task, pickle.dumps(task))
        if isinstance(answer, FitFailure):
            raise FitError(answer.reason)
        return answer

    def _done(self, task: FitTask | ScoreTask, sent: bytes) -> Any:
        """Return what a child answers."""
        answers, their_answers = self._context.Pipe()
        line, their_line = self._context.Pipe()
        keeper = self._context.Process(
            target=keep, args=(their_answers, their_line, self._limits.memory, task.log), name="headrace-fit"
        )
        keeper.start()
        their_answers.close()
        their_line.close()
        try:
            return self._answer(answers, line, task, sent)
        finally:
            line.close()  # the keeper ends everything now
            answers.close()
            keeper.join(_END_S)
            keeper.kill()
            keeper.join(_END_S)

    def _answer(self, answers: Connection, line: Connection, task: FitTask | ScoreTask, sent: bytes) -> Any:
        deadline = time.monotonic() + self._limits.seconds
        try:
            answers.send_bytes(sent)
            while True:
                ready = wait([answers, line], _POLL_S)
                if answers in ready or line in ready:
                    return (answers if answers in ready else line).recv()
                if stop_signals.asked.is_set():
                    raise StoppingError(f"the fit of {task.run.model!r} was ended with the trainer: it is done again")
                if time.monotonic() > deadline:
                    return FitFailure(
                        f"it took longer than {self._limits.seconds:,.0f} s, the setting `trainer.fit_time`, "
                        "and was stopped"
                    )
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return line.recv() if line.poll(_END_S) else FitFailure("its processes died without a result")


def _pickled(task: FitTask) -> bytes:
    check_rows(task)
    try:
        return pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        message = (
            f"the fit of {task.run.model!r} failed: train={train_name(task.fit)} cannot be sent to the process that "
            f"fits: {error}; write it with def at the top of a module, and bind only what can be pickled"
        )
        raise FitError(message) from error


def _failed(task: FitTask, failure: FitFailure) -> str:
    more = ""
    if failure.traceback:
        more = (
            "\n" + failure.traceback
            if task.log is None
            else (f"; the traceback is in the run's log: headrace runs log {task.run.request_id}")
        )
    return f"the fit of {task.run.model!r} failed: {failure.reason}{more}"
