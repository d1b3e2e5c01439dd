"""The operators' requests that are not answered yet."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from headrace.trainers.process.evaluations import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.trainers.process.heard_requests import HeardRequest


class OperatorQueues:
    """The requests of each model in their order, and what the persons who wait were told."""

    def __init__(self, models: Iterable[str]) -> None:
        self._queues: dict[str, deque[HeardRequest]] = {model: deque() for model in models}
        self._told: dict[str, set[str]] = {}
        self.retries = Backoff()
        """The calls of :meth:`answer` in which a model's request that could not be answered is not tried again."""

    def add(self, heard: HeardRequest) -> None:
        """Add a request. It is tried at the next call of :meth:`answer`."""
        self._queues[heard.request.model].append(heard)
        self.retries.worked(heard.request.model)

    def clear(self, model: str) -> None:
        """Forget the requests of a model."""
        self._queues[model].clear()

    def waits(self, model: str) -> bool:
        """Return whether the model has a request."""
        return bool(self._queues[model])

    def answer(self, model: str, answered: Callable[[HeardRequest, bool], bool]) -> None:
        """Call ``answered`` with each request, and with whether one before it waits. Forget it if that returns True."""
        queue = self._queues[model]
        is_held = bool(queue) and self.retries.holds(model)
        for heard in [*queue]:
            if answered(heard, is_held):
                queue.remove(heard)
                self._told.pop(heard.request.id, None)
            else:
                is_held = True

    def is_told(self, heard: HeardRequest, why: str | None = None) -> bool:
        """Return whether a person was told this reason for waiting; without one, whether any."""
        told = self._told.get(heard.request.id, set())
        return bool(told) if why is None else why in told

    def tell(self, heard: HeardRequest, why: str) -> None:
        """Called when a person was told a reason."""
        self._told.setdefault(heard.request.id, set()).add(why)
