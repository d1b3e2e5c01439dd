"""Waiting for a store: read nothing meanwhile (back-pressure), and try again."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import structlog

from headrace.errors import TransientError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")
_FIRST_S, _MOST_S = 0.05, 1.0
logger = structlog.get_logger(__name__)


class UntilAvailable:
    """Calls an action until it no longer raises a TransientError; raises it only once ``stop`` is set."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def __call__(self, action: Callable[[], T]) -> T:
        """What the action returns. Any other error passes at once."""
        wait = _FIRST_S
        while True:
            try:
                return action()
            except TransientError as error:
                if self._stop.is_set():
                    raise
                logger.warning("waiting for a store", error=str(error))
                self._stop.wait(wait)
                wait = min(wait * 2, _MOST_S)
