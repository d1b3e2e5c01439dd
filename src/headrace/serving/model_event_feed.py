"""Model events for an application: iterate over them, or follow them as they come."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from headrace.base.times import duration_us
from headrace.errors import TerminalError
from headrace.models.model_state import ModelState, fold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.base.times import Duration
    from headrace.models.model_event_log import ModelEventLog, ModelLogEntry
    from headrace.models.model_events import ModelEvent

_WAIT = timedelta(seconds=1)
"""The longest single wait for an event, so that an interrupt is noticed."""


class ModelEventFeed:
    """The events of one model, in the order of the log; of all models if ``model`` is None.

    An event has ``model``, ``kind`` (``"published"``, ``"rolled_back"`` or ``"retired"``), ``at``, and in ``data`` the
    version and, for a publication, its cause, metrics, gate report and artifact. A record that this release cannot read
    is skipped. ``headrace.connect().model_events("delay")`` makes a feed.

    >>> from headrace.serving import ModelEventFeed
    >>> from headrace.testing import MemoryModelEventLog
    >>> feed = ModelEventFeed(MemoryModelEventLog(), "delay")
    >>> [event.data.version for event in feed]
    []
    >>> for event in feed.follow(timeout="10ms"):
    ...     print(event.kind, event.data.version)
    >>> print(feed.state().version)
    None
    """

    def __init__(self, log: ModelEventLog, model: str | None = None) -> None:
        self._log, self._model = log, model

    def __iter__(self) -> Iterator[ModelEvent]:
        """Yield every event so far, from the beginning. Raises BusUnavailableError."""
        return self._events(self._log.read(0))

    def follow(self, *, timeout: Duration | None = None) -> Iterator[ModelEvent]:
        """Yield every event so far, and then each event when it comes.

        It ends when nothing came for ``timeout``; with None it never ends. Raises BusUnavailableError: call it again
        to follow from the beginning.
        """
        bound = timedelta.max if timeout is None else timedelta(microseconds=duration_us(timeout))
        offset, left = 0, bound
        while left > timedelta(0):
            entries = self._log.read(offset, wait=min(_WAIT, left))
            offset = entries[-1].offset + 1 if entries else offset
            left = bound if entries or timeout is None else left - _WAIT
            yield from self._events(entries)

    def state(self) -> ModelState:
        """Return the state after the events so far: the live version, its publication, and whether it is pinned.

        Raises TerminalError for a feed of all models, and BusUnavailableError.
        """
        if self._model is None:
            raise TerminalError("a feed of all models has no single state: ask for the events of one model")
        return fold(self)

    def _events(self, entries: Sequence[ModelLogEntry]) -> Iterator[ModelEvent]:
        for entry in entries:
            if entry.event is not None and self._model in {None, entry.event.model}:
                yield entry.event
