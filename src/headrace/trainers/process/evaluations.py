"""Evaluates models one after the other. A slow one goes on in its thread, and holds up no other."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
PATIENCE_S = 5.0
_MOST_TICKS = 64


class Evaluations(Generic[T]):
    """The evaluations of some models, each in a thread of its own. For one calling thread.

    ``patience_s`` is how long :meth:`result` waits for one of them, when it has just begun.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._running: dict[str, Future[T]] = {}

    def busy(self, model: str) -> bool:
        """Return whether an evaluation of the model is running."""
        future = self._running.get(model)
        return future is not None and not future.done()

    def ended(self, model: str) -> bool:
        """Return whether an evaluation of the model has ended whose :meth:`result` was not asked for yet."""
        future = self._running.get(model)
        return future is not None and future.done()

    def result(self, model: str, evaluate: Callable[[], T]) -> T | None:
        """Return the result of the model's evaluation: of the one that is running, or else of a new one.

        None if it is not there yet: then the next call asks again. Raises what the evaluation raises.
        """
        future = self._running.pop(model, None)
        patience_s = self._patience_s if future is None else 0.0
        future = future or _started(evaluate)
        try:
            return future.result(patience_s)
        except NotYet:
            if future.done():
                raise
        self._running[model] = future
        return None


def _started(evaluate: Callable[[], T]) -> Future[T]:
    """Run it in a thread that does not keep the process from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(evaluate())
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            future.set_exception(error)

    threading.Thread(target=run, name="evaluate", daemon=True).start()
    return future


class Backoff:
    """The ticks that a model which fails is left out of: after each error twice as many, 63 at most."""

    def __init__(self) -> None:
        self._errors: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def holds(self, model: str) -> bool:
        """Called once a tick: whether this tick is left out."""
        left = self._left_out.get(model, 0)
        self._left_out[model] = max(0, left - 1)
        return left > 0

    def failed(self, model: str) -> None:
        """Called for each error."""
        self._errors[model] = self._errors.get(model, 0) + 1
        self._left_out[model] = min(2 ** (self._errors[model] - 1), _MOST_TICKS) - 1

    def worked(self, model: str) -> None:
        """Called when the model did not fail."""
        self._errors.pop(model, None)
        self._left_out.pop(model, None)
