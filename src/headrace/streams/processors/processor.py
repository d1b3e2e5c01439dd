"""Processors: functions of the user that make events of other streams from the events of one."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.base.arguments import expect, expect_items
from headrace.bus.event import Event, value_of
from headrace.bus.stream import Stream
from headrace.bus.stream_spec import AVAILABLE_AT
from headrace.bus.table import Table
from headrace.bus.topics import dead_letter_topic
from headrace.errors import CodecError, DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LONGEST_TOPIC = 249


@dataclass(frozen=True, eq=False)
class Processor:
    """A function that gets events of ``source`` and gives events of the streams ``into``. :func:`processor` makes it.

    Calling it calls the function and checks what it gives: so a test of it needs no server.

    >>> from datetime import UTC, datetime
    >>> from headrace import Event, Stream, processor
    >>> class Reading(Event):
    ...     sensor: str
    ...     celsius: float
    ...     at: datetime
    >>> class Warmth(Event):
    ...     sensor: str
    ...     at: datetime
    >>> readings = Stream("readings", Reading, event_time="at", key="sensor")
    >>> warmths = Stream("warmths", Warmth, event_time="at", key="sensor")
    >>> @processor(readings, into=[warmths])
    ... def warm(batch):
    ...     return [Warmth(sensor=each.sensor, at=each.at) for each in batch if each.celsius > 30]
    >>> warm.dead_letters, warm([Reading(sensor="s1", celsius=12.0, at=datetime.now(UTC))])
    ('readings.warm.dead-letters', [])
    """

    name: str
    source: Stream
    into: tuple[Stream, ...]
    function: Callable[[Any], Iterable[Event] | None]
    frame: bool = False

    def __post_init__(self) -> None:
        self._check_types()
        where, topics = f"processor {self.name!r}", [stream.topic for stream in self.into]
        if isinstance(self.source, Table):
            raise DefinitionError(f"{where}: {self.source.topic!r} is a table: a processor reads a stream of events")
        if self.source.topic in topics or len(set(topics)) < len(topics):
            message = f"{where}: into={topics} has {self.source.topic!r}, or one twice; write other streams, each once"
            raise DefinitionError(message)
        events = [stream.event for stream in self.into]
        if len(set(events)) < len(events):
            names = [event.__name__ for event in events]
            message = (
                f"{where}: into={topics} have the event types {names}; each needs a type of its own, because the type "
                "of an event says to which stream it goes. Derive a class"
            )
            raise DefinitionError(message)
        if len(self.dead_letters) > _LONGEST_TOPIC:
            raise DefinitionError(
                f"{where}: the topic {self.dead_letters!r} is too long a name: shorten the function's"
            )

    def _check_types(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not (name.isascii() and name.isidentifier()):
            raise DefinitionError(f"processor {name!r}: write @processor(…) above a function with a plain name (def …)")
        where = f"processor {name!r}"
        expect(where, "source", self.source, Stream, write="the stream to read, such as payments")
        expect_items(where, "into", self.into, Stream, write="a list of streams, such as [alerts]")
        expect(where, "frame", self.frame, bool, write="True for a Polars frame, or False for a list of events")
        if not self.into:
            raise DefinitionError(f"{where}: into=[] is empty; name the streams that it writes, such as [alerts]")

    @property
    def dead_letters(self) -> str:
        """The topic of the events that the function fails for: ``<source topic>.<name>.dead-letters``."""
        return dead_letter_topic(f"{self.source.topic}.{self.name}")

    def __call__(self, batch: Any) -> list[Event]:
        """Return the events that the function gives for a batch, each as it was when it was given.

        Raises what the function raises, and CodecError.
        """
        return [copy(event) for _, event in self.outputs(batch)]

    def outputs(self, batch: Any) -> Iterator[tuple[Stream, Event]]:
        """Give the events that the function gives for a batch, each with its stream.

        The function may change an event and yield it again: take what an event is before the next one. Raises what the
        function raises, and CodecError for a result that is no list of events of ``into``.
        """
        found: object = self.function(batch)
        if found is None:
            return
        if not isinstance(found, Iterable):
            raise CodecError(f"it returned {type(found).__name__}; return a list of events, or yield them")
        for event in found:
            yield self._target(event), event

    def _target(self, event: object) -> Stream:
        stream = next((each for each in self.into if type(event) is each.event), None)
        if stream is None or not isinstance(event, Event):
            wanted = [each.event.__name__ for each in self.into]
            raise CodecError(f"it gave {type(event).__name__}; give events of {wanted}, the types of into=")
        clock = [] if stream.event_time == AVAILABLE_AT else [stream.event_time]
        absent = next((name for name in (*stream.key_fields, *clock) if value_of(event, name) is None), None)
        if absent is not None:
            raise CodecError(f"{absent} is null: every event of {stream.topic!r} needs it")
        return stream


def feeding_themselves(processors: Sequence[Processor]) -> list[Processor]:
    """Return the processors whose outputs come back to their own source by way of others."""
    return [each for each in processors if each.source.topic in _reached(each, processors)]


def _reached(first: Processor, processors: Sequence[Processor]) -> set[str]:
    found: set[str] = set()
    ahead = [stream.topic for stream in first.into]
    while ahead:
        topic = ahead.pop()
        if topic not in found:
            found.add(topic)
            ahead += [stream.topic for each in processors if each.source.topic == topic for stream in each.into]
    return found


def processor(
    source: Stream, *, into: Sequence[Stream], frame: bool = False
) -> Callable[[Callable[[Any], Iterable[Event] | None]], Processor]:
    """Let ``headrace process`` call a function with the events of ``source``, and write the events that it gives.

    The function gets a list of events, or with ``frame=True`` a Polars frame with a column for each field. It returns
    or yields any number of events of the streams ``into``. The type of an event says to which of them it goes, and the
    key of that stream says to which partition. Records that the workers reject, and duplicates, are left out.

    Raises DefinitionError if ``into`` has ``source``, or two streams of the same event type.

    >>> from datetime import UTC, datetime
    >>> from headrace import Event, Stream, processor
    >>> class Payment(Event):
    ...     card: str
    ...     amount: float
    ...     paid_at: datetime
    >>> class Alert(Event):
    ...     card: str
    ...     raised_at: datetime
    >>> payments = Stream("payments", Payment, event_time="paid_at", key="card")
    >>> alerts = Stream("alerts", Alert, event_time="raised_at", key="card")
    >>> @processor(payments, into=[alerts])
    ... def large_payments(batch):
    ...     for payment in batch:
    ...         if payment.amount > 1_000:
    ...             yield Alert(card=payment.card, raised_at=payment.paid_at)
    >>> [alert.card for alert in large_payments([Payment(card="c7", amount=5e3, paid_at=datetime.now(UTC))])]
    ['c7']
    """

    def made(function: Callable[[Any], Iterable[Event] | None]) -> Processor:
        outputs = tuple(into) if isinstance(into, (list, tuple)) else into
        return Processor(getattr(function, "__name__", ""), source, outputs, function, frame)  # type: ignore[arg-type]  # checked above

    return made
