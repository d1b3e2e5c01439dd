"""Waits for a store that does not answer, and tries again. The caller reads nothing meanwhile (back-pressure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

import structlog

from headrace.errors import TransientError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")
_FIRST_S, _MOST_S = 0.05, 1.0
logger = structlog.get_logger(__name__)


class UntilAvailable:
    """Calls an action until it no longer raises a TransientError. Once ``stop`` is set, the error is raised.

    ::

        until_available = UntilAvailable(stop)
        position = until_available(writer.position, source)

    The action itself must not wait in this way: then one place decides when waiting ends. ``moved`` is called after
    each attempt: who waits is not stuck, and neither is who opens one of many partitions after the other.
    """

    def __init__(self, stop: threading.Event, moved: Callable[[], None] = lambda: None) -> None:
        self._stop, self._moved = stop, moved

    def __call__(self, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of the action. Any error that is not a TransientError is raised at once."""
        wait = _FIRST_S
        while True:
            try:
                found = action(*args, **kwargs)
            except TransientError as error:
                if self._stop.is_set():
                    raise
                self._moved()
                logger.warning("waiting for a store", error=str(error))
                self._stop.wait(wait)
                wait = min(wait * 2, _MOST_S)
            else:
                self._moved()
                return found
